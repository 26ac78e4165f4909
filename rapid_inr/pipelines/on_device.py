"""The two pipelines whose dataset lives on the device: raw uint8 (`resident`), and packed INRs decoded on demand (`inr`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rapid_inr.augment import AugmentConfig, crop_and_flip, draw
from rapid_inr.decode import decode, one_size
from rapid_inr.pipelines.batches import Batch, count_batches, epoch_batches
from rapid_inr.store.packed import PackedStore

Fetch = Callable[[Tensor], Tensor]  # ids -> normalised images [B, 3, height, width], channels_last; both on the device


class DevicePipeline:
    """Batches of a dataset that lives on the device; augmentation is tensor code there.

    Args:
        fetch: gives the normalised images of a batch.
        labels: int64 [N] on the device.
        black: [3], the value of a black pixel after normalisation, on the device.
        augment: None for none.
        seed: of order and augmentation; None keeps the order and every image.
        nbytes: bytes that the images take on the device, labels not counted.

    Raises:
        ValueError: if `batch_size` is out of range, or `augment` comes without a seed.
    """

    def __init__(
        self,
        fetch: Fetch,
        labels: Tensor,
        *,
        black: Tensor,
        batch_size: int,
        augment: AugmentConfig | None,
        seed: int | None,
        nbytes: int,
    ) -> None:
        if augment is not None and seed is None:
            raise ValueError("augmentation needs a seed")
        self.n_batches = count_batches(n_images=len(labels), batch_size=batch_size, shuffled=seed is not None)
        self._fetch, self._labels, self._black = fetch, labels, black
        self._batch_size, self._augment, self._seed = batch_size, augment, seed
        self.nbytes = nbytes

    def __len__(self) -> int:
        return len(self._labels)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        device = self._labels.device
        draws = None
        if self._augment is not None:
            draws = draw(len(self), self._augment, seed=self._seed, epoch=epoch).to(device)
        batches = epoch_batches(n_images=len(self), batch_size=self._batch_size, epoch=epoch, seed=self._seed)
        order = torch.cat(batches).to(device)  # once an epoch: a copy in every batch would make the host wait for the device
        for ids, there in zip(batches, order.split(self._batch_size), strict=True):
            images = self._fetch(there)
            if draws is not None:
                images = crop_and_flip(
                    images, draws.shifts[there], draws.flips[there], padding=self._augment.padding, black=self._black
                )
            yield Batch(images, self._labels[there], ids)


def resident_pipeline(
    images: Tensor,
    labels: Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str,
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> DevicePipeline:
    """Keep raw images on the device: the rival that no decoder can beat while the dataset fits.

    Args:
        images: uint8 [N, height, width, 3].
        labels: integer [N].
        mean: per channel, of values in [0, 1].
        std: likewise.

    Raises:
        ValueError: if the images are not uint8 [N, height, width, 3], or the labels are not one an image; as `DevicePipeline`.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, expected uint8 [N, height, width, 3]")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels are {tuple(labels.shape)}, expected ({len(images)},)")
    images = images.to(device)
    scale = 1 / (255 * torch.tensor(std, device=device))
    shift = torch.tensor(mean, device=device) / torch.tensor(std, device=device)

    def fetch(ids: Tensor) -> Tensor:
        return (images[ids] * scale - shift).to(dtype).permute(0, 3, 1, 2)

    return DevicePipeline(
        fetch, labels.long().to(device), black=-shift, batch_size=batch_size, augment=augment, seed=seed, nbytes=images.nbytes
    )


def inr_pipeline(
    store: PackedStore,
    *,
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
) -> DevicePipeline:
    """Keep a packed store on its device and decode each batch as it is asked for.

    Args:
        size: (height, width) to decode at; by default the images' own, which must then be one.

    Raises:
        ValueError: if the store has no labels, or its images differ in size and `size` is not given; as `DevicePipeline`.
    """
    if store.labels is None:
        raise ValueError("the store has no labels, so nothing can be trained from it; encode a labelled dataset")
    size = size or one_size(store, torch.arange(len(store)))
    mean, std = (torch.tensor(values, device=store.device) for values in (store.header.mean, store.header.std))

    def fetch(ids: Tensor) -> Tensor:
        return decode(store, ids, size=size, dtype=dtype, normalize=True, channels_last=True)

    return DevicePipeline(
        fetch,
        store.labels.long(),
        black=-mean / std,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        nbytes=store.nbytes - store.labels.nbytes,
    )
