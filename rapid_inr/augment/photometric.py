"""The augmentations of a batch that move no pixels: colour jitter, cutout, mixup and CutMix."""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.augment.policy import AugmentParams

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


def jitter_colours(images: Tensor, factors: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Scale brightness, then contrast about the image's mean grey, then saturation about each pixel's grey.

    Args:
        images: normalised, floating [B, 3, height, width].
        factors: [B, 3], one for each of the three, in this order.
        mean, std: [3], of the normalisation.

    Returns:
        Like `images`; colours are clipped to [0, 1] after each step.
    """
    shape = (-1, 1, 1)
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in factors.float().unbind(1))
    rgb = images.float() * std.view(shape) + mean.view(shape)
    rgb = (rgb * brightness).clamp(0, 1)
    level = _grey(rgb).mean((1, 2, 3), keepdim=True)
    rgb = (level + (rgb - level) * contrast).clamp(0, 1)
    grey = _grey(rgb)
    rgb = (grey + (rgb - grey) * saturation).clamp(0, 1)
    return ((rgb - mean.view(shape)) / std.view(shape)).to(images.dtype)


def _grey(rgb: Tensor) -> Tensor:
    return sum(weight * rgb[:, i : i + 1] for i, weight in enumerate(GREY))  # no matrix product: its order differs by device


def cut_out(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Set a square of each image to the mean colour, which is 0 (DeVries and Taylor 2017, arXiv 1708.04552).

    Args:
        images: normalised [B, C, height, width].
        centres: [B, 2], as fractions of height and width; a square at the border is cut off there.
        side: in pixels.
    """
    extent = torch.full((1,), float(side), device=images.device)
    return images.masked_fill(_rectangle(images, centres, extent, extent)[:, None], 0)


def mix_neighbours(images: Tensor, neighbours: Tensor, params: AugmentParams, *, paste: bool) -> tuple[Tensor, Tensor]:
    """Mix each image with its neighbour, the image before it in the batch.

    Args:
        neighbours: like `images`.
        params: of these images, with `keeps` and `pastes`.
        paste: true pastes a rectangle of the neighbour (CutMix, Yun et al. 2019, arXiv 1905.04899), false blends the two (mixup,
            Zhang et al. 2017, arXiv 1710.09412).

    Returns:
        The mixed images, and the share of each that comes from the image itself, float32 [B].
    """
    keeps = params.keeps
    if not paste:
        share = keeps.to(images.dtype)[:, None, None, None]
        return neighbours.lerp(images, share), keeps
    height, width = images.shape[2:]
    extent = (1 - keeps).sqrt()
    pasted = _rectangle(images, params.pastes, extent * height, extent * width)
    return torch.where(pasted[:, None], neighbours, images), 1 - pasted.float().mean((1, 2))


def _rectangle(images: Tensor, centres: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """Return the mask of a rectangle around each centre, bool [B, height, width]."""
    inside = []
    for axis, extent in enumerate((high, wide)):
        size = images.shape[2 + axis]
        start = (centres[:, axis] * size - extent / 2).round()[:, None]
        end = start + extent.round()[:, None]
        pixel = torch.arange(size, device=images.device)
        inside.append((pixel >= start) & (pixel < end))
    return inside[0][:, :, None] & inside[1][:, None, :]
