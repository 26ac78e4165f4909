"""A store as a loader for anybody's training loop: shuffled, augmented, sharded over ranks, and resumable in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.errors import UserError
from rapid_inr.pipelines.batches import Batch
from rapid_inr.pipelines.on_device import inr_pipeline
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore


class INRLoader:
    """Batches decoded from a store on its device; each iteration is the next epoch.

    Args:
        store: a packed store, or the file of one.
        batch_size: images of a step over all ranks.
        augment: what is drawn for each image, for each epoch anew; None for nothing.
        seed: of order and augmentation; None keeps the order and every image, which leaves no room for `augment`.
        labels: [N, ...] of any type, one for each image of the store; by default the classes in it.
        subset: which images to take, positions or a mask, bool [N], as a tensor or a list; None for all.
        size: (height, width) of the batches, or one number for both; by default the images' own.
        dtype: of the images: float32, float16 or bfloat16.
        device: where the store is to lie; None for where it is, or the CPU for a file.
        rank: which part of each batch this process takes; the order is the same for any number of processes.
        world_size: number of processes, a divisor of `batch_size` when shuffling.
        shard_store: whether each process keeps every `world_size`-th image only and fetches the others' rows batch by batch from
            the processes that hold them. Torch.distributed must be initialized then, and every process must take the same batches
            of the same epochs as the others, who would wait for it; the batches are those of whole stores.

    Raises:
        ValueError: if an argument is out of range, there are no labels, or images differ in size and `size` is not given, or a
            store is to be sharded that `ShardedStore` refuses.
        FileNotFoundError, StoreFormatError, StoreTooLarge: as `read_store`.
    """

    def __init__(
        self,
        store: PackedStore | Path | str,
        batch_size: int,
        *,
        augment: AugmentConfig | None = None,
        seed: int | None = 0,
        labels: Tensor | None = None,
        subset: Tensor | Sequence[int] | Sequence[bool] | None = None,
        size: int | tuple[int, int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
        shard_store: bool = False,
    ) -> None:
        if not isinstance(store, PackedStore):
            store, device = read_store(store), device or "cpu"
        if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"device is {device}, but torch sees no CUDA device")
        if size is not None:
            size = (size, size) if isinstance(size, int) else tuple(size)
            if len(size) != 2 or min(size) < 1:
                raise UserError(f"size is {size}, expected (height, width), at least 1")
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
        self._epoch, self._batch = 0, 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._pipeline.n_batches

    @property
    def n_images(self) -> int:
        return len(self._pipeline)

    @property
    def nbytes(self) -> int:
        """Bytes that the images take on the device, of a sharded store this process's, labels not counted."""
        return self._pipeline.nbytes

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields, or goes on with."""
        return self._epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the current epoch; an iteration that is broken off is gone on with by the next."""
        for batch in self._pipeline.epoch(self._epoch, start=self._batch):
            self._batch += 1
            if self._batch == len(self):  # before it is used: who stops at the last batch has had the whole epoch
                self._epoch, self._batch = self._epoch + 1, 0
            yield batch
        if self._batch:  # the last batch had no share for this process
            self._epoch, self._batch = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as JSON values: what is yielded next after `load_state_dict`, exactly."""
        return self._pipeline.state_dict(epoch=self._epoch, batch=self._batch)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader was; the number of processes may be another.

        Raises:
            ValueError: if it had another seed, batch size, subset or augmentation, or the state names no batch.
        """
        self._epoch, self._batch = self._pipeline.place_of(state)
