"""The geometric augmentations: one affine map per image, and the tensor code that moves pixels by it.

A map takes a point of the result to a point of the original, both in the coordinates of `rapid_inr.inr.coords`: (row, column) in
[-1, 1], pixel centres of n rows at (2 row + 1) / n - 1. `warp` samples pixels at that point; an INR is evaluated there, without
sampling. `coordinate_maps` multiplies crop, shift, rotation and flip, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from rapid_inr.augment.affine import crop, flip, rotation, translation
from rapid_inr.augment.policy import PADDINGS, AugmentParams
from rapid_inr.errors import require
from rapid_inr.inr.coords import pixel_affine, pixel_affines, pixel_edges


def coordinate_maps(params: AugmentParams, image_size: tuple[int, int]) -> Tensor:
    """Return the map of each image, from coordinates to coordinates, for originals of (height, width).

    Returns:
        float32 [N, 2, 3], on the device of `params`.
    """
    device, (rows, columns) = params.flips.device, params.shifts.double().unbind(1)
    operation = translation(-rows, -columns)
    if params.angles is not None:
        operation = operation @ rotation(params.angles.rad2deg(), size=image_size)
    operation = operation @ flip(columns=params.flips, size=image_size, device=device)
    if params.boxes is not None:
        operation = crop(*params.boxes.unbind(1), size=image_size, device=device) @ operation
    height, width = image_size
    to_pixels = [[height / 2, 0.0, (height - 1) / 2], [0.0, width / 2, (width - 1) / 2], [0.0, 0.0, 1.0]]
    return (pixel_affines(torch.tensor(image_size, device=device)) @ operation @ torch.tensor(to_pixels).to(operation)).float()


def pixel_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps from (row, column, 1) of a result of `size` to coordinates of the original, as a decode takes them.

    It avoids matrix products: autocast or TF32 would round them to 8 or 11 bits, which moves pixels.

    Args:
        maps: [B, 2, 3], from coordinates to coordinates.
    """
    (rows, top), (columns, left) = ((2 / n, 1 / n - 1) for n in size)
    down, across, offset = maps.unbind(-1)
    return torch.stack([down * rows, across * columns, down * top + across * left + offset], dim=-1)


@cache  # a copy to the GPU in every batch would wait for it, and a CUDA graph may read this memory
def _whole(size: tuple[int, int], device: torch.device) -> Tensor:
    return pixel_affine(*size).to(device)


@cache  # as above
def _outermost(height: int, width: int, device: torch.device) -> Tensor:
    """Return the coordinates of the centres of the last column and the last row, above 0 even for a side of one pixel."""
    return pixel_edges(torch.tensor([width, height])).clamp(min=1e-6).to(device)


def warp(images: Tensor, maps: Tensor, *, padding: str, black: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample each image at the points that its map gives.

    Args:
        images: floating [B, C, height, width].
        maps: float32 [B, 2, 3], from coordinates to coordinates.
        padding: padding mode: ``reflection``, ``zeros`` or ``border``.
        black: [C], the value of ``zeros``.
        mode: ``bilinear``, or ``nearest`` for masks, whose values must not be averaged.

    Returns:
        Like `images`, in its dtype and memory format.
    """
    height, width = images.shape[2:]
    grid = _sampling_grid(maps, height, width)
    if padding == "reflection":
        grid = _reflect_between_centres(grid, _outermost(height, width, grid.device))
    sampled = F.grid_sample(images.float(), grid, mode=mode, padding_mode="border", align_corners=False)
    if padding == "zeros":
        beyond = (grid.abs() > 1).any(-1)[:, None]
        sampled = torch.where(beyond, black.float()[:, None, None], sampled)
    return _as(images, sampled.to(images.dtype))


def _sampling_grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the point of each pixel's centre, [B, height, width, 2], column first as torch expects; see `pixel_maps`."""
    rows, columns = (torch.arange(n, device=maps.device) * (2 / n) + (1 / n - 1) for n in (height, width))
    points = []
    for down, across, offset in (maps[:, 1].unbind(-1), maps[:, 0].unbind(-1)):
        along = torch.addcmul(offset[:, None], down[:, None], rows)  # [B, height]
        points.append(torch.addcmul(along[:, :, None], across[:, None, None], columns))
    return torch.stack(points, dim=-1)


def _reflect_between_centres(grid: Tensor, limits: Tensor) -> Tensor:
    """Reflect coordinates into [-limit, limit] at the centres of the outermost pixels, so that no edge is repeated."""
    folded = (grid + limits).remainder(4 * limits)
    return 2 * limits - (folded - 2 * limits).abs() - limits


def _as(images: Tensor, moved: Tensor) -> Tensor:
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return moved.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def crop_and_flip(images: Tensor, shifts: Tensor, flips: Tensor, *, padding: str, black: Tensor) -> Tensor:
    """Shift the crop window of each image by whole pixels and mirror it: one exact gather, where `warp` would round.

    Args:
        images: [B, C, height, width], floating.
        shifts: int64 [B, 2], on the same device.
        flips: bool [B].
        padding: padding mode: ``reflection`` (edge not repeated), ``zeros`` or ``border``.
        black: [C], the value of a black pixel after normalisation.

    Returns:
        Like `images`, in the same memory format. Beyond the reflection, at shifts of a whole side or more, the edge repeats.

    Raises:
        ValueError: if `padding` is not one of these.
    """
    require(padding in PADDINGS, "padding", repr(padding), f"one of {', '.join(PADDINGS)}")
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + shifts[:, :1]  # [B, height]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(flips[:, None], width - 1 - columns, columns) + shifts[:, 1:]  # [B, width]
    beyond = (rows < 0)[:, :, None] | (rows >= height)[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    if padding == "reflection":
        rows, columns = _reflect(rows, height), _reflect(columns, width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    moved = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # [B, height, width, C]
    if padding == "zeros":
        moved = torch.where(beyond[..., None], black.to(moved.dtype), moved)
    return _as(images, moved.permute(0, 3, 1, 2))


def _reflect(index: Tensor, size: int) -> Tensor:
    return size - 1 - (size - 1 - index.abs()).abs()


@dataclass(frozen=True)
class Geometry:
    """How an epoch of a pipeline moves and resizes its images.

    Args:
        image_size: (height, width) of the originals.
        size: (height, width) of the results.
        padding: padding mode.
        black: [C], a black pixel after normalisation, on the device.
        params: the augmentation parameters of all images, on the device; None for no augmentation.
        maps: float32 [N, 2, 3], the `coordinate_maps` of `params`.
    """

    image_size: tuple[int, int]
    size: tuple[int, int]
    padding: str
    black: Tensor
    params: AugmentParams | None = None
    maps: Tensor | None = None

    @classmethod
    def of(cls, params: AugmentParams | None, **fields) -> Geometry:
        """Make the geometry of an epoch from its augmentation parameters and the other fields."""
        maps = None if params is None else coordinate_maps(params, fields["image_size"])
        return cls(params=params, maps=maps, **fields)

    def apply(self, images: Tensor, ids: Tensor, *, mode: str = "bilinear") -> Tensor:
        """Augment decoded images, [B, C, *image_size], and resize them to `size`, with antialiasing when they shrink.

        Args:
            ids: int64 [B], the images' positions in `params`, on the device.
            mode: ``bilinear``, or ``nearest`` for masks.
        """
        if self.params is not None and (self.params.boxes is not None or self.params.angles is not None):
            images = warp(images, self.maps[ids], padding=self.padding, black=self.black, mode=mode)
        elif self.params is not None:  # whole pixels need no sampling
            images = crop_and_flip(
                images, self.params.shifts[ids], self.params.flips[ids], padding=self.padding, black=self.black
            )
        if self.size == self.image_size:
            return images
        if mode == "nearest":
            return _as(images, F.interpolate(images, self.size, mode="nearest-exact"))
        resized = F.interpolate(images.float(), self.size, mode="bilinear", align_corners=False, antialias=True)
        return _as(images, resized.to(images.dtype))

    def decode_maps(self, ids: Tensor) -> Tensor:
        """Return the maps from pixels to coordinates that decode INRs straight into augmented images: float32 [B, 2, 3]."""
        if self.maps is None:
            return _whole(self.size, ids.device).expand(len(ids), 2, 3)
        return pixel_maps(self.maps[ids], self.size)
