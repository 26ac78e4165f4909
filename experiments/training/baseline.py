"""The earlier run that an accuracy is held against, by ``baseline=RUN``: of the same training, but for what feeds the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.setup.build import plain
from experiments.training.provenance import dataset_facts
from rapid_inr.errors import UserError
from rapid_inr.runlog.named_warnings import accuracy_below_baseline
from rapid_inr.runlog.records import read_json
from rapid_inr.runlog.run import Run

COMPARED = ("augment", "backbone", "optimizer", "unet")  # groups that must be the same


def read_baseline(cfg: DictConfig, *, verb: str, metric: str) -> float | None:
    """Return what the run that ``baseline`` names has reached; None where none is named.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if it is of another command, did not finish, or was trained in another way; the message names the difference.
    """
    if cfg.baseline is None:
        return None
    folder = Path(cfg.baseline)
    if not (folder / "record.json").is_file():
        raise FileNotFoundError(f"no run in {folder}; baseline=RUN is the folder of an earlier experiments.{verb}")
    record = read_json(folder / "record.json")
    if record["verb"] != verb or record["status"] != "finished" or metric not in record["metrics"]:
        raise UserError(f"baseline {folder} is a {record['status']} run of {record['verb']}, expected a finished one of {verb}")
    _require_same_training(OmegaConf.load(folder / "config.yaml"), cfg, folder)
    return record["metrics"][metric]


def _require_same_training(before: DictConfig, cfg: DictConfig, folder: Path) -> None:
    then, now = _decisive(before), _decisive(cfg)
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise UserError(f"baseline {folder} was trained with {key}={then.get(key)}, this is {key}={now.get(key)}")


def _decisive(cfg: DictConfig) -> dict[str, Any]:
    """Return what decides a training, what feeds the network and the seed excepted, by dotted names."""
    groups = {"dataset": dataset_facts(cfg)} | {group: plain(cfg[group]) for group in COMPARED if group in cfg}
    return {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}


def hold_against(run: Run, mark_pct: float, baseline_pct: float | None, *, what: str = "top-1") -> None:
    """Enter in the run what was lost against a baseline, and say so where it is too much."""
    if baseline_pct is None:
        return
    run.metrics |= {"baseline_pct": baseline_pct, "lost_points": baseline_pct - mark_pct}
    for warning in accuracy_below_baseline(mark_pct, baseline_pct=baseline_pct, what=what):
        run.warn(*warning)
