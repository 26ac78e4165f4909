"""PSNR and the rates, each with its one definition and its unit in its name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_PSNR_DB = 100.0  # of two equal images, whose PSNR has no finite value
# pixels that are decoded or compared at once, unless a single image has more: 13 MB of bytes, 150 MB while they are compared
BATCH_PIXELS = 1 << 22


def images_at_once(n_pixels: int) -> int:
    """Return how many images of `n_pixels` each make up `BATCH_PIXELS`, at least 1."""
    return max(1, BATCH_PIXELS // max(1, n_pixels))


def to_8bit(rgb: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits.

    Args:
        rgb: floating, any shape, nominally in [0, 1].

    Returns:
        uint8 of the same shape; ties round to even, NaN becomes 0.
    """
    return rgb.nan_to_num(nan=0.0).clamp(0, 1).mul(255).round().to(torch.uint8)


def psnr_db(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image: 10 log10(255^2 / MSE) over all pixels and channels.

    Args:
        decoded: uint8 [B, ...], the clamped 8-bit decode.
        original: uint8 of the same shape.

    Returns:
        float64 [B] in dB, at most `MAX_PSNR_DB`.

    Raises:
        ValueError: if either is not uint8, or the shapes differ: a PSNR before rounding is another quantity.
    """
    if decoded.dtype != torch.uint8 or original.dtype != torch.uint8:
        raise ValueError(f"psnr_db takes uint8 images, got {decoded.dtype} and {original.dtype}")
    if decoded.shape != original.shape:
        raise ValueError(f"images differ in shape: {tuple(decoded.shape)} and {tuple(original.shape)}")
    n_values = math.prod(original.shape[1:])
    some = images_at_once(n_values // 3)
    squares = torch.cat([_squared_error(a, b) for a, b in zip(decoded.split(some), original.split(some), strict=True)])
    return (10 * torch.log10(255.0**2 / (squares / n_values))).clamp(max=MAX_PSNR_DB)


def _squared_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the sum of squared differences of each image, float64 [B] and exact: int64 sums have no order of summation."""
    difference = decoded.to(torch.int32).sub_(original)
    return difference.mul_(difference).flatten(1).sum(1, dtype=torch.int64).to(torch.float64)


def bpp(*, n_bytes: int, n_pixels: int) -> float:
    """Return bits per pixel: all stored bytes over all pixels (24 is raw RGB)."""
    return 8 * n_bytes / n_pixels


def rgb_pct(*, n_bytes: int, n_pixels: int) -> float:
    """Return stored bytes in percent of the raw 8-bit RGB bytes, height x width x 3."""
    return 100 * n_bytes / (3 * n_pixels)


def rates(*, store_bytes: int, n_pixels: int) -> dict[str, float]:
    """Return what a store costs, under the names that records use: ``store_bytes``, ``bpp``, ``rgb_pct``."""
    cost = {"n_bytes": store_bytes, "n_pixels": n_pixels}
    return {"store_bytes": store_bytes, "bpp": bpp(**cost), "rgb_pct": rgb_pct(**cost)}
