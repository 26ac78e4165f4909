"""Merge shards to a store, shard by shard, so that memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rapid_inr.data.moments import ChannelMoments
from rapid_inr.errors import UserError
from rapid_inr.store.format import write_blocks
from rapid_inr.store.names import NAMES, pack_names
from rapid_inr.store.packed import PackedStore, StoreHeader
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard
from rapid_inr.store.tensor_file import Blocks


@dataclass(frozen=True)
class Survey:
    """The result of one walk through shards, a few bytes for each of N images.

    Args:
        ids: int64 [N], of the images in their source.
        sizes: int32 [N, 2], (height, width).
        measured: [N] each, by name.
        moments: of the images of the train split, or of all images if it has none.
        names: as in `PackedStore`.
        skipped: a message for each image that could not be read, by id.
        fit_s: over all shards, like `compress_s`.
    """

    ids: Tensor
    sizes: Tensor
    measured: dict[str, Tensor]
    moments: ChannelMoments
    names: tuple[str, ...]
    skipped: dict[int, str]
    fit_s: float
    compress_s: float


@dataclass(frozen=True)
class Merged:
    """A store whose tensors come in pieces, and the survey of its images.

    Args:
        tensors: the tensors of a `PackedStore`, by name.
    """

    header: StoreHeader
    tensors: dict[str, Blocks]
    survey: Survey

    def store(self) -> PackedStore:
        """Return the store in memory."""
        return PackedStore.of(self.header, {name: blocks.whole() for name, blocks in self.tensors.items()}, self.survey.names)

    def write(self, path: Path) -> None:
        """Write the file of the store, with one shard in memory at a time; replace an existing file."""
        names = {NAMES: Blocks.of(pack_names(self.survey.names))} if self.survey.names else {}
        write_blocks(path, self.header, len(self.survey.ids), self.tensors | names)


def merge(plan: StorePlan, shards: Iterable[Shard], shared: Mapping[str, Tensor]) -> Merged:
    """Merge shards, in the layout that is smallest for the whole store.

    Args:
        shards: in the order of the images; iterated several times.
        shared: the tensors that all images share.

    Raises:
        ValueError: if the shards hold no image or contradict each other.
    """
    survey = take_survey(shards)
    n = len(survey.ids)
    if n == 0:
        raise UserError(f"none of {plan.images} images could be read; the first: {next(iter(survey.skipped.values()))}")
    one_size = bool((survey.sizes == survey.sizes[0]).all())
    mean, std = survey.moments.mean_std()
    header = StoreHeader(
        plan.code, tuple(survey.sizes[0].tolist()) if one_size else None, plan.splits, plan.class_names, mean, std,
        plan.made, tuple(survey.skipped),
    )  # fmt: skip
    tensors = plan.code.merged(lambda: (shard.rows for shard in shards if len(shard) > 0), n)
    tensors |= {name: Blocks.of(tensor) for name, tensor in shared.items()}
    if not one_size:
        tensors["sizes"] = Blocks.of(survey.sizes)
    if not torch.equal(survey.ids, torch.arange(n)):
        tensors["source_ids"] = Blocks.of(survey.ids.to(torch.int32))
    return Merged(header, tensors, survey)


def take_survey(shards: Iterable[Shard]) -> Survey:
    """Walk through shards once, in the order of the images."""
    columns: dict[str, list[Tensor]] = {}
    names: list[str] = []
    skipped: dict[int, str] = {}
    moments, others, seconds = ChannelMoments(), ChannelMoments(), [0.0, 0.0]
    for shard in shards:
        for name, column in (("ids", shard.ids), ("sizes", shard.sizes), *shard.measured.items()):
            columns.setdefault(name, []).append(column.clone())  # a mapped tensor would keep its file open
        names += shard.names or [""] * len(shard)
        skipped |= shard.skipped
        moments.include(shard.moments)
        others.include(shard.other_moments)
        seconds = [seconds[0] + shard.fit_s, seconds[1] + shard.compress_s]
    whole = {name: torch.cat(pieces) for name, pieces in columns.items()}
    moments, files = moments if moments.n_pixels > 0 else others, tuple(names) if any(names) else ()
    return Survey(whole.pop("ids"), whole.pop("sizes"), whole, moments, files, skipped, *seconds)
