"""Runs that W&B holds: on its server through its interface, or in offline folders through `wandb leet inspect`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from experiments.reporting.comparing.logged import LoggedRun, logged_run
from rapid_inr.errors import UserError

SCHEME = "wandb:"
STATUSES = {"crashed": "dead", "killed": "interrupted", "preempted": "interrupted"}  # the server's words, which hears from runs
OFFLINE_STATUSES = {"running": "running?", "unknown": "running?"}  # a file ends, and whether more will come it cannot say
READERS = 4  # of offline files at once: each is a process of 0.4 s
TIMEOUT_S = 60


def is_wandb(root: str) -> bool:
    """Return whether a root names what W&B holds: ``wandb:ENTITY/PROJECT``, or ``wandb:FOLDER`` with offline runs."""
    return root.startswith(SCHEME)


def read_wandb(root: str) -> tuple[list[LoggedRun], list[str]]:
    """Read the runs of a folder with ``.wandb`` files, if there is one of that name, or else of a project on the server.

    Returns:
        The runs, and a line for each that cannot be read.

    Raises:
        ValueError: if it is neither a folder nor ENTITY/PROJECT.
        OSError: if the server, or `wandb leet`, does not answer; the message says what to do.
    """
    name = root.removeprefix(SCHEME)
    if name and Path(name).is_dir():
        return read_offline(Path(name))
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"root is {root}, expected {SCHEME}ENTITY/PROJECT or {SCHEME}FOLDER")
    return read_online(name), []


def read_online(project: str) -> list[LoggedRun]:
    """Read the runs of a project, ENTITY/PROJECT, from the server."""
    import wandb

    try:
        return [_online(run) for run in wandb.Api(timeout=TIMEOUT_S).runs(project, per_page=200)]
    except (wandb.Error, ValueError) as error:
        raise OSError(f"W&B has not given the runs of {project}: {str(error).rstrip('.')}") from None


def _online(run: Any) -> LoggedRun:
    summary = getattr(run.summary, "_json_dict", None) or dict(run.summary)
    record = {"verb": run.job_type, "started": run.created_at, "commit": run.commit, "seconds": summary.get("_runtime")}
    return _logged(run.name, STATUSES.get(run.state, run.state), run.config, summary, record, lines=partial(_history, run))


def _history(run: Any) -> list[dict[str, Any]]:
    return [_own(line) for line in run.scan_history()]


def read_offline(folder: Path) -> tuple[list[LoggedRun], list[str]]:
    """Read the ``.wandb`` files below a folder.

    Raises:
        OSError: if this version of wandb has no `wandb leet inspect`.
    """
    files = sorted(folder.rglob("*.wandb"))
    if files and not has_leet():
        raise OSError("offline W&B runs need `wandb leet inspect`: pip install --upgrade wandb; or `wandb sync` uploads them")
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(_offline, files))
    runs = [run for run in found if isinstance(run, LoggedRun)]
    return runs, [line for line in found if isinstance(line, str)]


def has_leet() -> bool:
    """Return whether the installed wandb can inspect its own offline files."""
    try:
        return _wandb("leet", "inspect", "--help").returncode == 0
    except OSError:
        return False


def _wandb(*arguments: str) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).with_name("wandb")  # of this environment, whatever else is on the path
    program = str(beside) if beside.is_file() else shutil.which("wandb") or "wandb"
    try:
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise OSError(f"`wandb {' '.join(arguments)}` has not answered within {TIMEOUT_S} s") from None


def _offline(file: Path) -> LoggedRun | str:
    """Return the run of a file, or a line that says why it has none."""
    try:
        done = _wandb("leet", "inspect", "--summary", "--json", str(file))
        told = json.loads(done.stdout)
        record = {"verb": None, "started": told.get("start_time")}
        lines = partial(_offline_history, file)
        state = OFFLINE_STATUSES.get(told["state"], told["state"])
        return _logged(told["name"] or told["run_id"] or file.stem, state, told["config"], told["summary"], record, lines=lines)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        return f"{file}: {type(error).__name__}: {error}"


def _offline_history(file: Path) -> list[dict[str, Any]]:
    done = _wandb("leet", "inspect", "--json", str(file))
    records = (json.loads(line) for line in done.stdout.splitlines() if '"history"' in line)
    return [_own(record["history"]["item"]) for record in records if record["type"] == "history"]


def _logged(
    name: str, status: str, config: Mapping[str, Any], summary: Mapping[str, Any], record: Mapping[str, Any], **more: Any
) -> LoggedRun:
    """Return a run; one that this code has mirrored says under ``origin`` what its record does."""
    config, metrics = dict(config or {}), _own(summary or {})
    origin = config.pop("origin", None) or {}
    record = {key: value for key, value in record.items() if value is not None}
    return logged_run(
        name, status=status, config={key: value for key, value in config.items() if key != "_wandb"},
        record={**record, **origin, "metrics": metrics}, **more,
    )  # fmt: skip


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run has logged itself: without W&B's own counters, its media and the units."""
    return {key: value for key, value in values.items() if key[0] != "_" and not isinstance(value, Mapping)}
