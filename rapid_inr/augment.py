"""Augmentation of a batch in tensor code, every image with its own draw.

The draws of an epoch are made for the whole dataset at once, from (seed, epoch) alone: an image is augmented alike whatever
batch, pipeline or process it meets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PADDINGS = ("reflect", "zero")
_STREAM = 1  # keeps these draws apart from the others of the same (seed, epoch)


@dataclass(frozen=True)
class AugmentConfig:
    """Random crop with padding, and horizontal flip, per image.

    Args:
        crop_padding: pixels added on each side before a crop of the original size; 0 for no crop.
        flip: whether half of the images are mirrored.
        padding: what lies outside the image: ``reflect``, or ``zero`` (black).

    Raises:
        ValueError: if a value is out of range.
    """

    crop_padding: int = 4
    flip: bool = True
    padding: str = "reflect"

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"augment.crop_padding is {self.crop_padding}, expected at least 0")
        _require_padding(self.padding)


def _require_padding(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"augment.padding is {padding!r}, expected {' or '.join(map(repr, PADDINGS))}")


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a dataset in an epoch.

    Args:
        shifts: int64 [N, 2], rows and columns by which the crop window moves, in [-crop_padding, crop_padding].
        flips: bool [N].
    """

    shifts: Tensor
    flips: Tensor

    def to(self, device: torch.device | str) -> Draws:
        return Draws(self.shifts.to(device), self.flips.to(device))


def draw(n_images: int, config: AugmentConfig, *, seed: int, epoch: int) -> Draws:
    """Draw the augmentation of every image of a dataset for one epoch, on the CPU."""
    rng = np.random.default_rng((seed, epoch, _STREAM))
    p = config.crop_padding
    shifts = torch.from_numpy(rng.integers(-p, p, (n_images, 2), endpoint=True))
    flips = torch.from_numpy(rng.random(n_images) < 0.5) if config.flip else torch.zeros(n_images, dtype=torch.bool)
    return Draws(shifts, flips)


def crop_and_flip(images: Tensor, shifts: Tensor, flips: Tensor, *, padding: str, black: Tensor) -> Tensor:
    """Move the window of each image by its shift and mirror it, in one gather.

    Args:
        images: [B, C, height, width], floating.
        shifts: int64 [B, 2], on the same device.
        flips: bool [B].
        padding: ``reflect`` (without repeating the edge) or ``zero``.
        black: [C], the value of a black pixel after normalisation.

    Returns:
        Like `images`, in the same memory format. A shift beyond the reflection, of a whole side or more, repeats the edge.

    Raises:
        ValueError: if `padding` is neither.
    """
    _require_padding(padding)
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + shifts[:, :1]  # [B, height]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(flips[:, None], width - 1 - columns, columns) + shifts[:, 1:]  # [B, width]
    outside = (rows < 0)[:, :, None] | (rows >= height)[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    rows, columns = _reflect(rows, height), _reflect(columns, width)
    moved = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # [B, height, width, C]
    if padding == "zero":
        moved = torch.where(outside[..., None], black.to(moved.dtype), moved)
    moved = moved.permute(0, 3, 1, 2)
    return moved if images.is_contiguous(memory_format=torch.channels_last) else moved.contiguous()


def _reflect(index: Tensor, size: int) -> Tensor:
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp(0, size - 1)
