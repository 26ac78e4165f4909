"""``baseline=RUN``: compare a score with that of an earlier run, the same training from another input pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.setup.build import plain
from experiments.training.provenance import dataset_facts
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import first_difference
from rapid_inr.runlog.named_warnings import accuracy_below_baseline
from rapid_inr.runlog.records import read_json
from rapid_inr.runlog.run import Run
from rapid_inr.training.tasks import Task

TRAININGS = ("train", "segment")  # "segment" in old records
NETWORKS = {"top1_pct": "backbone", "miou_pct": "unet"}  # by metric: the config group of its network


def read_baseline(cfg: DictConfig, task: Task) -> float | None:
    """Return the score of the run that ``baseline`` names; None without one.

    Raises:
        FileNotFoundError: if there is no run.
        UserError: if it is no finished training of this task, or was trained differently; the message names the difference.
    """
    if cfg.baseline is None:
        return None
    folder = Path(cfg.baseline)
    if not (folder / "record.json").is_file():
        raise FileNotFoundError(f"no run in {folder}; baseline=RUN is the folder of an earlier experiments.train")
    record = read_json(folder / "record.json")
    if record["status"] != "finished" or record["verb"] not in TRAININGS or task.metric not in record["metrics"]:
        raise UserError(
            f"baseline {folder} is a {record['status']} run of {record['verb']}, expected a training with {task.metric}"
        )
    before, now = (_decisive(config, task) for config in (OmegaConf.load(folder / "config.yaml"), cfg))
    if differs := first_difference(before, now):
        key, then, today = differs
        raise UserError(f"baseline {folder} was trained with {key}={then}, this is {key}={today}")
    return record["metrics"][task.metric]


def _decisive(cfg: DictConfig, task: Task) -> dict[str, Any]:
    """Return the settings that a run and its baseline must share; the input pipeline and the seed may differ."""
    return {"dataset": dataset_facts(cfg)} | {
        group: plain(cfg[group]) for group in ("augment", "optimizer", NETWORKS[task.metric])
    }


def log_gap(run: Run, score_pct: float, baseline_pct: float | None, *, title: str) -> None:
    """Log how far a score is below its baseline, and warn if it is too far."""
    if baseline_pct is None:
        return
    run.metrics |= {"baseline_pct": baseline_pct, "lost_points": baseline_pct - score_pct}
    for warning in accuracy_below_baseline(score_pct, baseline_pct=baseline_pct, what=title):
        run.warn(*warning)
