"""A run is a folder with its config, metrics and record; W&B mirrors it, and may fail without harm.

config.yaml     the resolved config
metrics.jsonl   one JSON object a line, flushed after each line
record.json     what the run is and how it ended; written at the start and replaced atomically at the end. While the run lasts,
                it names the process and is touched every minute, which tells a killed run from a running one
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from filelock import FileLock

from rapid_inr.errors import UserError, require
from rapid_inr.files import atomic, naming, remove_torn
from rapid_inr.runlog.liveness import Heartbeat, this_process
from rapid_inr.runlog.records import read_json, status_of
from rapid_inr.runlog.wandb_mirror import WandbMirror

TRACK_MODES = ("offline", "online", "off")
CODE_FOLDERS = ("kernels", "rapid_inr", "experiments", "configs")  # folders that decide a result; new files count as changes
PACKAGES = ("rapid-inr", "torch", "triton", "numpy", "pillow", "hydra-core")


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a file atomically; floats that are not finite become null."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV atomically, with a column for each name in any row; missing values stay empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _finite(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def machine() -> dict[str, Any]:
    """Describe the machine: CPU, cores, memory in GB, GPU if any, and the settings that can change the last bits of a result."""
    facts: dict[str, Any] = {"cpu": _cpu_name(), "cpu_cores": os.cpu_count(), "os": platform.system()}
    facts |= {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    return facts


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MB, including mapped files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes on macOS, KiB on Linux


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def code_state() -> dict[str, Any]:
    """Return the ``commit`` of this code and whether it is ``dirty`` (changed since); both None if git does not track it."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(here.parents[2]), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # code installed into an environment inside another checkout is in that folder, but does not belong to its commit
    if git("ls-files", "--error-unmatch", str(here)) is None:
        return {"commit": None, "dirty": None}
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", *CODE_FOLDERS)
    return {"commit": commit, "dirty": None if commit is None or changes is None else bool(changes)}


def code_digest() -> str:
    """Return a digest of the code, committed or not, to tell whether two runs used the same code.

    It excludes configs/, since a run records its config.
    """
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for folder in CODE_FOLDERS if folder != "configs" for path in (root / folder).rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()[:16]


class Run:
    """A run in progress: a context manager that writes its folder.

    Args:
        folder: to write to; made if missing.
        verb: the command, such as ``encode``.
        config: the resolved config as plain values.
        config_yaml: the config as text.
        command: the command line that repeats the run.
        track: how W&B mirrors the run: ``offline``, ``online`` or ``off``.
        overwrite: whether to replace an existing run.
        group: group of the run in W&B, such as its multirun.

    Raises:
        FileExistsError: if the folder holds a run and `overwrite` is false.
        UserError: if `track` is not one of the three or, on entering, if another process is running this run.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        verb: str,
        config: Mapping[str, Any],
        config_yaml: str,
        command: str,
        track: str = "offline",
        overwrite: bool = False,
        group: str | None = None,
    ) -> None:
        require(track in TRACK_MODES, "track", repr(track), f"one of {', '.join(TRACK_MODES)}")
        self.folder = Path(folder)
        if (self.folder / "record.json").exists() and not overwrite:
            raise FileExistsError(f"{self.folder} holds a run already; choose another run_dir, or overwrite=true")
        self.metrics: dict[str, Any] = {}
        self._config, self._config_yaml, self._track, self._group = dict(config), config_yaml, track, group
        self._record = {"verb": verb, "command": command, "seed": config.get("seed")}
        self._warnings: list[dict[str, str]] = []
        self._logging = threading.Lock()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._began = time.perf_counter()
        self._record |= {"started": datetime.now(UTC).isoformat(timespec="seconds"), **code_state()}
        self._record["code"] = code_digest()
        self._record |= {"versions": versions(), "machine": machine()}
        with FileLock(self.folder / ".lock"):  # if two processes start the same run at once, one fails
            self._require_not_running()
            remove_torn(self.folder)
            # after the record, or a kill in between would leave the old, finished record beside the new config
            self._write_record("running", process=this_process())
            with atomic(self.folder / "config.yaml") as temporary:
                temporary.write_text(self._config_yaml, encoding="utf-8")
            (self.folder / ".lock").unlink(missing_ok=True)  # a process that waits for it reads the record next
        self._lines = open(self.folder / "metrics.jsonl", "w", buffering=1, encoding="utf-8")
        self._heartbeat = Heartbeat(self.folder / "record.json")
        self._mirror = WandbMirror(self._track, self.folder, config=self._config, origin=self._record, group=self._group)
        return self

    def _require_not_running(self) -> None:
        try:
            running = status_of(self.folder, read_json(self.folder / "record.json")) == "running"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # no record, or a damaged one
        if running:
            raise UserError(f"{self.folder} is being run by another process")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = "finished" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        if kind is not None:
            self._record["error"] = f"{kind.__name__}: {error}".removesuffix(": ")
            self._record["traceback"] = "".join(traceback.format_exception(kind, error, trace))
            error.add_note(f"recorded in {self.folder}")
        self._lines.close()
        self._heartbeat.stop()
        self._write_record(status)
        self._mirror.finish(self.metrics, exit_code=0 if kind is None else 1)

    def log(self, **values: float | int | str) -> None:
        """Add a line to the metrics, for instance once an epoch; safe from any thread."""
        with self._logging:
            with naming(self.folder / "metrics.jsonl"):
                self._lines.write(json.dumps(_finite(values), allow_nan=False) + "\n")
            self._mirror.log(values)

    def warn(self, name: str, message: str) -> None:
        """Add a named warning to the record, and print it to stderr."""
        self._warnings.append({"name": name, "message": message})
        print(f"warning [{name}]: {message}", file=sys.stderr)

    def picture(self, name: str) -> Path:
        """Return the path of a figure in the run's folder, which W&B mirrors when the run ends."""
        path = self.folder / name
        self._mirror.pictures.append(path)
        return path

    def _write_record(self, status: str, **more: Any) -> None:
        seconds = round(time.perf_counter() - self._began, 3)
        write_json(
            self.folder / "record.json",
            {**self._record, "status": status, "seconds": seconds, "metrics": self.metrics, "warnings": self._warnings, **more},
        )
