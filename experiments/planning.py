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
from experiments.search_folder import read_choices
from experiments.search_space import Search, read_search
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
    return _at_scale(cfg, "experiment")


def search_of(cfg: DictConfig) -> Search:
    """Return the search that a configuration asks for, likewise.

    Raises:
        ValueError: if it names an experiment too, or no scale, or the search is not in order.
    """
    if cfg.get("experiment") is not None:
        raise UserError("experiment=... and search=... are both given, expected one of them")
    asked = {} if cfg.trials is None else {"trials": cfg.trials}
    return read_search(_at_scale(cfg, "search") | asked)


def _at_scale(cfg: DictConfig, kind: str) -> dict[str, Any]:
    if cfg.get(kind) is None:
        known = f"one of: {', '.join(experiment_names())}; or search=..., one of: {', '.join(search_names())}"
        raise UserError(f"experiment=... is required, {known}")
    if cfg.scale not in cfg[kind].scales:
        raise UserError(f"scale is {cfg.scale!r}, expected one of {', '.join(cfg[kind].scales)}")
    whole = cfg.copy()  # with its root, from which interpolations look up
    OmegaConf.set_struct(whole, False)
    whole[kind].merge_with(whole[kind].scales[cfg.scale] or {})
    return OmegaConf.to_container(whole[kind], resolve=True)


def experiment_names() -> list[str]:
    """Return the names of all experiments."""
    return _names("experiment")


def search_names() -> list[str]:
    """Return the names of all searches."""
    return _names("search")


def _names(kind: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))


def plan_sweep(cfg: DictConfig) -> Sweep:
    """Return the sweep that a configuration asks for: of an experiment, or of one trial of a search.

    Raises:
        ValueError: if it names no experiment or scale, or the experiment is not in order.
    """
    if cfg.get("search") is None:
        return sweep_of(matching(expand(experiment_of(cfg)), cfg.only), cfg)
    search = search_of(cfg)
    tried = read_choices(search, Path(cfg.run_dir))
    if cfg.trial is None or not 1 <= cfg.trial <= len(tried):
        raise UserError(f"trial is {cfg.trial}, expected one of the {len(tried)} in {cfg.run_dir}")
    return sweep_of(search.points(tried[cfg.trial - 1], number=cfg.trial), cfg)


def sweep_of(points: Sequence[Point], cfg: DictConfig) -> Sweep:
    """Return a sweep of some points, with what a configuration says of all."""
    return Sweep(list(points), Path(cfg.run_dir), (f"device={cfg.device}", f"track={cfg.track.mode}"))
