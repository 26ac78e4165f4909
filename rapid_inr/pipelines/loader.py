"""A store as a loader for any training loop: shuffled, augmented, sharded over ranks, resumable within an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.errors import UserError, require
from rapid_inr.pipelines.batches import Batch
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore


class INRLoader(IterableDataset[Batch]):
    """Batches decoded from a store on its device; each iteration is the next epoch.

    If a loop leaves an epoch early, the next iteration continues it; without a seed, each iteration starts at the first image.
    A loader has one position: once a second iteration begins, the first one raises. ``DataLoader(loader, batch_size=None)``
    works without worker processes.

        train = INRLoader("train.inr", 256, augment=AugmentConfig(), device="cuda")
        test = INRLoader("test.inr", 256, seed=None, mean=train.mean, std=train.std, device="cuda")
        for images, labels in train: ...

    Args:
        store: a packed store, or its file.
        batch_size: images of a step over all ranks.
        augment: None for no augmentation.
        seed: of order and augmentation; None keeps the order and every image, and requires ``augment=None``.
        split: ``train`` or ``test`` of a store that holds both; None for all images.
        labels: [N, ...] of any type, one for each image of the store or split; by default the store's classes.
        mean, std: per channel, of values in [0, 1], for the normalisation; by default the store's. Give a test loader those of
            its training loader.
        subset: which images to take, as positions or a mask, bool [N], in a tensor or a list; None for all.
        size: (height, width) of the batches, or one number for both; by default the images' size.
        dtype: of the images: float32, float16 or bfloat16.
        device: to keep the store and decode on; None for the store's device, which for a file is the CPU, even beside a GPU.
        rank: which share of each batch this process takes; the order does not depend on the number of processes.
        world_size: number of processes, a divisor of `batch_size` when shuffling.
        shard_store: whether each process keeps only every `world_size`-th image and fetches the other rows batch by batch. The
            batches stay the same. Torch.distributed must be initialized, and all processes must take the same batches.

    Raises:
        UserError: if an argument is out of range, there are no labels, or images differ in size and `size` is None; as
            `ShardedStore`.
        FileNotFoundError, StoreFormatError, StoreTooLarge: as `read_store`.
    """

    def __init__(
        self,
        store: PackedStore | Path | str,
        batch_size: int,
        *,
        augment: AugmentConfig | None = None,
        seed: int | None = 0,
        split: str | None = None,
        labels: Tensor | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        subset: Tensor | Sequence[int] | Sequence[bool] | None = None,
        size: int | tuple[int, int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
        shard_store: bool = False,
    ) -> None:
        self._name = "PackedStore" if isinstance(store, PackedStore) else str(store)
        if not isinstance(store, PackedStore):
            store, device = read_store(store), device or "cpu"
        store = store if split is None else store.of_split(split)
        store = _normalised_by(store, mean=mean, std=std)
        require(augment is None or isinstance(augment, AugmentConfig), "augment", repr(augment), "an AugmentConfig or None")
        if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"device is {device}, but torch sees no CUDA device")
        if size is not None:
            size = (size, size) if isinstance(size, int) else tuple(size)
            require(len(size) == 2 and min(size) >= 1, "size", size, "(height, width), at least 1")
        subset = None if subset is None else torch.as_tensor(subset)
        if subset is not None and subset.dtype == torch.bool:
            if subset.shape != (len(store),):
                raise UserError(f"subset is a mask of {tuple(subset.shape)}, expected one for each of the {len(store)} images")
            subset = subset.nonzero().flatten()
        self._pipeline = inr_pipeline(
            store, batch_size=batch_size, augment=augment, seed=seed, labels=labels, size=size, dtype=dtype,
            subset=None if subset is None else subset.cpu(), rank=rank, world_size=world_size, device=device,
            shard_store=shard_store,
        )  # fmt: skip
        self.mean, self.std, self.classes = store.header.mean, store.header.std, store.header.class_names
        self._epoch, self._batch, self._iteration, self._restored = 0, 0, None, False

    def __repr__(self) -> str:
        made = self._pipeline
        return f"INRLoader({self._name}, {len(made)} images, batch_size={made.batch_size}, device={made.device})"

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._pipeline.n_batches

    @property
    def n_images(self) -> int:
        return len(self._pipeline)

    @property
    def nbytes(self) -> int:
        """Bytes of the images on the device, without labels; of a sharded store, of this process's images."""
        return self._pipeline.nbytes

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields, or continues."""
        return self._epoch

    def __iter__(self) -> Iterator[Batch]:
        """Begin an iteration over the rest of the current epoch."""
        if get_worker_info() is not None:
            raise UserError("INRLoader decodes on its own device, not in worker processes; use DataLoader(..., num_workers=0)")
        if self._pipeline.seed is None and not self._restored:
            self._batch = 0
        self._iteration, self._restored = object(), False
        return self._batches(self._iteration)

    def _batches(self, iteration: object) -> Iterator[Batch]:
        batches = self._pipeline.epoch(self._epoch, start=self._batch)
        while True:
            if self._iteration is not iteration:
                raise UserError(
                    "another iteration of this INRLoader has begun, or it was given another state; make one loader for each loop"
                )
            batch = next(batches, None)
            if batch is None:
                break
            self._batch += 1
            if self._batch == len(self):  # before the yield, so that a loop that stops at the last batch has ended the epoch
                self._epoch, self._batch = self._epoch + 1, 0
            yield batch
        if self._batch:  # the last batch had no share for this process
            self._epoch, self._batch = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's position as JSON values; after `load_state_dict`, a loader yields the same batches from there."""
        return self._pipeline.state_dict(epoch=self._epoch, batch=self._batch)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a state; the number of processes may differ. A running iteration raises at its next batch.

        Raises:
            UserError: if the state has another seed, batch size, subset or augmentation, or a batch that does not exist.
        """
        self._epoch, self._batch = self._pipeline.place_of(state)
        self._iteration, self._restored = None, True


def _normalised_by(store: PackedStore, *, mean: Sequence[float] | None, std: Sequence[float] | None) -> PackedStore:
    """Return the store with another normalisation, if given."""
    given = {name: tuple(map(float, values)) for name, values in (("mean", mean), ("std", std)) if values is not None}
    for name, values in given.items():
        ok = len(values) == 3 and (name == "mean" or min(values) > 0)
        require(ok, name, values, f"one value a channel{', above 0' if name == 'std' else ''}")
    return replace(store, header=replace(store.header, **given))
