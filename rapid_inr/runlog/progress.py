"""Progress bars on stderr for work counted in images or epochs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Report = Callable[[float], None]  # takes the work done since the last call


@contextmanager
def stage(report: Report | None, *, worth: float, share: float = 1.0) -> Iterator[Report | None]:
    """Yield a report for one stage of the work, which passes on `share` of each amount.

    At the end of the stage, the rest of its `worth` is reported too.
    """
    if report is None:
        yield None
        return
    left = worth

    def count(amount: float) -> None:
        nonlocal left
        left -= share * amount
        report(share * amount)

    yield count
    report(left)


class Bar:
    """A bar that shows the work done, its rate and the latest note."""

    def __init__(self, progress: Progress, task: int, unit: str, done: float) -> None:
        self._progress, self._task, self._unit, self._done_before = progress, task, unit, done
        self._began, self._note = time.perf_counter(), ""

    def advance(self, amount: float) -> None:
        """Count `amount` more units as done."""
        self._progress.advance(self._task, amount)
        done = self._progress.tasks[self._task].completed - self._done_before
        rate = done / max(time.perf_counter() - self._began, 1e-9)
        self._progress.update(self._task, facts=f"{rate:,.1f} {self._unit}/s{self._note}")

    def note(self, text: str) -> None:
        """Show `text` after the rate from now on."""
        self._note = f" · {text}"
        self.advance(0)


_lock = threading.Lock()
_shown: list[Progress] = []  # the display on the screen, once for each of its bars


@contextmanager
def progress_bar(what: str, total: float, *, unit: str, done: float = 0) -> Iterator[Bar]:
    """Show a bar while the block runs, below those of other threads; without a terminal, print one line at the end.

    Args:
        done: work of the total done before the block; rate and time left exclude it.
    """
    with _lock:
        progress = _shown[0] if _shown else _display()
        progress.start()
        _shown.append(progress)
    try:
        task = progress.add_task(what, total=total, completed=done, facts="")
        yield Bar(progress, task, unit, done)
        completed = progress.tasks[task].completed
        progress.update(task, completed=round(completed))  # a sum of fractions may be slightly too small
    finally:
        with _lock:
            _shown.pop()
            if not _shown:
                progress.stop()


def _display() -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"), TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    width = None if sys.stderr.isatty() else 140
    return Progress(*columns, console=Console(stderr=True, width=width), refresh_per_second=4)
