"""One point of a sweep as a job: the ordinary run of its command, whose failure is recorded and stops no other."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.planning import plan_sweep
from experiments.reporting.records import read_record
from experiments.setup.cli import compose_command
from experiments.setup.errors import USER_ERRORS
from experiments.setup.run_folder import start_run
from rapid_inr.runlog.run import write_json


def run_point(cfg: DictConfig) -> None:
    """Run the point that ``cfg.point`` names, in this process."""
    sweep = plan_sweep(cfg)
    point = next(point for point in sweep.points if point.name == cfg.point)
    folder, overrides = sweep.folder / point.name, sweep.command(point)
    task = getattr(importlib.import_module(f"experiments.{point.verb}"), f"run_{point.verb}")
    for name in ("record.json", "traceback.txt"):  # of an attempt before this one, which may have been killed
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "point.json", {"scale": cfg.scale, "name": point.name, "labels": point.labels})
    began = time.perf_counter()
    with _overrides_as_typed(overrides):
        command = compose_command(point.verb, overrides)
        try:
            task(command)
        except Exception as error:  # whatever it is: recorded, and the other points go on
            _record_failure(command, point.verb, error, folder)
    print(f"{point.name}: {read_record(folder / 'record.json')['status']} after {time.perf_counter() - began:.1f} s", flush=True)


@contextmanager
def _overrides_as_typed(overrides: Sequence[str]) -> Iterator[None]:
    """Let Hydra hold the command line of the point, not that of the sweep: a run records the command that repeats it."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.cfg = before.copy()
    OmegaConf.set_readonly(hydra.cfg.hydra, False)
    hydra.cfg.hydra.overrides.task = list(overrides)
    try:
        yield
    finally:
        hydra.cfg = before


def _record_failure(cfg: DictConfig, verb: str, error: Exception, folder: Path) -> None:
    """Record what a command has died of, unless its own run did; of a bug, also where."""
    if not (folder / "record.json").is_file():
        cfg.track.mode = "off"
        with suppress(type(error)), start_run(cfg, verb):
            raise error
    if not isinstance(error, USER_ERRORS):
        (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    print(f"{folder.name}: {type(error).__name__}: {error}", file=sys.stderr)
