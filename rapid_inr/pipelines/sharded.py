"""A packed store sharded over processes: each process fetches the rows of its batches from the processes that hold them.

Process r of W holds the images r, r + W, r + 2 W, ... Every process knows the order of an epoch and each process's share of a
batch, so it knows who sends what to whom. A batch is a single exchange of packed rows of one length, without negotiation.
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
    """The rows that this process sends and receives for a batch.

    Args:
        sent: int64 positions in its share, grouped by receiver, on the device.
        n_sent: images for each process.
        n_got: images from each process.
        places: int64 [B], position of each image of its batch among the received ones, on the device.
    """

    sent: Tensor
    n_sent: list[int]
    n_got: list[int]
    places: Tensor


class ShardedStore:
    """A store of which this process holds every `world_size`-th image and fetches the others batch by batch.

    All processes create it together and go through the same batches at the same time. Exchanges have a separate process group,
    so that gradients can be averaged while the next batch is exchanged; every host starts the two in the same order.

    Args:
        store: the whole store, the same in every process, which keeps only its share.
        device: to keep the share on.
        rank: of this process in torch.distributed.
        world_size: number of processes there.

    Raises:
        ValueError: if torch.distributed is not initialized, has another rank or world size, or the store has fewer images than
            processes.
        DeviceTooSmall: if the share does not fit the memory of the device.
    """

    def __init__(self, store: PackedStore, *, device: torch.device | str, rank: int, world_size: int) -> None:
        _require_together(rank=rank, world_size=world_size)
        if len(store) < world_size:
            raise UserError(f"the store has {len(store)} images, too few to share among {world_size} processes")
        share = replace(store.take(torch.arange(rank, len(store), world_size)), labels=None, source_ids=None, names=())
        require_fits(share.nbytes, n_images=len(share), device=torch.device(device), what="this process's images of the store")
        self.share = share.to(device)
        self._rank, self._world_size, self._group = rank, world_size, distributed.new_group()
        self._longest = 0 if store.starts is None else int(store.starts.diff().max())
        # types and lengths of the exchanged rows
        self._empty = self._packed(torch.empty(0, dtype=torch.int64, device=self.device))

    @property
    def device(self) -> torch.device:
        return self.share.device

    @property
    def nbytes(self) -> int:
        """Bytes of the share on the device."""
        return self.share.nbytes

    def fetch(self, batches: Sequence[Ids]) -> Iterator[tuple[Fetched, Tensor]]:
        """Yield the packed images of each batch, with repeats, and the position among them of each id of the batch.

        Args:
            batches: with the shares of all processes; shares may be empty.
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
            places.append(holders.argsort(stable=True).argsort())  # received images are grouped by holder
            counts.append([whose.bincount(minlength=world).tolist() for whose in (receivers[held], holders)])
        # once an epoch: a copy in every batch would make the host wait for the device
        on_device = [torch.cat(parts).to(self.device).split([len(part) for part in parts]) for parts in (sent, places)]
        return [_Exchange(s, n_sent, n_got, p) for s, p, (n_sent, n_got) in zip(*on_device, counts, strict=True)]

    def _exchanged(self, exchange: _Exchange) -> Fetched:
        sent = torch.cat([rows.view(torch.uint8) for rows in self._packed(exchange.sent).values()], dim=1)
        got = sent.new_empty((sum(exchange.n_got), sent.shape[1]))
        distributed.all_to_all_single(got, sent, exchange.n_got, exchange.n_sent, group=self._group)
        columns = got.split([rows.shape[1] * rows.element_size() for rows in self._empty.values()], dim=1)
        rows = {name: rows.new_empty((len(got), rows.shape[1])) for name, rows in self._empty.items()}
        for typed, column in zip(rows.values(), columns, strict=True):  # copied, since a received column may be unaligned
            typed.view(torch.uint8).copy_(column)
        sizes = rows.pop("sizes", None)
        if self.share.starts is not None:
            rows["starts"] = torch.arange(len(got) + 1, device=self.device) * self._longest
            rows["codes"] = rows["codes"].flatten()
        return Fetched(self.share.header, replace(self.share.rows, **rows), sizes)

    def _packed(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the rows of images of the share, [n, ...] each; codes of unequal length are padded by the codes after them."""
        share, unequal = self.share, self.share.starts is not None
        left_out = {*share.header.code.shared, *(["codes"] if unequal else [])}
        rows = {name: tensor[ids] for name, tensor in share.tensors().items() if name not in left_out}
        if unequal:
            places = share.starts[ids, None] + torch.arange(self._longest, device=self.device)
            codes = share.packed["codes"]
            codes = codes if len(codes) else codes.new_zeros(1)  # a share may hold no codes at all
            rows["codes"] = codes[places.clamp(max=len(codes) - 1)]
        return rows


def _require_together(*, rank: int, world_size: int) -> None:
    if not distributed.is_initialized():
        raise UserError("to shard a store, start with torchrun and call torch.distributed.init_process_group() first")
    expected = distributed.get_rank(), distributed.get_world_size()
    if (rank, world_size) != expected:
        raise UserError(
            f"rank and world_size are {rank} and {world_size}, expected {expected[0]} and {expected[1]}, the values of "
            "torch.distributed, to shard a store"
        )
