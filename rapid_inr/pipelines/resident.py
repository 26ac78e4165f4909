"""The pipeline `resident`: raw uint8 images that live on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, Ids, Streamed, normalizer
from rapid_inr.pipelines.batches import require_fits


def require_images(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless these are uint8 [N, height, width, 3] and a label for each."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"images are {images.dtype} {tuple(images.shape)}, expected uint8 [N, height, width, 3]")
    if labels.shape[:1] != images.shape[:1]:
        raise UserError(f"labels are {tuple(labels.shape)}, expected ({len(images)},)")


def resident_pipeline(
    images: Tensor,
    labels: Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    **options,
) -> BatchPipeline:
    """Keep raw images on the device: the rival that no decoder can beat while the dataset fits.

    Args:
        images: uint8 [N, height, width, 3].
        labels: [N, ...] of any type.
        mean: per channel, of values in [0, 1].
        std: likewise.
        options: of `BatchPipeline`, `batch_size` at least.

    Raises:
        ValueError: if the images are not uint8 [N, height, width, 3], or the labels are not one an image; as `BatchPipeline`.
        DeviceTooSmall: if they do not fit the memory of the device.
    """
    device = torch.device(device)
    require_images(images, labels)
    require_fits(images.nbytes, n_images=len(images), device=device, what="the raw images")
    images = images.to(device)
    mean, std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    normalize = normalizer(mean, std, dtype)

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids in batches:
            yield Streamed(geometry.apply(normalize(images[ids.device]), ids.device))

    return BatchPipeline(
        stream, labels.to(device), image_size=tuple(images.shape[1:3]), mean=mean, std=std, nbytes=images.nbytes, **options
    )
