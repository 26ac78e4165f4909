"""What the searches in a folder of runs have come to: offline, from their records."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.reporting.columns import machine
from experiments.reporting.grids import Grid, as_markdown
from experiments.reporting.records import read_record
from experiments.search_folder import FILE, read_choices, read_trials
from experiments.search_space import Search, read_search
from experiments.trials import Trial, best, keeps_limits, ranked, trials_grid
from rapid_inr.evaluation.units import unit_of
from rapid_inr.plots.search import Dot, search_figure

SHOWN = 10  # trials in a table


@dataclass(frozen=True)
class SearchMade:
    """A search at a scale, and its trials.

    Args:
        folder: holds those.
    """

    search: Search
    scale: str
    folder: Path
    trials: Sequence[Trial]

    @property
    def title(self) -> str:
        goals = " and ".join(f"{sought} {metric}" for metric, sought in self.search.goals.items())
        limits = " and ".join(map(str, self.search.limits))
        return f"Search {self.search.name}: {goals}" + (f", {limits}" if limits else "")

    @property
    def note(self) -> str:
        """Return what holds for all trials, and how many of them a table shows."""
        records = [read_record(path) for trial in self.trials for run in trial.runs if (path := self._record(run)).is_file()]
        places = "; ".join(dict.fromkeys(machine(record) for record in records)) or "nothing measured yet"
        shown = f"the best {SHOWN} of {len(self.trials)} trials" if len(self.trials) > SHOWN else f"{len(self.trials)} trials"
        return f"Scale {self.scale}; {places}; {shown}."

    def grid(self, *, linked_from: Path) -> Grid:
        """Return the trials, the result first, with links from a folder to their records."""
        shown = ranked(self.search, self.trials)[:SHOWN]
        runs = [run for trial in shown for run in trial.runs if self._record(run).is_file()]
        links = {run: Path(os.path.relpath(self._record(run), linked_from)).as_posix() for run in runs}
        return trials_grid(self.search, shown, links)

    def _record(self, run: str) -> Path:
        return self.folder / run / "record.json"


def searches_below(root: Path, name: str | None = None) -> list[SearchMade]:
    """Return the searches whose folders lie below one, all or those of a name; what is none is named on stderr."""
    made = []
    for path in sorted(root.rglob(FILE)):
        try:
            made.append(_made(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"warning [no_search]: {path} is left out: {type(error).__name__}: {error}", file=sys.stderr)
    return [one for one in made if name in (None, one.search.name)]


def _made(path: Path) -> SearchMade:
    kept, folder = read_record(path), path.parent
    search = read_search(kept["search"])
    return SearchMade(search, kept["scale"], folder, read_trials(search, folder, read_choices(search, folder)))


def markdown_of_search(name: str, root: Path, *, linked_from: Path) -> str:
    """Return the tables of a search as Markdown, one for each folder that it was run in."""
    made = searches_below(root, name)
    tables = [f"**{one.title}.** {one.note}\n\n{as_markdown(one.grid(linked_from=linked_from))}" for one in made]
    return "\n\n".join(tables) or "No search yet."


def draw_search(search: Search, trials: Sequence[Trial], path: Path) -> None:
    """Draw the trials that came to something.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    front, goals = best(search, trials), list(search.goals)
    dots = [
        Dot(trial.number, [trial.values[goal] for goal in goals], keeps_limits(search, trial), trial in front)
        for trial in trials
        if trial.values is not None
    ]
    labels = [f"{goal}, {unit}" if (unit := unit_of(goal)) else goal for goal in goals]
    limits = "".join(f", {limit}" for limit in search.limits)
    title = f"{search.name}: {len(trials)} trials{limits}"
    search_figure(path, dots, labels, maximize=search.goals[goals[0]] == "maximize", title=title)
