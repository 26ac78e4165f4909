"""What decides a store: the plan that all its shards carry, so that those of another are never mixed with them."""

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
    """What decides a store, and is the same for all its shards.

    Args:
        code: how each image is stored.
        splits: (name, number of images) of the source, in order.
        class_names: empty without labels.
        images: to be encoded, readable or not.
        shard_images: consecutive images of a shard; the last may have fewer.
        digest: of the source; see `ImageSource.digest`.
        made: how the store is made, as JSON values; see `StoreHeader`.

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
        """Return the places of a shard's images among those of the source."""
        return range(number * self.shard_images, min((number + 1) * self.shard_images, self.images))

    def values(self) -> dict[str, Any]:
        """Return all of it as JSON values, by the keys of the command line where it has them."""
        raw = json.loads(json.dumps(asdict(self) | {"code": self.code.family, **code_settings(self.code)}))
        return flatten({**raw.pop("made"), **raw})


def plan_difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Name the first key in which two plans differ and both its values; empty where they are the same."""
    key = first_difference(there, here, ignored=("digest",))  # which any other difference may explain
    if key is not None:
        return f"{key} is {brief(there.get(key))} there, {brief(here.get(key))} here"
    same = there["digest"] == here["digest"]
    return "" if same else "the images, or their files' names, sizes or times of modification, have changed since"
