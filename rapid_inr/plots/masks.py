"""Sheets of segmentation masks: each image beside its true and its predicted mask."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rapid_inr.plots.figures import contact_sheet

BACKGROUND = (32, 34, 38)


def mask_sheet(
    path: Path, images: np.ndarray, true: np.ndarray, predicted: np.ndarray, captions: Sequence[str], *, title: str
) -> None:
    """Write a sheet of image, true mask and predicted mask, with a caption under each triple; each class has one colour.

    Args:
        images: uint8 [B, height, width, 3].
        true, predicted: integer [B, height, width], 0 for the background.
    """
    palette = colours(int(max(true.max(), predicted.max())) + 1)
    cells = [np.concatenate(parts, axis=1) for parts in zip(images, palette[true], palette[predicted], strict=True)]
    contact_sheet(path, cells, captions, title=f"{title}   (image | mask | predicted)")


def colours(n_classes: int) -> np.ndarray:
    """Return a colour for each class, uint8 [n_classes, 3]: dark for the background, distant hues for adjacent numbers."""
    hues = [(label * 0.618034) % 1 for label in range(n_classes - 1)]  # the golden ratio spreads any number of hues
    shown = [255 * np.array(colorsys.hsv_to_rgb(hue, 0.65, 0.95)) for hue in hues]
    return np.array([BACKGROUND, *shown]).round().astype(np.uint8)
