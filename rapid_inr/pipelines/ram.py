"""The pipeline `ram`: raw uint8 images in the host's memory, through torch's DataLoader."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.dataloader import Read, loader_pipeline
from rapid_inr.pipelines.resident import require_images


class RamImages(Dataset[Read]):
    """Raw images in memory, uint8 [N, height, width, 3]; an item is a batch."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __getitem__(self, ids: list[int]) -> Read:
        return self.images[ids], torch.arange(len(ids)), ()


def ram_pipeline(images: Tensor, labels: Tensor, *, workers: int, **options) -> BatchPipeline:
    """Make a pipeline of raw images in the host's memory, shared with the worker processes if there are any.

    Args:
        images: uint8 [N, height, width, 3], on the CPU.
        labels: [N, ...].
        workers: processes; 0 for none.
        options: of `loader_pipeline`.

    Raises:
        UserError: as `resident_pipeline` and `loader_pipeline`.
    """
    require_images(images, labels)
    dataset = RamImages(images.share_memory_() if workers else images)
    size = tuple(images.shape[1:3])
    return loader_pipeline(dataset, labels, image_size=size, workers=workers, host_bytes=images.nbytes, **options)
