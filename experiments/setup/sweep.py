"""The jobs of a multirun: a finished one is skipped; a failed one is recorded and reported, and the others still run.

Jobs may run in other processes. Each writes its outcome to one file in the sweep's folder, which an environment variable names.
The process that the user started reads the file at the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.setup.errors import is_bug, one_line
from experiments.setup.run_folder import start_run, state_of
from rapid_inr.errors import UserError
from rapid_inr.files import naming
from rapid_inr.runlog.differences import Difference

NOTES = "RAPID_INR_SWEEP_NOTES"


class Sweep(Callback):
    """Names the file for the outcomes of a multirun's jobs. Hydra finds this class through configs/common.yaml."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        os.environ[NOTES] = str(Path(config.hydra.sweep.dir).absolute() / f".jobs-{os.getpid()}-{time.time_ns()}")


def run_job(cfg: DictConfig, verb: str, check: Callable[[DictConfig], DictConfig], task: Callable[[DictConfig], None]) -> None:
    """Run one job of a multirun. A failure is recorded even if the job had not opened its run."""
    job = os.getpid(), time.time_ns()
    _note(job=job)
    try:
        run_once(check(cfg), task)
    except Exception as error:  # of any kind: the other jobs still run
        _record(cfg, verb, error)
        text = f"{type(error).__name__}: {error}" if is_bug(error) else one_line(error)
        _note(job=job, run=str(cfg.run_dir), error=text)
        print(f"failed: {cfg.run_dir}: {text}", file=sys.stderr, flush=True)
    else:
        _note(job=job, run=str(cfg.run_dir))


def require_choices() -> None:
    """Refuse a single run of an experiment that leaves open what the experiment varies; the seed has a default.

    Raises:
        UserError: with what to add.
    """
    hydra = HydraConfig.get()
    given = {override.lstrip("+").partition("=")[0] for override in hydra.overrides.task}
    for key, values in (hydra.sweeper.get("params") or {}).items():
        if "," in str(values) and key != "seed" and key not in given:
            choice = hydra.runtime.choices.experiment
            raise UserError(f"experiment={choice} varies {key}; add -m to run all of them, or choose one: {key}={values}")


def run_once(cfg: DictConfig, task: Callable[[DictConfig], None]) -> None:
    """Run a command, unless it is a run of an experiment that finished with this configuration or is still running."""
    if cfg.experiment_name is not None:
        state = state_of(cfg)
        if state == "finished" and not cfg.overwrite:
            print(f"{cfg.run_dir}: finished before")
            return
        if state == "running":
            print(f"{cfg.run_dir}: another process is running it")
            return
        if isinstance(state, Difference):
            print(f"{cfg.run_dir}: replacing the run: {state.key} {state.before} -> {state.now}")
        cfg.overwrite = True  # the run's folder may hold what an earlier attempt left
    task(cfg)


def _record(cfg: DictConfig, verb: str, error: Exception) -> None:
    """Record a failure, unless a run recorded it: then a note of the error says so."""
    if any(note.startswith("recorded in ") for note in getattr(error, "__notes__", ())):
        return
    cfg.track.mode = "off"
    with suppress(Exception), start_run(cfg, verb):
        raise error


def _note(**values: object) -> None:
    path = Path(os.environ[NOTES])
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def report_failures() -> int:
    """Print which jobs of a multirun failed or were killed; return how many."""
    path = Path(os.environ.pop(NOTES, ""))
    if not path.is_file():
        return 0
    notes = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    jobs = {tuple(note["job"]): {"error": "its process is gone", "run": "a job"} for note in notes}
    jobs |= {tuple(note["job"]): note for note in notes if "run" in note}
    failed = [f"{job['run']} ({job['error']})" for job in jobs.values() if "error" in job]
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)
