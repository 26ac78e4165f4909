"""The pipeline `resident`: raw uint8 images in the device's memory."""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, pixel_pipeline
from rapid_inr.pipelines.batches import require_fits


def require_images(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless images are uint8 [N, height, width, 3] with one label each."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"images are {images.dtype} {tuple(images.shape)}, expected uint8 [N, height, width, 3]")
    if labels.shape[:1] != images.shape[:1]:
        raise UserError(f"labels are {tuple(labels.shape)}, expected ({len(images)},)")


def resident_pipeline(images: Tensor, labels: Tensor, *, device: torch.device | str, **options) -> BatchPipeline:
    """Make a pipeline of raw images on the device: the baseline that no decoder can beat while the dataset fits.

    Args:
        images: uint8 [N, height, width, 3].
        options: of `pixel_pipeline`.

    Raises:
        ValueError: if the images are not uint8 [N, height, width, 3] with one label each; as `BatchPipeline`.
        DeviceTooSmall: if they do not fit the memory of the device.
    """
    device = torch.device(device)
    require_images(images, labels)
    require_fits(images.nbytes, n_images=len(images), device=device, what="the raw images")
    images = images.to(device)
    return pixel_pipeline(
        lambda batches, _: ((images[ids.device], None) for ids in batches), labels,
        device=device, image_size=tuple(images.shape[1:3]), nbytes=images.nbytes, **options,
    )  # fmt: skip
