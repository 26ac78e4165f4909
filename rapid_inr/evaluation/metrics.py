"""The metrics: PSNR, SSIM, mIoU and the rates, each defined once, with its unit in its name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rapid_inr.errors import UserError

RAW_BPP = 24  # of 8-bit RGB
MAX_PSNR_DB = 100.0  # of two equal images, whose PSNR is infinite
# pixels decoded or compared at once, unless a single image has more: 13 MB as uint8, 150 MB during a comparison
BATCH_PIXELS = 1 << 22
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels; all four constants are from Wang et al. 2004
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def images_at_once(n_pixels: int) -> int:
    """Return how many images of `n_pixels` fit in `BATCH_PIXELS`, at least 1."""
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
        ValueError: if either is not uint8 (a PSNR before rounding is another quantity), or the shapes differ.
    """
    _require_alike("psnr_db", decoded, original)
    n_values = math.prod(original.shape[1:])
    chunk = images_at_once(n_values // 3)
    squares = torch.cat([_squared_error(a, b) for a, b in zip(decoded.split(chunk), original.split(chunk), strict=True)])
    return (10 * torch.log10(255.0**2 / (squares / n_values))).clamp(max=MAX_PSNR_DB)


def _require_alike(metric: str, decoded: Tensor, original: Tensor) -> None:
    if decoded.dtype != torch.uint8 or original.dtype != torch.uint8:
        raise UserError(f"{metric} takes uint8 images, got {decoded.dtype} and {original.dtype}")
    if decoded.shape != original.shape:
        raise UserError(f"images differ in shape: {tuple(decoded.shape)} and {tuple(original.shape)}")


def _squared_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the sum of squared differences of each image, float64 [B]; it is exact, since it is summed in int64."""
    difference = decoded.to(torch.int32).sub_(original)
    return difference.mul_(difference).flatten(1).sum(1, dtype=torch.int64).to(torch.float64)


def ssim(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the structural similarity of each image (Wang et al. 2004, "Image quality assessment", equation 13).

    An 11x11 Gaussian window with sigma 1.5 weights the statistics. The result is the mean over all positions where the window
    lies within the image, and over R, G and B, each compared on its own.

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
    chunk = images_at_once(8 * original.shape[1] * original.shape[2])  # `_ssim` holds five float64 planes a channel
    return torch.cat([_ssim(a, b) for a, b in zip(decoded.split(chunk), original.split(chunk), strict=True)])


def _ssim(decoded: Tensor, original: Tensor) -> Tensor:
    x, y = (image.permute(0, 3, 1, 2).double() for image in (decoded, original))  # [B, 3, height, width]
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = (weights / weights.sum()).tolist()

    def windowed(values: Tensor) -> Tensor:
        for dim in (2, 3):  # sums of shifted planes: torch's convolution takes six times as long in float64
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
    """Return the confusion matrix: the number of pixels of each pair of true and predicted class.

    Args:
        predicted, true: int64 of any shape, classes in 0..n_classes - 1.

    Returns:
        int64 [n_classes, n_classes], a row a true class, on the same device; matrices of several batches can be added.
    """
    pairs = true.flatten() * n_classes + predicted.flatten()
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)


def miou_pct(counts: Tensor) -> float:
    """Return the mean over classes of intersection over union, in percent (Everingham et al. 2010, "The Pascal VOC challenge").

    The background is a class like any other. A class without true or predicted pixels does not count.

    Args:
        counts: from `confusion`.
    """
    counts = counts.double()
    intersection = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - intersection
    mask = union > 0
    return 100 * (intersection[mask] / union[mask]).mean().item()


def bpp(*, n_bytes: int, n_pixels: int) -> float:
    """Return bits per pixel over all stored bytes (raw RGB has 24)."""
    return 8 * n_bytes / n_pixels


def rgb_pct(*, n_bytes: int, n_pixels: int) -> float:
    """Return the stored bytes as a percentage of the raw 8-bit RGB bytes, height x width x 3."""
    return 100 * n_bytes / (3 * n_pixels)


def rates(*, store_bytes: int, n_pixels: int) -> dict[str, float]:
    """Return the rates of a store under their names in records: ``store_bytes``, ``bpp``, ``rgb_pct``."""
    cost = {"n_bytes": store_bytes, "n_pixels": n_pixels}
    return {"store_bytes": store_bytes, "bpp": bpp(**cost), "rgb_pct": rgb_pct(**cost)}
