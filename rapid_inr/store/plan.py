"""The plan of a store, which each shard carries, so that shards of different stores are never mixed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from rapid_inr.runlog.differences import first_difference, flatten
from rapid_inr.store.families import Code, code_settings
from rapid_inr.store.packed import require_plain_names
from rapid_inr.store.sealed import brief


@dataclass(frozen=True)
class StorePlan:
    """Everything that determines a store, the same for all its shards.

    Args:
        code: how images are stored.
        splits: (name, number of images) of the source, in order.
        class_names: empty without labels.
        images: number of images to encode, readable or not.
        shard_images: number of consecutive images in a shard; the last may have fewer.
        digest: of the source; see `ImageSource.digest`.
        made: provenance as JSON values; see `StoreHeader`.

    Raises:
        UserError: see `require_plain_names`.
    """

    code: Code
    splits: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    images: int
    shard_images: int
    digest: str
    made: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_plain_names(self.splits, self.class_names)

    @property
    def n_shards(self) -> int:
        return -(-self.images // self.shard_images)

    def shard(self, number: int) -> range:
        """Return the positions of a shard's images in the source."""
        return range(number * self.shard_images, min((number + 1) * self.shard_images, self.images))

    def values(self) -> dict[str, Any]:
        """Return the plan as JSON values, under the keys of the command line where there are such keys."""
        raw = json.loads(json.dumps(asdict(self) | {"code": self.code.family, **code_settings(self.code)}))
        return flatten({**raw.pop("made"), **raw})


def plan_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first key in which two plans differ, with both values; empty if they are equal."""
    if differs := first_difference(before, now, ignored=("digest",)):  # which may explain a different digest
        return f"{differs.key} is {brief(differs.before)} there, {brief(differs.now)} here"
    same = before["digest"] == now["digest"]
    return "" if same else "the images, or their files' names, sizes or times of modification, have changed since"
