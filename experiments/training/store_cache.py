"""Make the stores and exports that a training needs and that no key names: once, and shared by all jobs.

STORES_DIR/DATASET-SPLIT-INR-DIGEST.inr  a store, or DATASET-FORMAT-DIGEST, a folder of exported files
STORES_DIR/....run/                      the run that made it, with its measurements in record.json
STORES_DIR/....lock                      held by the process that makes it

The digest covers everything that decides the bytes: the images, their preparation, the size and time of their files, the INRs,
fit and compression, and the version of the format. The fit has seed 0 whatever the seed of the training, so that trainings of
several seeds share a store. ``store=FILE`` trains from any other store.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from experiments.encoding.encode_job import encode_dataset, open_folder, plan_encode
from experiments.setup.build import build_device, build_source, plain
from experiments.setup.groups import OF_INRS
from experiments.setup.run_folder import command_line
from experiments.training.exports import plan_export, write_export
from experiments.training.provenance import dataset_facts, digest, how_made, learning_source
from rapid_inr.runlog.records import inr_name
from rapid_inr.runlog.run import Run
from rapid_inr.store.format import VERSION

STORE_GROUPS = ("dataset", *OF_INRS)


def store_on_demand(cfg: DictConfig, *, split: str) -> Path:
    """Return the store of a split of ``cfg.dataset`` with the INRs of ``cfg.inr``; encode it if it is missing."""
    encoding = _encode_config(cfg, split=split)
    path = store_path(encoding)

    def encode(run: Run) -> None:
        plan = plan_encode(encoding)
        encode_dataset(encoding, plan, open_folder(encoding, plan, out=path), run, out=path)

    _make_once(path, encode, verb="encode", config=encoding)
    return path


def store_path(cfg: DictConfig) -> Path:
    """Return the path of the store that a configuration describes; its images are those of ``cfg.dataset.split``."""
    learn_from = learning_source(cfg)
    decisive = how_made(cfg) | {
        "dataset": _decisive_dataset(cfg), "images": build_source(cfg).digest(), "inr": plain(cfg.inr), "format": VERSION,
        "quantize": plain(cfg.quantize), "learned_from": learn_from and learn_from.digest(),
    }  # fmt: skip
    name = f"{cfg.dataset.name}-{cfg.dataset.split}-{inr_name(cfg.inr)}-{digest(decisive)}.inr"
    return Path(cfg.stores_dir) / name


def _decisive_dataset(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that decide a dataset's pixels. The digest of its source tells which images are taken."""
    return {key: value for key, value in dataset_facts(cfg).items() if key not in ("limit", "test_limit")}


def _encode_config(cfg: DictConfig, *, split: str) -> DictConfig:
    """Return a training's configuration, changed for encoding a split."""
    cfg = copy.deepcopy(cfg)
    cfg.seed, cfg.fit.seed, cfg.dataset.split = 0, 0, split
    return cfg


def export_on_demand(cfg: DictConfig) -> Path:
    """Return the folder of the files that ``cfg.export`` describes; write them if they are missing."""
    wanted = cfg.export
    store = store_on_demand(cfg, split="train") if wanted.as_inr or wanted.decoded else None
    choice = {"format": wanted.format, "quality": wanted.quality, "bytes": wanted.bytes}
    choice |= {"size_of": store if wanted.as_inr else None, "decoded": store if wanted.decoded else None}
    images = {split: build_source(cfg, split=split).digest() for split in ("train", "test")}
    decisive = {"dataset": _decisive_dataset(cfg), "images": images} | {
        key: value.name if isinstance(value, Path) else value for key, value in choice.items()
    }
    path = Path(cfg.stores_dir) / f"{cfg.dataset.name}-{wanted.format}-{digest(decisive)}"
    _make_once(path, lambda run: write_export(cfg, plan_export(cfg, **choice), path, run), verb="export", config=cfg)
    return path


def metrics_of(path: Path) -> dict[str, Any]:
    """Return the metrics of the run that made a store or an export on demand; empty for others."""
    try:
        record = json.loads((_run_folder(path) / "record.json").read_text(encoding="utf-8"))
        return record["metrics"] if record["status"] == "finished" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _run_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.run")


def _make_once(path: Path, make: Callable[[Run], Any], *, verb: str, config: DictConfig) -> None:
    """Let one process make an output, as a run, while others wait. A failed or killed run is repeated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        if path.exists() and metrics_of(path):
            return
        print(f"{verb}: {path} is not there yet, making it", file=sys.stderr)
        values = _run_config(config, out=path)
        with Run(
            _run_folder(path), verb=verb, config=values, config_yaml=OmegaConf.to_yaml(OmegaConf.create(values)),
            command=command_line(), track=config.track.mode, overwrite=True,
        ) as run:  # fmt: skip
            run.metrics["device"] = build_device(config).type
            make(run)


def _run_config(cfg: DictConfig, *, out: Path) -> Mapping[str, Any]:
    groups = {group: plain(cfg[group]) for group in (*STORE_GROUPS, "export") if group in cfg}
    return {"seed": cfg.seed, "device": cfg.device, **groups, "out": str(out)}


def _lock(path: Path) -> AbstractContextManager:
    lock = FileLock(f"{path}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another job to make {path}", file=sys.stderr)
        return lock.acquire()
