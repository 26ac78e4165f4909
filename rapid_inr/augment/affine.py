"""Crop, flip, rotate, scale and shift a picture by the map its pixels are decoded through, instead of resampling it.

An operation is a matrix M, float64 [..., 3, 3]. It takes a place (row, column, 1) of its output to the place of its input that is
seen there, in pixels with centres at whole numbers. Operations after each other are the product of their matrices, the first one
first: ``crop(...) @ flip(...)``. A decode evaluates the INR where the product leads. Every number may be a tensor [B], one value
an image, or one for all. All of it is tensor code on the device of these tensors, so nothing waits for a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.inr.coords import pixel_affines

Number = Tensor | float
Size = tuple[Number, Number]  # (height, width) in pixels


def crop(
    top: Number, left: Number, height: Number, width: Number, *, size: Size, device: torch.device | str | None = None
) -> Tensor:
    """Show the box of this corner and size, which may have fractions and reach outside, over a whole output.

    Args:
        top, left: of the outer corner of the first pixel in the box; 0, 0 is that of the picture.
        height, width: of the box, in pixels of the input.
        size: of the output; where it is not that of the box, the crop is a resize too.
    """
    rows, columns = _divide(height, size[0]), _divide(width, size[1])
    return _matrix(
        [[rows, 0.0, top + (rows - 1) / 2], [0.0, columns, left + (columns - 1) / 2], [0.0, 0.0, 1.0]], device
    )  # fmt: skip


def flip(
    *, rows: Tensor | bool = False, columns: Tensor | bool = True, size: Size, device: torch.device | str | None = None
) -> Tensor:
    """Mirror a picture of this size: the order of its rows, of its columns (the usual flip), or both."""
    down, across = (1.0 - 2.0 * (f.double() if isinstance(f, Tensor) else f) for f in (rows, columns))
    return _about_centre([[down, 0.0], [0.0, across]], size, device)


def rotation(degrees: Number, *, size: Size, device: torch.device | str | None = None) -> Tensor:
    """Turn a picture of this size about its centre, counter-clockwise as it is seen."""
    angle = torch.deg2rad(_tensor(degrees, device))
    cos, sin = angle.cos(), angle.sin()
    return _about_centre([[cos, sin], [-sin, cos]], size, device)


def scaling(factor: Number, *, size: Size, device: torch.device | str | None = None) -> Tensor:
    """Enlarge a picture of this size about its centre; below 1 it shrinks."""
    shrink = 1 / _tensor(factor, device)
    return _about_centre([[shrink, 0.0], [0.0, shrink]], size, device)


def translation(rows: Number, columns: Number, *, device: torch.device | str | None = None) -> Tensor:
    """Move a picture down and to the right by so many pixels, which may have fractions."""
    return _matrix([[1.0, 0.0, -rows], [0.0, 1.0, -columns], [0.0, 0.0, 1.0]], device)


def to_coords(operation: Tensor, size: Size | Tensor) -> Tensor:
    """Return the map of pixels to INR coordinates that a decode takes.

    Args:
        operation: [3, 3] or [B, 3, 3].
        size: (height, width) of the pictures before the operation, or one an image, [B, 2].

    Returns:
        float32 [2, 3] or [B, 2, 3], on the device of the operation.
    """
    if not isinstance(size, Tensor):
        size = torch.stack(torch.broadcast_tensors(*(_tensor(n, operation.device) for n in size)), dim=-1)
    return (pixel_affines(size) @ operation).float().contiguous()


def _divide(number: Number, by: Number) -> Number:
    return number.double() / by if isinstance(number, Tensor) else number / by


def _about_centre(linear: list[list[Number]], size: Size, device: torch.device | str | None) -> Tensor:
    """Return the matrix of a linear map that leaves the centre of a picture where it is."""
    (a, b), (c, d) = linear
    row, column = (_divide(n - 1, 2) for n in size)
    return _matrix(
        [[a, b, row - a * row - b * column], [c, d, column - c * row - d * column], [0.0, 0.0, 1.0]], device
    )  # fmt: skip


def _matrix(entries: list[list[Number]], device: torch.device | str | None) -> Tensor:
    """Return [..., 3, 3] of entries that are numbers or tensors [...], on the device of the tensors among them."""
    flat = [entry for row in entries for entry in row]
    device = next((entry.device for entry in flat if isinstance(entry, Tensor)), device)
    return torch.stack(torch.broadcast_tensors(*(_tensor(entry, device) for entry in flat)), dim=-1).unflatten(-1, (3, 3))


def _tensor(number: Number, device: torch.device | str | None) -> Tensor:
    # full, since a copy of a number to a GPU would wait for it
    return number.double() if isinstance(number, Tensor) else torch.full((), number, dtype=torch.float64, device=device)
