"""The folder of a search: what was chosen, in ``search.json``, and what the records of the points beside it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean

from experiments.points import Point
from experiments.reporting.comparing.records import status_of
from experiments.reporting.records import read_record
from experiments.search_space import Choices, Search
from experiments.trials import Trial
from rapid_inr.errors import UserError
from rapid_inr.runlog.liveness import Heartbeat, lives, this_process
from rapid_inr.runlog.run import write_json

FILE = "search.json"
HOLDER = "searching.json"  # there while a process searches


class Held(UserError):
    """Another process searches in the folder; the message names it."""


def read_choices(search: Search, folder: Path) -> list[dict[str, str]]:
    """Return the choices that were tried in a folder, in order; none where it holds no search.

    Raises:
        ValueError: if they are of another space.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        tried = read_record(path)["trials"]
        for choices in tried:
            search.require(choices)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {error}; run_dir=... names another folder, overwrite=true begins anew") from None
    return [{axis: choices[axis] for axis in search.space} for choices in tried]


def write_choices(search: Search, folder: Path, tried: Sequence[Choices], *, scale: str) -> None:
    """Write the choices of a search, tried or about to be, and its file, so that it can be told later what they are of."""
    write_json(folder / FILE, {"scale": scale, "search": search.whole, "trials": tried})


def forget(folder: Path) -> None:
    """Take away what a folder says of its points, and what was made of it."""
    for path in (*folder.glob("*/point.json"), *folder.glob("search.*")):
        (path.with_name("record.json") if path.name == "point.json" else path).unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a search, in which only one process may choose.

    Raises:
        Held: if another process holds it.
    """
    path = folder / HOLDER
    if path.is_file():
        with suppress(ValueError, KeyError):  # torn by a kill
            other = read_record(path)
            if lives(other, touched=path.stat().st_mtime):
                raise Held(f"process {other['pid']} on {other['host']} searches in {folder}; run_dir=... names another folder")
    write_json(path, this_process())
    beat = Heartbeat(path)
    try:
        yield
    finally:
        beat.stop()
        path.unlink(missing_ok=True)


def read_trials(
    search: Search, folder: Path, tried: Sequence[Choices], *, status: Callable[[Point], str] | None = None
) -> list[Trial]:
    """Return the trials of some choices, with what the records in a folder say of them.

    Args:
        status: of a point; by default what its record says.
    """
    status = status or (lambda point: recorded_status(folder / point.name))
    return [_trial(search, folder, number, choices, status) for number, choices in enumerate(tried, 1)]


def recorded_status(folder: Path) -> str:
    """Return what the record of a run says has become of it; ``missing`` or ``unreadable`` where it does not."""
    if not (folder / "record.json").is_file():
        return "missing"
    try:
        return status_of(folder, read_record(folder / "record.json"))
    except (ValueError, KeyError):
        return "unreadable"


def _trial(search: Search, folder: Path, number: int, choices: Choices, status: Callable[[Point], str]) -> Trial:
    points = search.points(choices, number=number)
    runs = [point.name for point in points if point.group == search.judge]
    unfinished = next((found for point in points if (found := status(point)) != "finished"), None)
    if unfinished is not None:
        return Trial(number, choices, None, unfinished, runs)
    measured = [read_record(folder / run / "record.json")["metrics"] for run in runs]
    lacking = [metric for metric in search.metrics if any(metrics.get(metric) is None for metrics in measured)]
    if lacking:
        return Trial(number, choices, None, f"no {lacking[0]}", runs)
    values = {metric: fmean(metrics[metric] for metrics in measured) for metric in search.metrics}
    return Trial(number, choices, values, "finished", runs)
