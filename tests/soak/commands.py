"""Commands in processes of their own, in a folder that is removed in the end."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.test_count=16", "track=off")
TINY = (*SHAPES, "inr=2x8")


@contextmanager
def empty_folder() -> Iterator[Path]:
    """Work in a new folder, which is removed with all that is in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def start(verb: str, *overrides: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a terminal does."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{verb}", *overrides], env=environment, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )  # fmt: skip


def finish(verb: str, *overrides: str) -> float:
    """Run a command to its end, which must be a good one; return the seconds it took."""
    began = time.perf_counter()
    process = start(verb, *overrides)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, f"{verb} {' '.join(overrides)}: {err}"
    return time.perf_counter() - began


def stop(process: subprocess.Popen[str], after_s: float, number: int) -> tuple[int, str]:
    """Send a signal to a command and its children after some time; return its exit code and what it said on stderr."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def group_lives(process: subprocess.Popen[str], *, after_s: float = 20.0) -> bool:
    """Return whether any process of a command's group is left after some time; workers look for their trainer every 2 s."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def digest_of(path: Path) -> str:
    """Return a digest of a file, or of all files of a folder and their names, hidden ones left out."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    for file in files:
        digest.update(f"{file.relative_to(path.parent)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files of writers below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.????????") if path.is_file())
