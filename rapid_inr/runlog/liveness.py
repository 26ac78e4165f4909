"""Whether the process of a run still lives: by its number where that can be looked up, by its heartbeat elsewhere.

A process is known by its number, its start time, and where that number counts: the boot of the machine and the space of process
numbers, of which a container has its own. Seen from elsewhere, a run lives while the file that it touches every `BEAT_S` is
fresh.
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
SILENT_S = 600.0  # ten beats: a busy file server or a clock that is off by some minutes is no death


def this_process() -> dict[str, Any]:
    """Return by what this process can be found again: ``host``, ``pid``, its ``start``, and ``where`` its number counts."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "start": _start_of(pid), "where": _where()}


def _where() -> str:
    """Return the machine, its boot and its space of process numbers; elsewhere than on Linux the name of the machine alone."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _start_of(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; None where it is gone, a zombie, or this is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold blanks and brackets
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def lives(process: Mapping[str, Any], *, touched: float) -> bool:
    """Return whether a process lives.

    Args:
        process: as `this_process` has described it.
        touched: when a file of its run was last written, in seconds since 1970.
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
        pass  # somebody else's, and there
    return True


class Heartbeat:
    """Touches a file every `BEAT_S`, from a thread of its own, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path, self._stopped = path, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with suppress(OSError):  # a file server that is away for a while must not end it
                os.utime(self._path)

    def stop(self) -> None:
        """Stop, and wait until no beat is under way."""
        self._stopped.set()
        self._thread.join()
