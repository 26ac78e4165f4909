"""The coordinate grid: pixel centres in [-1, 1], as an affine map from pixel index to coordinate.

Pixel (row, column) of a height x width image lies at ((2 row + 1) / height - 1, (2 column + 1) / width - 1): the centres of
height x width equal cells that tile the square. So a decode at another size shows the same image, unlike with COIN's grid, whose
corner pixels lie at exactly -1 and 1. All code that evaluates an INR takes the map as a [2, 3] matrix, so a crop, a flip or a
rotation is a matrix product without resampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rapid_inr.errors import UserError


def pixel_affine(height: int, width: int) -> Tensor:
    """Return the map from (row, column, 1) to the coordinate of that pixel's centre.

    Returns:
        float32 [2, 3] on the CPU.

    Raises:
        ValueError: if the image has no pixels.
    """
    if height < 1 or width < 1:
        raise UserError(f"image size is {height}x{width}, expected at least 1x1")
    return pixel_affines(torch.tensor([height, width])).float()


def pixel_affines(sizes: Tensor) -> Tensor:
    """Return `pixel_affine` of many sizes at once.

    Args:
        sizes: [..., 2], (height, width).

    Returns:
        float64 [..., 2, 3].
    """
    cell = 2 / sizes.double()  # [..., 2]
    return torch.cat([torch.diag_embed(cell), (cell / 2 - 1).unsqueeze(-1)], dim=-1)


def pixel_edges(sizes: Tensor) -> Tensor:
    """Return the coordinates of the last row's and the last column's centres; those of the first are their negatives.

    Args:
        sizes: [..., 2], (height, width).

    Returns:
        float32 [..., 2].
    """
    return (1 - 1 / sizes.double()).float()


def pixel_coords(height: int, width: int) -> Tensor:
    """Return the coordinates of all pixel centres, row by row.

    Returns:
        float32 [height * width, 2], (row, column) in (-1, 1).
    """
    affine = pixel_affine(height, width)
    rows = torch.arange(height, dtype=torch.float32) * affine[0, 0] + affine[0, 2]  # [height]
    columns = torch.arange(width, dtype=torch.float32) * affine[1, 1] + affine[1, 2]  # [width]
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def pixel_lattices(height: int, width: int, n_pixels: int) -> list[Tensor]:
    """Split the pixels of an image into disjoint, evenly spread subsets (lattices) of about `n_pixels`.

    A lattice of stride s has every s-th pixel of every s-th row. The lattices come in a fixed shuffled order, so that consecutive
    ones are far apart, and are cut to sizes that differ by at most one.

    Returns:
        int64 index tensors into the row-major pixels, which together hold each pixel once.
    """
    count = max(1, math.ceil(height * width / n_pixels))
    stride = math.ceil(math.sqrt(count))
    rows, columns = torch.arange(height)[:, None] % stride, torch.arange(width)[None] % stride
    shuffled = torch.randperm(stride * stride, generator=torch.Generator().manual_seed(0))
    order = torch.argsort(shuffled[rows * stride + columns].flatten(), stable=True)
    return list(order.tensor_split(count))
