"""Find out whether the process of a run lives: by its pid on the same machine, by its heartbeat elsewhere.

A process is identified by its pid, its start time, and where the pid is valid: the machine, its boot and its pid namespace (each
container has one). Seen from elsewhere, a run lives if the file that it touches every `BEAT_S` is recent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

BEAT_S = 60.0
SILENT_S = 600.0  # ten beats, to allow for a busy file server or a clock that is minutes off


def this_process() -> dict[str, Any]:
    """Return the identity of this process: ``host``, ``pid``, ``start``, and ``where`` the pid is valid."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "start": _start_of(pid), "where": _where()}


def _where() -> str:
    """Return the machine's name and, on Linux, its boot id and the pid namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _start_of(pid: int) -> int | None:
    """Return the start of a process in ticks since boot; None if it is gone, a zombie, or the start is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # what follows the name, which may contain blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def lives(process: Mapping[str, Any], *, touched: float) -> bool:
    """Return whether a process lives.

    Args:
        process: from `this_process`.
        touched: last modification of the run's files, in seconds since 1970.
    """
    if process.get("where") != _where():
        return time.time() - touched < SILENT_S
    if process.get("start") is not None:
        return _start_of(process["pid"]) == process["start"]
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, under another user
    return True


class Heartbeat:
    """A thread that touches a file every `BEAT_S` until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path, self._stopped = path, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with suppress(OSError):  # a file server may be away for a while
                os.utime(self._path)

    def stop(self) -> None:
        """Stop the thread and wait for it to end."""
        self._stopped.set()
        self._thread.join()
