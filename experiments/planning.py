"""What a sweep is to run: the points of an experiment at a scale, each with its command and what has become of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from experiments.points import Point, expand, matching, quoted
from experiments.reporting.comparing.records import status_of
from experiments.reporting.records import read_record
from experiments.setup.cli import CONFIGS, compose_command
from rapid_inr.errors import UserError

HOW_IT_RUNS = ("overwrite", "track", "run_dir")  # keys of a configuration that change no result


@dataclass(frozen=True)
class Sweep:
    """The points of an experiment at a scale.

    Args:
        folder: theirs are below it, by their names.
        common: overrides that every point gets.
    """

    points: list[Point]
    folder: Path
    common: tuple[str, ...]

    def command(self, point: Point) -> list[str]:
        """Return the overrides of the command line that a point stands for."""
        run_dir = quoted(f"{self.folder}/{point.name}")
        return [*point.overrides_in(str(self.folder)), *self.common, f"run_dir={run_dir}", "overwrite=true"]

    def status(self, point: Point) -> str:
        """Return ``missing``, ``unreadable``, ``finished``, ``changed`` since it finished, or what else has become of a point."""
        folder = self.folder / point.name
        if not (folder / "record.json").is_file():
            return "missing"
        try:
            status = status_of(folder, read_record(folder / "record.json"))
            if status != "finished":
                return status
            there = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
            before = str(there["run_dir"]).removesuffix(f"/{point.name}")
        except (ValueError, KeyError, TypeError, OSError, YAMLError, OmegaConfBaseException):
            return "unreadable"  # torn by a kill or a full disk: the point runs again
        asked = OmegaConf.to_container(compose_command(point.verb, self.command(point)), resolve=True)
        return "finished" if _decisive(there, before) == _decisive(asked, str(self.folder)) else "changed"


def _decisive(config: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return what decides a result, with paths below the sweep's folder as they are wherever that lies."""
    return {key: _anywhere(value, folder) for key, value in config.items() if key not in HOW_IT_RUNS}


def _anywhere(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _anywhere(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_anywhere(item, folder) for item in value]
    below = isinstance(value, str) and value.startswith(f"{folder}/")
    return f"@/{value.removeprefix(folder + '/')}" if below else value


def experiment_of(cfg: DictConfig) -> dict[str, Any]:
    """Return the experiment that a configuration asks for, as plain values, what differs at its scale merged in.

    Raises:
        ValueError: if it names no experiment or scale.
    """
    if cfg.get("experiment") is None:
        raise UserError(f"experiment=... is required, one of: {', '.join(experiment_names())}")
    if cfg.scale not in cfg.experiment.scales:
        raise UserError(f"scale is {cfg.scale!r}, expected one of {', '.join(cfg.experiment.scales)}")
    whole = cfg.copy()  # with its root, from which interpolations look up
    OmegaConf.set_struct(whole, False)
    whole.experiment.merge_with(whole.experiment.scales[cfg.scale] or {})
    return OmegaConf.to_container(whole.experiment, resolve=True)


def experiment_names() -> list[str]:
    """Return the names of all experiments."""
    return sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


def plan_sweep(cfg: DictConfig) -> Sweep:
    """Return the sweep that a configuration asks for.

    Raises:
        ValueError: if it names no experiment or scale, or the experiment is not in order.
    """
    return sweep_of(matching(expand(experiment_of(cfg)), cfg.only), cfg)


def sweep_of(points: Sequence[Point], cfg: DictConfig) -> Sweep:
    """Return a sweep of some points, with what a configuration says of all."""
    return Sweep(list(points), Path(cfg.run_dir), (f"device={cfg.device}", f"track={cfg.track.mode}"))
