"""From shards to a store: every tensor of the whole comes shard by shard, so that memory does not grow with the images."""

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
    """What one walk through shards finds: a few bytes for each of N images, and the tensors that all images share.

    Args:
        ids: int64 [N], of the images in their source.
        sizes: int32 [N, 2], (height, width).
        measured: [N] each, by name.
        shared: the tensors that have a single row for all images.
        mask_layout_bytes: of codes and of masks, where each image has a mask.
        pruned: whether any has one.
        moments: of the images of the train split, or of all where it contributed none.
        skipped: a message for each image that could not be read, by its id.
        fit_s: over all shards, like `compress_s`.
    """

    ids: Tensor
    sizes: Tensor
    measured: dict[str, Tensor]
    shared: dict[str, Tensor]
    mask_layout_bytes: tuple[int, int]
    pruned: bool
    moments: ChannelMoments
    skipped: dict[int, str]
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
        """Write the file of the store, in place of any that is there; one shard is in memory at a time."""
        write_blocks(path, self.header, len(self.survey.ids), self.tensors)


def merge(plan: StorePlan, shards: Iterable[Shard]) -> Merged:
    """Merge shards, in the smallest layout of the whole: a mask an image, or all codes with the pruned ones as zeros.

    Args:
        shards: in the order of the images; walked through several times.

    Raises:
        ValueError: if they hold no image, or contradict each other.
    """
    survey = take_survey(plan, shards)
    n = len(survey.ids)
    if n == 0:
        raise UserError(f"none of {plan.images} images could be read; the first: {next(iter(survey.skipped.values()))}")
    one_size = bool((survey.sizes == survey.sizes[0]).all())
    mean, std = survey.moments.mean_std()
    header = StoreHeader(
        plan.spec, plan.quantize, tuple(survey.sizes[0].tolist()) if one_size else None, plan.splits, plan.class_names, mean, std,
        plan.made, tuple(survey.skipped),
    )  # fmt: skip
    tensors = _row_tensors(plan, shards, survey)
    if not one_size:
        tensors["sizes"] = Blocks.of(survey.sizes)
    if not torch.equal(survey.ids, torch.arange(n)):
        tensors["source_ids"] = Blocks.of(survey.ids.to(torch.int32))
    return Merged(header, tensors, survey)


def take_survey(plan: StorePlan, shards: Iterable[Shard]) -> Survey:
    """Walk through shards once, in the order of the images.

    Raises:
        ValueError: if they contradict each other.
    """
    columns: dict[str, list[Tensor]] = {}
    shared: dict[str, Tensor] = {}
    skipped: dict[int, str] = {}
    moments, others, seconds, mask_layout_bytes, pruned = ChannelMoments(), ChannelMoments(), [0.0, 0.0], [0, 0], False
    for shard in shards:
        for name, column in (("ids", shard.ids), ("sizes", shard.sizes), *shard.measured.items()):
            columns.setdefault(name, []).append(column.clone())  # what is mapped would hold its file open
        skipped |= shard.skipped
        moments.include(shard.moments)
        others.include(shard.other_moments)
        seconds = [seconds[0] + shard.fit_s, seconds[1] + shard.compress_s]
        if len(shard) == 0:
            continue
        if plan.quantize.shares_scales:
            scales = shard.rows["scales"]
            if not torch.equal(shared.setdefault("scales", scales.clone()), scales):
                raise ValueError(f"scales should be the same in all shards, and differ in shard {shard.number:05d}")
        pruned = pruned or "masks" in shard.rows
        mask_bytes = len(shard) * packed_bytes(plan.spec.n_hidden_weights, 1)
        mask_layout_bytes = [mask_layout_bytes[0] + shard.rows["codes"].nbytes, mask_layout_bytes[1] + mask_bytes]
    whole = {name: torch.cat(pieces) for name, pieces in columns.items()}
    return Survey(
        whole.pop("ids"), whole.pop("sizes"), whole, shared, tuple(mask_layout_bytes), pruned,
        moments if moments.n_pixels > 0 else others, skipped, *seconds,
    )  # fmt: skip


def _row_tensors(plan: StorePlan, shards: Iterable[Shard], survey: Survey) -> dict[str, Blocks]:
    """Return the tensors that come from the rows of the shards, in the layout that takes the fewest bytes."""
    n = len(survey.ids)
    dense_bytes = n * packed_bytes(plan.spec.n_hidden_weights, plan.quantize.bits)
    with_masks = survey.pruned and sum(survey.mask_layout_bytes) < dense_bytes
    arrange = partial(_with_masks if with_masks else _without_masks, plan=plan)
    first = next(shard for shard in shards if len(shard) > 0)
    tensors = {}
    for name, piece in (arrange(first.rows) if survey.pruned else first.rows).items():
        if name in survey.shared:
            tensors[name] = Blocks.of(survey.shared[name])
            continue
        shape = (survey.mask_layout_bytes[0],) if with_masks and name == "codes" else (n, *piece.shape[1:])
        in_layout = arrange if survey.pruned and name in ("codes", "masks") else dict  # no other tensor depends on it
        tensors[name] = Blocks(piece.dtype, shape, partial(_pieces, name, shards, in_layout))
    return tensors


def _pieces(name: str, shards: Iterable[Shard], arrange: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Iterator[Tensor]:
    return (arrange(shard.rows)[name] for shard in shards if len(shard) > 0)


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
