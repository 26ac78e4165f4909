"""From parts to a store: every tensor of the whole comes part by part, so that memory does not grow with the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kernels.rows import packed_bytes
from kernels.unpack.torch import gather_codes
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.errors import UserError
from rapid_inr.store.codes import pack_codes, pack_masks, row_starts
from rapid_inr.store.format import write_blocks
from rapid_inr.store.packed import PackedStore, StoreHeader
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard
from rapid_inr.store.tensor_file import Blocks

REPACK_ROWS = 128  # unpacked at once: every code takes several integers meanwhile


@dataclass(frozen=True)
class Survey:
    """What one walk through parts finds: a few bytes for each of N images, and the tensors that all images share.

    Args:
        ids: int64 [N], of the images in their source.
        sizes: int32 [N, 2], (height, width).
        measured: [N] each, by name.
        shared: the tensors that have a single row for all images.
        own_bytes: of codes and of masks, where each image has a mask of its own.
        pruned: whether any has a mask of its own.
        moments: of the images of the train split, or of all where it contributed none.
        skipped: one message for each image that could not be read.
        fit_s: over all parts, like `compress_s`.
    """

    ids: Tensor
    sizes: Tensor
    measured: dict[str, Tensor]
    shared: dict[str, Tensor]
    own_bytes: tuple[int, int]
    pruned: bool
    moments: ChannelMoments
    skipped: tuple[str, ...]
    fit_s: float
    compress_s: float


@dataclass(frozen=True)
class Merged:
    """A store whose tensors come in pieces, and what was measured of its images.

    Args:
        tensors: those of a `PackedStore`, by name.
    """

    header: StoreHeader
    tensors: dict[str, Blocks]
    survey: Survey

    def store(self) -> PackedStore:
        """Return the store in memory."""
        return PackedStore(self.header, **{name: blocks.whole() for name, blocks in self.tensors.items()})

    def write(self, path: Path) -> None:
        """Write the file of the store, in place of any that is there; one part is in memory at a time."""
        write_blocks(path, self.header, len(self.survey.ids), self.tensors)


def merge(plan: StorePlan, parts: Iterable[Shard]) -> Merged:
    """Merge parts, in the smallest layout of the whole: a mask an image, or all codes with the pruned ones as zeros.

    Args:
        parts: in the order of the images; walked through several times.

    Raises:
        ValueError: if they hold no image, or contradict each other.
    """
    found = survey(plan, parts)
    n = len(found.ids)
    if n == 0:
        raise UserError(f"none of {plan.images} images could be read; the first: {found.skipped[0]}")
    one_size = bool((found.sizes == found.sizes[0]).all())
    mean, std = found.moments.mean_std()
    header = StoreHeader(
        plan.spec, plan.quantize, tuple(found.sizes[0].tolist()) if one_size else None, plan.splits, plan.class_names, mean, std,
        plan.made,
    )  # fmt: skip
    tensors = _row_tensors(plan, parts, found)
    if not one_size:
        tensors["sizes"] = Blocks.of(found.sizes)
    if not torch.equal(found.ids, torch.arange(n)):
        tensors["source_ids"] = Blocks.of(found.ids.to(torch.int32))
    return Merged(header, tensors, found)


def survey(plan: StorePlan, parts: Iterable[Shard]) -> Survey:
    """Walk through parts once, in the order of the images.

    Raises:
        ValueError: if they contradict each other.
    """
    columns: dict[str, list[Tensor]] = {}
    shared: dict[str, Tensor] = {}
    skipped: list[str] = []
    moments, others, seconds, own_bytes, pruned = ChannelMoments(), ChannelMoments(), [0.0, 0.0], [0, 0], False
    for part in parts:
        for name, column in (("ids", part.ids), ("sizes", part.sizes), *part.measured.items()):
            columns.setdefault(name, []).append(column.clone())  # what is mapped would hold its file open
        skipped += part.skipped
        moments.include(part.moments)
        others.include(part.other_moments)
        seconds = [seconds[0] + part.fit_s, seconds[1] + part.compress_s]
        if len(part) == 0:
            continue
        for name in _shared_names(plan, part):
            if not torch.equal(shared.setdefault(name, part.rows[name].clone()), part.rows[name]):
                raise UserError(f"{name} should be the same in all shards, and differs in shard {part.number:05d}")
        masks = part.rows.get("masks")
        pruned = pruned or (masks is not None and "masks" not in shared)
        mask_bytes = len(part) * packed_bytes(plan.spec.n_hidden_weights, 1)
        own_bytes = [own_bytes[0] + part.rows["codes"].nbytes, own_bytes[1] + mask_bytes]
    whole = {name: torch.cat(pieces) for name, pieces in columns.items()}
    return Survey(
        whole.pop("ids"), whole.pop("sizes"), whole, shared, tuple(own_bytes), pruned,
        moments if moments.n_pixels > 0 else others, tuple(skipped), *seconds,
    )  # fmt: skip


def _shared_names(plan: StorePlan, part: Shard) -> list[str]:
    """Return the tensors that have a single row for all images."""
    shared = {"scales": plan.quantize.granularity == "dataset", "masks": part.rows["codes"].ndim == 2}
    return [name for name in part.rows if shared.get(name, False)]


def _row_tensors(plan: StorePlan, parts: Iterable[Shard], found: Survey) -> dict[str, Blocks]:
    """Return the tensors that come from the rows of the parts, in the layout that takes the fewest bytes."""
    n = len(found.ids)
    dense_bytes = n * packed_bytes(plan.spec.n_hidden_weights, plan.quantize.bits)
    own = found.pruned and sum(found.own_bytes) < dense_bytes
    arrange = partial(_with_masks if own else _without_masks, plan=plan)
    first = next(part for part in parts if len(part) > 0)
    tensors = {}
    for name, piece in (arrange(first.rows) if found.pruned else first.rows).items():
        if name in found.shared:
            tensors[name] = Blocks.of(found.shared[name])
            continue
        shape = (found.own_bytes[0],) if own and name == "codes" else (n, *piece.shape[1:])
        in_layout = arrange if found.pruned and name in ("codes", "masks") else dict  # no other tensor depends on it
        tensors[name] = Blocks(piece.dtype, shape, partial(_pieces, name, parts, in_layout))
    return tensors


def _pieces(name: str, parts: Iterable[Shard], arrange: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Iterator[Tensor]:
    return (arrange(part.rows)[name] for part in parts if len(part) > 0)


def _with_masks(rows: dict[str, Tensor], *, plan: StorePlan) -> dict[str, Tensor]:
    """Give rows that keep every weight a mask each that says so: their codes are the same bytes."""
    if "masks" in rows:
        return rows
    kept = torch.ones(len(rows["codes"]), plan.spec.n_hidden_weights, dtype=torch.bool)
    return rows | {"codes": rows["codes"].flatten(), "masks": pack_masks(kept)}


def _without_masks(rows: dict[str, Tensor], *, plan: StorePlan) -> dict[str, Tensor]:
    """Write the pruned codes of rows as zeros."""
    if "masks" not in rows:
        return rows
    bits, n_codes, masks = plan.quantize.bits, plan.spec.n_hidden_weights, rows["masks"]
    starts, dense = row_starts(masks, bits), []
    for ids in torch.arange(len(masks)).split(REPACK_ROWS):
        codes = gather_codes(rows["codes"], ids, bits=bits, n_codes=n_codes, masks=masks, starts=starts)
        dense.append(pack_codes(codes, bits))
    return {name: tensor for name, tensor in rows.items() if name != "masks"} | {"codes": torch.cat(dense)}
