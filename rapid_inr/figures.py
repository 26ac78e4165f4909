"""Pictures of results: contact sheets and training curves, as PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT = (28, 32, 38), (255, 255, 255), (110, 118, 128)
MARGIN, GAP, CAPTION = 16, 6, 18
ERROR_GAIN = 4  # an error is shown as 4 times its size, so that a good decode does not look like a black square


def error_image(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Return the absolute error, `ERROR_GAIN` times enlarged and clipped, uint8 [height, width, 3]."""
    error = np.abs(decoded.astype(np.int16) - original.astype(np.int16))
    return np.minimum(error * ERROR_GAIN, 255).astype(np.uint8)


def comparison_sheet(
    path: Path, originals: Sequence[np.ndarray], decoded: Sequence[np.ndarray], captions: Sequence[str], *, title: str
) -> None:
    """Write a sheet of original, decoded, error for each image, with a caption under each triple.

    Args:
        originals: uint8 [height, width, 3] each, of any sizes.
        decoded: likewise, of the same sizes.
    """
    triples = [
        np.concatenate([_cell(original), _rule(original), _cell(there), _rule(original), _cell(error_image(there, original))], 1)
        for original, there in zip(originals, decoded, strict=True)
    ]
    contact_sheet(path, triples, captions, title=f"{title}   (original | decoded | error x{ERROR_GAIN})", enlarge=False)


def contact_sheet(
    path: Path, images: Sequence[np.ndarray], captions: Sequence[str], *, title: str, enlarge: bool = True
) -> None:
    """Write a grid of captioned images, about as wide as high; small images are enlarged by whole pixels."""
    cells = [_cell(image) for image in images] if enlarge else list(images)
    width, height = max(c.shape[1] for c in cells) + GAP, max(c.shape[0] for c in cells) + CAPTION + GAP
    columns = max(1, min(len(cells), round((len(cells) * height * 1.4 / width) ** 0.5)))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (2 * MARGIN + columns * width, 2 * MARGIN + 26 + rows * height), PAPER)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    canvas.text((MARGIN, MARGIN - 4), title, fill=INK, font=ImageFont.load_default(15))
    for i, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        left, top = MARGIN + (i % columns) * width, MARGIN + 26 + (i // columns) * height
        sheet.paste(Image.fromarray(cell), (left, top))
        canvas.text((left, top + cell.shape[0] + 2), caption, fill=FAINT, font=font)
    save_png(path, sheet)


def _cell(image: np.ndarray, shortest: int = 96, longest: int = 320) -> np.ndarray:
    height, width = image.shape[:2]
    factor = max(1, -(-shortest // min(height, width)))
    image = image.repeat(factor, 0).repeat(factor, 1)
    if max(image.shape[:2]) > longest:
        picture = Image.fromarray(image)
        picture.thumbnail((longest, longest))
        image = np.asarray(picture)
    return image


def _rule(image: np.ndarray) -> np.ndarray:
    return np.full((_cell(image).shape[0], 2, 3), 255, dtype=np.uint8)


def save_png(path: Path, image: Image.Image) -> None:
    """Write a PNG atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    image.save(temporary, format="PNG")
    os.replace(temporary, path)


def training_curves(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], *, title: str) -> None:
    """Draw test accuracy and training loss over epochs, a line a run.

    Args:
        curves: by label, rows with ``epoch`` (from 0), ``top1_pct`` and ``loss``.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("curves need matplotlib: pip install 'rapid-inr[report]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, loss = figure.subplots(1, 2)
    for label, rows in curves.items():
        epochs = [row["epoch"] + 1 for row in rows]
        accuracy.plot(epochs, [row["top1_pct"] for row in rows], marker="o", markersize=3, label=label)
        loss.plot(epochs, [row["loss"] for row in rows], marker="o", markersize=3, label=label)
    accuracy.set(xlabel="epoch", ylabel="top-1 on clean test images (%)")
    loss.set(xlabel="epoch", ylabel="training loss (nats)")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    accuracy.legend(frameon=False)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, dpi=120, format="png")
    os.replace(temporary, path)
