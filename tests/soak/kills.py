"""`python -m tests.soak.kills [TIMES [COMMAND ...]]`: SIGKILL at every change of a file; the same command then ends alike.

Python tells an audit hook of each file that is opened to be written, renamed, linked or removed. The kill comes before the k-th
of these, for every k; every second time a file that was to be written is left empty. Where TIMES are more than these moments,
the command that repeats is killed too, at a random one.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.soak.commands import empty_folder, leftovers
from tests.soak.forks import LOG, clean, code_of, fork, prepare, result_of, run

CHANGES = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.utime")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = Path("../events")
TIMES = {"encode": 100, "merge": 100, "train": 20, "multirun": 10, "export": 10}


def set_trap(at: int | None, *, torn: bool = False) -> None:
    """Kill this process before its change number `at`; None counts them in the file `EVENTS`.

    Args:
        torn: if that change is to write a file, leave it empty.
    """
    count = 0

    def see(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in CHANGES:
            return
        if event == "open" and (not isinstance(values[0], str) or not values[2] & WRITES or values[0].startswith("/dev/")):
            return
        count += 1
        if at is None:
            os.pwrite(events, str(count).encode(), 0)
        elif count == at:
            if torn and event == "open":
                Path(values[0]).write_bytes(b"")
            os.kill(os.getpid(), signal.SIGKILL)

    if at is None:
        events = os.open(EVENTS, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    sys.addaudithook(see)


def kill_and_repeat(name: str, at: int, expected: Any, *, again: int | None) -> str:
    """Kill a command once or twice, start it again, and compare the results."""
    clean(name)
    kills, codes = [point for point in (at, again) if point is not None], []
    for point in kills:
        codes.append(code_of(fork(name, first=lambda point=point: set_trap(point, torn=point % 2 == 1))))
        assert codes[-1] in (0, -signal.SIGKILL), LOG.read_text()
        if codes[-1] == 0:  # it ended before that change
            break
    else:
        run(name)
    assert result_of(name) == expected, f"{name} killed at {kills} ended with something else"
    left = [*leftovers(Path()), *map(str, Path().rglob("*.shard")), *map(str, Path().rglob(".lock"))]
    left = [path for path in left if not path.startswith("kept/")]
    assert not left, f"{name} killed at {kills} left {left}"
    return f"killed {sum(code != 0 for code in codes)} times"


def main(times: int | None, names: list[str]) -> None:
    rng = random.Random(0)
    with empty_folder():
        prepare()
        for name in names:
            clean(name)
            assert code_of(fork(name, first=lambda: set_trap(None))) == 0, LOG.read_text()
            n_changes, expected, outcomes = int(EVENTS.read_text()), result_of(name), Counter[str]()
            n = times or TIMES[name]
            first_round = range(1, n_changes + 1) if n >= n_changes else sorted(rng.sample(range(1, n_changes + 1), n))
            for i in range(n):
                again = None if i < len(first_round) else rng.randint(1, n_changes)
                outcomes[kill_and_repeat(name, first_round[i % len(first_round)], expected, again=again)] += 1
            print(f"{name}: {n_changes} changes of files, {n} times: {dict(outcomes)}, the same result each time", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2:] or list(TIMES))
