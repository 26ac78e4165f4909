"""A packed store of which each process holds a share: the rows of a batch come from the processes that hold them.

Process r of W holds the images r, r + W, r + 2 W, ... Every process knows the order of an epoch and what each of them takes of a
batch, hence who sends what to whom: a batch is one exchange of packed rows of one length, and nothing is agreed upon before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed

from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import Ids
from rapid_inr.pipelines.batches import require_fits
from rapid_inr.store.decode import Fetched
from rapid_inr.store.packed import PackedStore


@dataclass(frozen=True, eq=False)
class _Exchange:
    """What this process sends and gets for a batch.

    Args:
        sent: int64 positions in its share, receiver after receiver, on the device.
        n_sent: images for each process.
        n_got: images from each process.
        places: int64 [B], where each image that it takes is among those it gets, on the device.
    """

    sent: Tensor
    n_sent: list[int]
    n_got: list[int]
    places: Tensor


class ShardedStore:
    """A store of which this process holds every `world_size`-th image, and fetches the others batch by batch.

    All processes make it together, and go through the same batches at the same time. Exchanges have a process group of their own:
    gradients are averaged while the next batch is on its way, and the host of every process starts both in the same order.

    Args:
        store: the whole one, the same for every process; of a file that is mapped into memory only the share is copied.
        device: where the share is to lie.
        rank: of this process in torch.distributed.
        world_size: number of processes there.

    Raises:
        ValueError: if torch.distributed is not initialized or has another rank or number of processes, or there are fewer images
            than processes.
        DeviceTooSmall: if the share does not fit the memory of the device.
    """

    def __init__(self, store: PackedStore, *, device: torch.device | str, rank: int, world_size: int) -> None:
        _require_together(rank=rank, world_size=world_size)
        if len(store) < world_size:
            raise UserError(f"the store has {len(store)} images, too few to share among {world_size} processes")
        share = replace(store.take(torch.arange(rank, len(store), world_size)), labels=None, source_ids=None)
        require_fits(share.nbytes, n_images=len(share), device=torch.device(device), what="this process's images of the store")
        self.share = share.to(device)
        self._rank, self._world_size, self._group = rank, world_size, distributed.new_group()
        self._longest = 0 if store.starts is None else int(store.starts.diff().max())
        # of what is exchanged, the types and lengths
        self._empty = self._packed(torch.empty(0, dtype=torch.int64, device=self.device))

    @property
    def device(self) -> torch.device:
        return self.share.device

    @property
    def nbytes(self) -> int:
        """Bytes that the share takes on the device."""
        return self.share.nbytes

    def fetch(self, batches: Sequence[Ids]) -> Iterator[tuple[Fetched, Tensor]]:
        """Yield for each batch its images, each as often as it is taken, and where in them each of the batch's ids is.

        Args:
            batches: with the shares of all processes, some of which may be empty.
        """
        for exchange in self._exchanges(batches):
            yield self._exchanged(exchange), exchange.places

    def _exchanges(self, batches: Sequence[Ids]) -> list[_Exchange]:
        world, sent, places, counts = self._world_size, [], [], []
        for ids in batches:
            taken = torch.cat(ids.shares)
            receivers = torch.arange(world).repeat_interleave(torch.tensor([len(share) for share in ids.shares]))
            held, holders = taken % world == self._rank, ids.host % world
            sent.append(taken[held] // world)
            places.append(holders.argsort(stable=True).argsort())  # they come holder after holder
            counts.append([whose.bincount(minlength=world).tolist() for whose in (receivers[held], holders)])
        # once an epoch: a copy in every batch would make the host wait for the device
        there = [torch.cat(parts).to(self.device).split([len(part) for part in parts]) for parts in (sent, places)]
        return [_Exchange(s, n_sent, n_got, p) for s, p, (n_sent, n_got) in zip(*there, counts, strict=True)]

    def _exchanged(self, exchange: _Exchange) -> Fetched:
        sent = torch.cat([rows.view(torch.uint8) for rows in self._packed(exchange.sent).values()], dim=1)
        got = sent.new_empty((sum(exchange.n_got), sent.shape[1]))
        distributed.all_to_all_single(got, sent, exchange.n_got, exchange.n_sent, group=self._group)
        columns = got.split([rows.shape[1] * rows.element_size() for rows in self._empty.values()], dim=1)
        rows = {name: rows.new_empty((len(got), rows.shape[1])) for name, rows in self._empty.items()}
        for typed, column in zip(rows.values(), columns, strict=True):  # copied, since there a type may begin at any byte
            typed.view(torch.uint8).copy_(column)
        sizes = rows.pop("sizes", None)
        if self.share.starts is not None:
            rows["starts"] = torch.arange(len(got) + 1, device=self.device) * self._longest
            rows["codes"] = rows["codes"].flatten()
        return Fetched(self.share.header, replace(self.share.rows, **rows), sizes)

    def _packed(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the rows of images of the share, [n, ...] each; codes of unequal length go on into what follows them."""
        share, unequal = self.share, self.share.starts is not None
        left_out = {*share.header.code.shared, *(["codes"] if unequal else [])}
        rows = {name: tensor[ids] for name, tensor in share.tensors().items() if name not in left_out}
        if unequal:
            places = share.starts[ids, None] + torch.arange(self._longest, device=self.device)
            codes = share.packed["codes"]
            some = codes if len(codes) else codes.new_zeros(1)  # where this share keeps no code at all
            rows["codes"] = some[places.clamp(max=len(some) - 1)]
        return rows


def _require_together(*, rank: int, world_size: int) -> None:
    if not distributed.is_initialized():
        raise UserError("to shard a store, start with torchrun and call torch.distributed.init_process_group() first")
    there = distributed.get_rank(), distributed.get_world_size()
    if (rank, world_size) != there:
        raise UserError(
            f"rank and world_size are {rank} and {world_size}, expected {there[0]} and {there[1]} as torch.distributed has them, "
            "to shard a store"
        )
