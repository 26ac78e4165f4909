"""Crop, flip, rotate, scale and shift an image through its decode coordinates, without resampling.

An operation is a matrix, float64 [..., 3, 3], that maps a point (row, column, 1) of its output to a point of its input, in pixels
with centres at whole numbers. To apply operations one after another, multiply them, the first one first:
``crop(...) @ flip(...)``. A decode evaluates the INR at the points that the product maps to. Each number is one value for all
images or a tensor [B]. Everything is tensor code on the device of these tensors, so nothing waits for a GPU.
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
    """Crop a box, which may have fractions and reach beyond the image, and resize it to `size`.

    Args:
        top, left: outer corner of the first pixel in the box; 0, 0 is the corner of the image.
        height, width: of the box, in pixels of the input.
        size: of the output.
    """
    rows, columns = _divide(height, size[0]), _divide(width, size[1])
    return _matrix(
        [[rows, 0.0, top + (rows - 1) / 2], [0.0, columns, left + (columns - 1) / 2], [0.0, 0.0, 1.0]], device
    )  # fmt: skip


def flip(
    *, rows: Tensor | bool = False, columns: Tensor | bool = True, size: Size, device: torch.device | str | None = None
) -> Tensor:
    """Mirror an image of this size: reverse its rows, its columns (the usual flip), or both."""
    down, across = (1.0 - 2.0 * (f.double() if isinstance(f, Tensor) else f) for f in (rows, columns))
    return _about_centre([[down, 0.0], [0.0, across]], size, device)


def rotation(degrees: Number, *, size: Size, device: torch.device | str | None = None) -> Tensor:
    """Rotate an image of this size about its centre, counter-clockwise."""
    angle = torch.deg2rad(_tensor(degrees, device))
    cos, sin = angle.cos(), angle.sin()
    return _about_centre([[cos, sin], [-sin, cos]], size, device)


def scaling(factor: Number, *, size: Size, device: torch.device | str | None = None) -> Tensor:
    """Enlarge an image of this size about its centre; a factor below 1 shrinks it."""
    shrink = 1 / _tensor(factor, device)
    return _about_centre([[shrink, 0.0], [0.0, shrink]], size, device)


def translation(rows: Number, columns: Number, *, device: torch.device | str | None = None) -> Tensor:
    """Move an image down and to the right, in pixels, which may have fractions."""
    return _matrix([[1.0, 0.0, -rows], [0.0, 1.0, -columns], [0.0, 0.0, 1.0]], device)


def to_coords(operation: Tensor, size: Size | Tensor) -> Tensor:
    """Return the map from pixels to INR coordinates that a decode takes.

    Args:
        operation: [3, 3] or [B, 3, 3].
        size: (height, width) of the images before the operation, or [B, 2], one size an image.

    Returns:
        float32 [2, 3] or [B, 2, 3], on the device of the operation.
    """
    if not isinstance(size, Tensor):
        size = torch.stack(torch.broadcast_tensors(*(_tensor(n, operation.device) for n in size)), dim=-1)
    return (pixel_affines(size) @ operation).float().contiguous()


def _divide(number: Number, by: Number) -> Number:
    return number.double() / by if isinstance(number, Tensor) else number / by


def _about_centre(linear: list[list[Number]], size: Size, device: torch.device | str | None) -> Tensor:
    """Return the matrix of a linear map that keeps the centre of an image fixed."""
    (a, b), (c, d) = linear
    row, column = (_divide(n - 1, 2) for n in size)
    return _matrix(
        [[a, b, row - a * row - b * column], [c, d, column - c * row - d * column], [0.0, 0.0, 1.0]], device
    )  # fmt: skip


def _matrix(entries: list[list[Number]], device: torch.device | str | None) -> Tensor:
    """Stack numbers and tensors [...] to a matrix [..., 3, 3], on the tensors' device if there are any."""
    flat = [entry for row in entries for entry in row]
    device = next((entry.device for entry in flat if isinstance(entry, Tensor)), device)
    return torch.stack(torch.broadcast_tensors(*(_tensor(entry, device) for entry in flat)), dim=-1).unflatten(-1, (3, 3))


def _tensor(number: Number, device: torch.device | str | None) -> Tensor:
    # torch.full, because copying a number to a GPU would wait for the GPU
    return number.double() if isinstance(number, Tensor) else torch.full((), number, dtype=torch.float64, device=device)
