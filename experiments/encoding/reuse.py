"""Reuse the images that an earlier run encoded: they enter the new store with the weights of the old one.

Images are matched by the content of their files, so moved and renamed files are found. A new fit would differ, because
the id of an image seeds its fit.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from experiments.encoding.merging import NO_LIMIT
from experiments.training.provenance import CHOOSING, how_made
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.data.source import ImageSource, ids_by_split, keep
from rapid_inr.encoding.shard import file_names, label_column
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import first_difference
from rapid_inr.runlog.records import read_json
from rapid_inr.store.families import Code, code_settings
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore
from rapid_inr.store.shards import Shard

REUSED = "reused"  # key of `StoreHeader.made`: the number of reused images
NOT_ABOUT_FITS = (REUSED, *(f"dataset.{key}" for key in CHOOSING))


def find_reusable(cfg: DictConfig, source: ImageSource, code: Code) -> Shard | None:
    """Return the images of a source that the run named by ``reuse`` encoded, as a shard; None if there are none.

    Raises:
        UserError: if the run's store is missing or has other settings, or if nothing is left to encode.
    """
    if code.shared or cfg.prune.rule == "ceiling_first":
        reason = f"share {', '.join(code.shared)}" if code.shared else "are ranked by prune=ceiling_first"
        raise UserError(f"reuse={cfg.reuse} needs images that do not depend on each other, and these {reason}")
    if cfg.shard != "1/1":
        raise UserError(f"shard is {cfg.shard} with reuse={cfg.reuse}, expected 1/1: one process merges old and new images")
    store, rows = _read_run(Path(cfg.reuse), out=Path(cfg.out))
    there, here = _decisive(store.header.code, store.header.made), _decisive(code, how_made(cfg))
    if differs := first_difference(there, here, ignored=NOT_ABOUT_FITS):
        key, before, now = differs
        raise UserError(f"reuse={cfg.reuse} was encoded with {key}={before}, this is {key}={now}")
    place_of = {row["content"]: place for place, row in enumerate(rows)}
    places = {image_id: place_of.get(source.content_of(image_id)) for image_id in source.ids.tolist()}
    places = {image_id: place for image_id, place in places.items() if place is not None}
    if len(places) == len(source):
        raise UserError(f"reuse={cfg.reuse} has encoded every image of this dataset; there is nothing to add")
    return _as_shard(source, store, rows, places, min_psnr_db=cfg.fit.min_psnr_db) if places else None


def _decisive(code: Code, made: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": code.family, **code_settings(code), **made}


def _read_run(folder: Path, *, out: Path) -> tuple[PackedStore, list[dict[str, str]]]:
    """Return the store of a run and the rows of its images.csv."""
    if not (folder / "record.json").is_file():
        raise UserError(f"reuse={folder} holds no run; give the run folder that encode prints at its end")
    record, config = read_json(folder / "record.json"), OmegaConf.load(folder / "config.yaml")
    if record["status"] != "finished" or not (folder / "images.csv").is_file():
        raise UserError(f"reuse={folder} is not a finished run of encode")
    path = Path(config.out)
    if path.resolve() == out.resolve():
        raise UserError(f"out is {out}, the store to reuse; choose another file")
    store = read_store(path, max_pixels=NO_LIMIT)
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if path.stat().st_size != record["metrics"]["store_bytes"] or [row["image"] for row in rows] != [
        store.name_of(i) for i in range(len(store))
    ]:
        raise UserError(f"{path} is not the store that {folder} wrote")
    if "content" not in rows[0]:
        raise UserError(f"{folder / 'images.csv'} has no column content, by which images are matched: merge wrote it")
    return store, rows


def _as_shard(
    source: ImageSource, store: PackedStore, rows: list[dict[str, str]], places: dict[int, int], *, min_psnr_db: float
) -> Shard:
    """Return images of a store as a shard of a source.

    Args:
        places: positions in the store, by id in the source.
    """
    taken, lines = store.take(torch.tensor(list(places.values()))), [rows[place] for place in places.values()]
    tensors = dict(taken.packed)
    labels = label_column(keep(source, np.isin(source.ids, list(places))).labels, len(source.class_names))
    tensors |= {} if labels is None else {"labels": labels}
    measured = {name: torch.tensor([float(line[name]) for line in lines], dtype=torch.float64)
                for name in ("psnr_db", "fit_psnr_db", "prune_ratio")}  # fmt: skip
    measured["attempts"] = torch.tensor([int(line["attempts"]) for line in lines])
    measured["converged"] = measured["fit_psnr_db"] >= min_psnr_db
    moments, train_ids = (ChannelMoments(), ChannelMoments()), ids_by_split(source.splits).get("train", range(0))
    for image_id in places:
        moments[image_id not in train_ids].add(source.read(image_id))
    sizes = torch.tensor([taken.size_of(i) for i in range(len(taken))], dtype=torch.int32)
    return Shard(
        0, torch.tensor(list(places)), sizes, tensors, 0, measured, *moments, {}, 0.0, 0.0, file_names(source, list(places))
    )
