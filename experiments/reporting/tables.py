"""The registry of tables, and what becomes of one at a preset: rows, claims beside them, a note and a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.reporting.cells import ABSENT, Measured, summarize
from experiments.reporting.claims import Claim, ClaimRow, held_claims, read_paper
from experiments.reporting.formats import to_markdown
from rapid_inr.errors import UserError
from rapid_inr.plots.tables import table_figure

SMOKE = "smoke"  # the preset that shows that an experiment runs, and proves nothing
USUAL = {  # columns of an experiment without a table of its own
    "% of RGB": ("rgb_pct", 1), "bpp": ("bpp", 2), "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4),
    "encoding, ms an image": ("encode_ms_per_image", 1), "top-1, %": ("top1_pct", 2), "images/s": ("images_per_s", 0),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """What is drawn of a table: column `y` over label or column `x`, a line for each combination of the labels `line`.

    Args:
        log: whether numbers on x are spaced by their logarithm.
        title: of the figure; None for the table's.
    """

    x: str
    y: str
    line: Sequence[str] = ()
    log: bool = False
    title: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of an experiment: `make` turns the finished runs of the experiment at one preset into its rows."""

    name: str
    title: str
    make: Callable[[pd.DataFrame], pd.DataFrame]
    claims: Sequence[Claim] = ()
    figure: Figure | None = None


TABLES: dict[str, list[Table]] = defaultdict(list)  # by experiment


def table(experiment: str, title: str, *, claims: Sequence[Claim] = (), figure: Figure | None = None):
    """Register the function below as a table of an experiment."""

    def register(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
        TABLES[experiment].append(Table(make.__name__, title, make, claims, figure))
        return make

    return register


@dataclass(frozen=True)
class MadeTable:
    """A table at a preset, its rows as `summarize` returns them."""

    table: Table
    experiment: str
    preset: str
    rows: pd.DataFrame
    claims: Sequence[ClaimRow]
    machines: Sequence[str]
    commands: Sequence[str]

    @property
    def note(self) -> str:
        """Return what holds for the whole table."""
        averaged = any(isinstance(cell, Measured) and cell.n > 1 for cell in self.rows.to_numpy().flat)
        spread = "; mean ± standard deviation over the runs of a row" if averaged else ""
        return f"Preset {self.preset}; {'; '.join(self.machines)}{spread}."

    def markdown(self, *, linked_from: Path) -> str:
        """Return title, note, rows, claims and the commands that repeat it."""
        parts = [f"**{self.table.title}.** {self.note}", to_markdown(self.rows, linked_from=linked_from)]
        if self.claims:
            parts.append(to_markdown(pd.DataFrame([claim.long() for claim in self.claims], dtype=object), linked_from=linked_from))
        return "\n\n".join([*parts, "\n".join(f"    {command}" for command in self.commands)])

    def draw(self, path: Path) -> None:
        """Draw the table's figure, with the paper's number as a line where one is claimed of what is drawn.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        figure = self.table.figure
        number = next((c.number for c in self.claims if c.column == figure.y and isinstance(c.number.value, int | float)), None)
        table_figure(
            path, figure_lines(self.rows, figure), x_label=figure.x, y_label=figure.y, log=figure.log,
            title=figure.title or self.table.title, legend=", ".join(figure.line),
            reference=(f"the paper: {number.text}", number.value) if number else None,
        )  # fmt: skip


def experiment_of(name: str | None) -> str | None:
    """Return the experiment whose tables a run's experiment belongs to: ``speedup_photos`` is a part of ``speedup``."""
    if not isinstance(name, str):
        return None
    return max((known for known in TABLES if f"{name}_".startswith(f"{known}_")), key=len, default=name)


def made_tables(runs: pd.DataFrame, experiment: str, *, preset: str | None = None) -> list[MadeTable]:
    """Return the tables of an experiment that have rows, at every preset that it was run at, or at one."""
    own = runs[(runs.experiment.map(experiment_of) == experiment) & (runs.status == "finished")]
    paper = read_paper()
    made = []
    for at, some in own.groupby("preset", sort=False):
        if preset not in (None, at):
            continue
        for one in TABLES.get(experiment) or [Table("runs", "All runs", _all_runs)]:
            rows = one.make(some)
            if len(rows):
                shown = some[some.path.isin([link.path for links in rows.records for link in links])]
                claims = held_claims([] if at == SMOKE else one.claims, rows, paper, preset=at)
                machines = list(shown.machine.value_counts().index)
                made.append(MadeTable(one, experiment, at, rows, claims, machines, commands_of(shown)))
    return made


def _all_runs(runs: pd.DataFrame) -> pd.DataFrame:
    labels = [column.removeprefix("cfg.labels.") for column in runs if column.startswith("cfg.labels.")]
    table = summarize(runs, ["verb", *(label for label in labels if label != "seed")], USUAL)
    return table.dropna(axis="columns", how="all")


def commands_of(runs: pd.DataFrame) -> list[str]:
    """Return the commands that run the experiments of some runs again."""
    verbs = runs.verb.replace("segment", "train")  # which older records have as a command of its own
    return list(dict.fromkeys(f"python -m experiments.{v} -m experiment={e}/{p}" for v, e, p in zip(verbs, runs.experiment, runs.preset, strict=True)))


def unfinished(runs: pd.DataFrame, experiment: str) -> list[str]:
    """Return a line for each run of an experiment without a result."""
    lost = runs[(runs.experiment.map(experiment_of) == experiment) & (runs.status != "finished")]
    return [f"not measured: {r.run}: {r.status}" + (f", {r.error}" if isinstance(r.error, str) else "") for r in lost.itertuples()]


def figure_lines(rows: pd.DataFrame, figure: Figure) -> dict[str, list[tuple[str | float, float, float]]]:
    """Return what a figure draws: by the labels of each line, x with mean and standard deviation of y."""
    lines: dict[str, list[tuple[str | float, float, float]]] = defaultdict(list)
    for row in rows.to_dict("records"):
        x, y = row.get(figure.x), row[figure.y]
        if y is None or x is None or x != x:
            continue
        label = " ".join(str(row[label]) for label in figure.line if isinstance(row.get(label), str))
        lines[label or ABSENT].append((_number_or_text(x), y.mean, y.std or 0.0))
    return dict(lines)


def _number_or_text(x: str | Measured) -> str | float:
    try:
        return x.mean if isinstance(x, Measured) else float(x)
    except ValueError:
        return x
