"""Check that a store or an export was made from the dataset of this training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from experiments.setup.build import build_source, plain
from rapid_inr.data.export import Export
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import first_difference
from rapid_inr.store.packed import PackedStore

NOT_ABOUT_IMAGES = ("root", "download", "on_corrupt", "max_pixels")  # keys of `dataset` that change no image
CHOOSING = ("split", "limit", "test_limit", "exclude", "test_count")  # keys that select images; their ids are compared instead


def how_made(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that decide a store's bytes, for its header: no paths, no times."""
    facts = {"dataset": dataset_facts(cfg), "seed": cfg.seed}
    if cfg.inr.bytes is not None:
        return facts | {"basis": cfg.inr.basis}
    fit = plain(cfg.fit)
    del fit["max_batch"]  # batching changes no byte on a CPU
    return facts | {"fit": fit, "prune": plain(cfg.prune), "refine": plain(cfg.refine)}


def learning_source(cfg: DictConfig) -> ImageSource | None:
    """Return the images that teach the codebooks of ``inr=cosine``: the training images, for every split; None for others."""
    return None if cfg.inr.bytes is None else build_source(cfg, split="train")


def dataset_facts(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that decide the images of a dataset, as JSON values."""
    dataset = {key: value for key, value in plain(cfg.dataset).items() if key not in NOT_ABOUT_IMAGES}
    if dataset.get("exclude") is not None:
        dataset["exclude"] = digest(_excluded(dataset["exclude"]))
    return {key: value for key, value in dataset.items() if value is not None}


def _excluded(exclude: str | list[int]) -> list[int]:
    ids = json.loads(Path(exclude).read_text(encoding="utf-8")) if isinstance(exclude, str) else exclude
    return sorted(ids["index"] if isinstance(ids, dict) else ids, key=str)


def digest(values: Any) -> str:
    """Return a short hash of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def require_made_from(store: PackedStore, cfg: DictConfig) -> None:
    """Refuse a store of another dataset, or of the same dataset split or prepared differently.

    A store of images that were not resized can be decoded at ``dataset.size``, which stretches them as resizing would.

    Raises:
        UserError: at the first key in which they differ; the message names both values.
    """
    made = store.header.made.get("dataset")
    if not isinstance(made, dict):
        raise UserError("the store does not say which dataset it was made from; encode it with experiments.encode")
    asked, ignored = dataset_facts(cfg), set(CHOOSING)
    if asked.get("size") is None:
        ignored.add("resize")  # nothing was resized; if the sizes differ, that is found below
    elif made.get("size") is None and asked.get("resize") == "stretch":
        ignored |= {"size", "resize"}
    _require_same(made, asked, ignored=ignored, what="the store was made")


def require_exported_from(export: Export, cfg: DictConfig) -> None:
    """Refuse files of another dataset, or of the same dataset split or prepared differently.

    Raises:
        UserError: at the first key in which they differ; the message names both values.
    """
    asked = dataset_facts(cfg)
    ignored = {*CHOOSING, *(() if asked.get("size") else ("resize",))}
    _require_same(export.settings.get("dataset", {}), asked, ignored=ignored, what=f"the files in {export.folder} were made")


def _require_same(made: dict[str, Any], asked: dict[str, Any], *, ignored: set[str], what: str) -> None:
    another = made.get("name") != asked.get("name")  # explains every other difference
    if another or (differs := first_difference(_with_sides(made), _with_sides(asked), ignored=ignored)):
        key = "name" if another else differs.key
        raise UserError(f"{what} with dataset.{key}={made.get(key)}, this is dataset.{key}={asked.get(key)}")


def _with_sides(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a dataset with its size as [height, width]."""
    size = facts.get("size")
    return facts | ({"size": [size, size]} if isinstance(size, int) else {})


def rows_of(store: PackedStore, source: ImageSource, *, on_corrupt: str, split: str = "train") -> PackedStore:
    """Return the images of a store that are in a source, which was opened as `split`.

    Raises:
        UserError: if the store lacks readable images, or has other labels or classes.
    """
    split_name = "training" if split == "train" else split
    store = store.of_split(split)
    n_made = dict(store.header.splits)[split]
    if n_made != source.n_opened:
        raise UserError(f"the store was made from {n_made} {split_name} images, dataset={source.name} has {source.n_opened}")
    missing = missing_images(store, source, on_corrupt=on_corrupt, split=split)
    if missing:
        raise UserError(
            f"the store lacks {len(missing)} of the {len(source)} {split_name} images, the first {source.name_of(missing[0])}; "
            "set dataset.limit and dataset.exclude as when it was encoded"
        )
    held = _ids_in_split(store, split)
    kept = np.flatnonzero(np.isin(held, source.ids))
    store = store if len(kept) == len(store) else store.take(torch.from_numpy(kept))
    labels = source.labels[np.isin(source.ids, held)]
    if store.header.class_names != source.class_names or store.labels is None or store.labels.tolist() != labels.tolist():
        raise UserError(f"the labels in the store are not those of dataset={source.name}")
    return store


def missing_images(store: PackedStore, source: ImageSource, *, on_corrupt: str, split: str) -> list[int]:
    """Return the ids of readable images of a source, opened as `split`, that a store lacks."""
    if split not in dict(store.header.splits):
        return source.ids.tolist()
    skipped = np.array(store.header.skipped, dtype=np.int64) - _first_id(store, split)
    missing = source.ids[~np.isin(source.ids, [*_ids_in_split(store, split), *skipped])].tolist()
    return [image_id for image_id in missing if on_corrupt == "fail" or _is_readable(source, image_id)]


def _ids_in_split(store: PackedStore, split: str) -> np.ndarray:
    """Return the ids of a store's images, counted within a split. In a store the ids run through all splits."""
    held = np.arange(len(store)) if store.source_ids is None else store.source_ids.cpu().numpy()
    return held - _first_id(store, split)


def _first_id(store: PackedStore, split: str) -> int:
    names = [name for name, _ in store.header.splits]
    return sum(count for _, count in store.header.splits[: names.index(split)])


def _is_readable(source: ImageSource, image_id: int) -> bool:
    try:
        source.read(image_id)
    except CorruptImage:
        return False
    return True
