"""PSNR, SSIM, mIoU and the rates, each with its one definition and its unit in its name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rapid_inr.errors import UserError

RAW_BPP = 24  # of 8-bit RGB
MAX_PSNR_DB = 100.0  # of two equal images, whose PSNR has no finite value
# pixels that are decoded or compared at once, unless a single image has more: 13 MB of bytes, 150 MB while they are compared
BATCH_PIXELS = 1 << 22
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels; these two and the constants are those of Wang et al. 2004
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


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
    _require_alike("psnr_db", decoded, original)
    n_values = math.prod(original.shape[1:])
    some = images_at_once(n_values // 3)
    squares = torch.cat([_squared_error(a, b) for a, b in zip(decoded.split(some), original.split(some), strict=True)])
    return (10 * torch.log10(255.0**2 / (squares / n_values))).clamp(max=MAX_PSNR_DB)


def _require_alike(metric: str, decoded: Tensor, original: Tensor) -> None:
    if decoded.dtype != torch.uint8 or original.dtype != torch.uint8:
        raise UserError(f"{metric} takes uint8 images, got {decoded.dtype} and {original.dtype}")
    if decoded.shape != original.shape:
        raise UserError(f"images differ in shape: {tuple(decoded.shape)} and {tuple(original.shape)}")


def _squared_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the sum of squared differences of each image, float64 [B] and exact: int64 sums have no order of summation."""
    difference = decoded.to(torch.int32).sub_(original)
    return difference.mul_(difference).flatten(1).sum(1, dtype=torch.int64).to(torch.float64)


def ssim(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the structural similarity of each image (Wang et al. 2004, "Image quality assessment", equation 13).

    The statistics are those of an 11x11 Gaussian window with sigma 1.5, at every place where it lies within the image; the mean
    is taken over these places and over R, G and B, each a picture of its own.

    Args:
        decoded: uint8 [B, height, width, 3], height and width at least 11.
        original: uint8 of the same shape.

    Returns:
        float64 [B], 1 for two equal images.

    Raises:
        ValueError: if either is not uint8, the shapes differ, or the images are smaller than the window.
    """
    _require_alike("ssim", decoded, original)
    if original.ndim != 4 or min(original.shape[1:3]) < SSIM_WINDOW:
        raise UserError(
            f"images are {tuple(original.shape)}, expected [B, height, width, 3] of at least {SSIM_WINDOW} pixels a side"
        )
    some = images_at_once(8 * original.shape[1] * original.shape[2])  # five float64 planes for each channel are at work
    return torch.cat([_ssim(a, b) for a, b in zip(decoded.split(some), original.split(some), strict=True)])


def _ssim(decoded: Tensor, original: Tensor) -> Tensor:
    x, y = (image.permute(0, 3, 1, 2).double() for image in (decoded, original))  # [B, 3, height, width]
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = (weights / weights.sum()).tolist()

    def windowed(values: Tensor) -> Tensor:
        for dim in (2, 3):  # sums of shifted planes, in place: torch's own convolution takes six times as long in float64
            length = values.shape[dim] - SSIM_WINDOW + 1
            total = values.narrow(dim, 0, length) * weights[0]
            for i in range(1, SSIM_WINDOW):
                total.add_(values.narrow(dim, i, length), alpha=weights[i])
            values = total
        return values

    mean_x, mean_y = windowed(x), windowed(y)
    var_x, var_y = windowed(x * x) - mean_x**2, windowed(y * y) - mean_y**2
    covariance = windowed(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    likeness /= (mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return likeness.mean((1, 2, 3))


def confusion(predicted: Tensor, true: Tensor, *, n_classes: int) -> Tensor:
    """Count the pixels of each true class by the class they were given.

    Args:
        predicted, true: int64 of any shape, classes in 0..n_classes - 1.

    Returns:
        int64 [n_classes, n_classes], a row a true class, on the same device; the sum of those of parts is that of the whole.
    """
    pairs = true.flatten() * n_classes + predicted.flatten()
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)


def miou_pct(counts: Tensor) -> float:
    """Return the mean over classes of intersection over union, in percent (Everingham et al. 2010, "The Pascal VOC challenge").

    The background is a class like any other. A class that is neither there nor predicted does not count.

    Args:
        counts: as `confusion` has them.
    """
    counts = counts.double()
    intersection = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - intersection
    there = union > 0
    return 100 * (intersection[there] / union[there]).mean().item()


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
