"""The registry of tables, and a table made at a preset: its rows, the claims beside them, a note and a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.reporting.cells import TOLD, Gap, Measured, summarize
from experiments.reporting.claims import Claim, ClaimRow, held_claims, read_paper
from experiments.reporting.comparison import differing, short_names, without_result
from experiments.reporting.formats import to_markdown
from experiments.reporting.markdown import ABSENT
from rapid_inr.errors import UserError
from rapid_inr.plots.tables import table_figure

NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "flowers102": "Flowers-102", "mini_imagenet": "Mini-ImageNet"}
SMOKE = "smoke"  # this preset shows that an experiment runs, and proves nothing
USUAL = {  # the columns of an experiment that has no table
    "% of RGB": ("rgb_pct", 1), "bpp": ("bpp", 2), "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4),
    "encoding, ms an image": ("encode_ms_per_image", 1), "top-1, %": ("top1_pct", 2), "images/s": ("images_per_s", 0),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """The figure of a table: column `y` over label or column `x`, a line for each combination of the labels `line`.

    Args:
        log: whether the x axis is logarithmic.
        title: of the figure; None: that of the table.
    """

    x: str
    y: str
    line: Sequence[str] = ()
    log: bool = False
    title: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of an experiment: `make` turns the finished runs of the experiment at one preset into its rows.

    Args:
        title: of the table; ``{dataset}`` in it is the dataset of its runs.
        each: a label; there is a table for each of its values, which replaces ``{}`` in the title.
        picture: draws the runs to a PNG, instead of `figure`.
    """

    name: str
    title: str
    make: Callable[[pd.DataFrame], pd.DataFrame]
    claims: Sequence[Claim] = ()
    figure: Figure | None = None
    each: str | None = None
    picture: Callable[[pd.DataFrame, Path], None] | None = None


TABLES: dict[str, list[Table]] = defaultdict(list)  # by experiment


def table(experiment: str, title: str, **options: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function as a table of an experiment; options are fields of `Table`."""

    def register(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
        TABLES[experiment].append(Table(make.__name__, title, make, **options))
        return make

    return register


@dataclass(frozen=True)
class MadeTable:
    """A table at a preset: its runs, and its rows as `summarize` returns them."""

    table: Table
    name: str
    title: str
    experiment: str
    preset: str
    runs: pd.DataFrame
    rows: pd.DataFrame
    claims: Sequence[ClaimRow]

    @property
    def machines(self) -> list[str]:
        """Return the devices of the runs, the most frequent first."""
        return list(self.runs.machine.value_counts().index)

    @property
    def note(self) -> str:
        """Return the preset, the machines, and whether cells are means or differences."""
        cells = [cell for cell in self.rows.to_numpy().flat if isinstance(cell, Measured) and cell.n > 1]
        spread = "; mean ± standard deviation over the runs of a row" if cells else ""
        if any(isinstance(cell, Gap) for cell in cells):
            spread += f'; a difference ± its standard error; one below {TOLD} standard errors is marked "no difference told"'
        if self.preset == SMOKE and self.table.claims:
            spread += "; this preset is no measurement, so it is not compared with the paper"
        return f"Preset {self.preset}; {'; '.join(self.machines)}{spread}."

    @property
    def claims_frame(self) -> pd.DataFrame:
        """Return the paper's numbers beside ours."""
        return pd.DataFrame([claim.long() for claim in self.claims], dtype=object)

    def markdown(self, *, linked_from: Path) -> str:
        """Return title, note, rows and claims."""
        parts = [f"**{self.title}.** {self.note}", to_markdown(self.rows, linked_from=linked_from)]
        if self.claims:
            parts.append(to_markdown(self.claims_frame, linked_from=linked_from))
        return "\n\n".join(parts)

    def draws(self) -> bool:
        """Return whether the table has a picture."""
        return self.table.picture is not None or (
            self.table.figure is not None and bool(figure_lines(self.rows, self.table.figure))
        )

    def draw(self, path: Path) -> None:
        """Draw the table's picture; if the paper claims a number for the drawn column, it is a line.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        if self.table.picture is not None:
            return self.table.picture(self.runs, path)
        figure = self.table.figure
        known = [c.number for c in self.claims if c.column == figure.y and isinstance(c.number.value, int | float)]
        return table_figure(
            path, figure_lines(self.rows, figure), x_label=figure.x, y_label=figure.y, log=figure.log,
            title=figure.title or self.title, legend=", ".join(figure.line),
            reference=(f"the paper: {known[0].text}", known[0].value) if known else None,
        )  # fmt: skip


def mixed_settings(made: MadeTable) -> list[str]:
    """Return the settings, seeds aside, in which runs differ that one cell averages: some were edited between two runs."""
    runs = short_names(made.runs)
    rows = [
        row for row in made.rows.to_dict("records") if any(isinstance(cell, Measured) and cell.n > 1 for cell in row.values())
    ]
    groups = [runs[runs.path.isin([link.path for link in row["records"]])] for row in rows]
    return list(dict.fromkeys(key for group in groups for key in differing(group, runs.attrs["settings"])))


def made_tables(runs: pd.DataFrame, experiment: str, *, preset: str | None = None) -> list[MadeTable]:
    """Return the tables of an experiment that have rows, at one preset or at all.

    Raises:
        UserError: if a run is there twice: its row would be the mean of one run.
    """
    own = runs[(runs.experiment == experiment) & (runs.status == "finished")]
    same = ["experiment", "preset", "verb", "seed", *(name for name in own if name.startswith("cfg."))]
    if (twice := own.duplicated(same)).any():
        raise UserError(f"{own.run[twice].iloc[0]} is there twice, with the same configuration; root=... names the folder of one")
    made = []
    for at, some in own.groupby("preset", sort=False):
        if preset in (None, at):
            for one in TABLES.get(experiment) or [Table("runs", "All runs", _all_runs)]:
                parts = some.groupby(one.each) if one.each in some else [("", some)]
                made += [_made(one, str(part), experiment, at, runs_of_part) for part, runs_of_part in parts]
    return [one for one in made if len(one.rows)]


def _made(one: Table, part: str, experiment: str, preset: str, runs: pd.DataFrame) -> MadeTable:
    rows = one.make(runs)
    if "records" in rows:  # otherwise its cells are of all runs
        runs = runs[runs.path.isin([link.path for links in rows.records for link in links])]
    claims = held_claims([] if preset == SMOKE else one.claims, rows, read_paper(), preset=preset)
    name = f"{one.name}_{part}" if part else one.name
    datasets = runs.get("cfg.dataset.name", pd.Series(dtype=str)).dropna().unique()
    title = one.title.format(part, dataset=", ".join(NAMES.get(dataset, dataset) for dataset in datasets))
    return MadeTable(one, name, title, experiment, preset, runs, rows, claims)


def _all_runs(runs: pd.DataFrame) -> pd.DataFrame:
    labels = [column.removeprefix("cfg.labels.") for column in runs if column.startswith("cfg.labels.")]
    table = summarize(runs, ["verb", *(label for label in labels if label != "seed")], USUAL)
    return table.dropna(axis="columns", how="all")


def unfinished(runs: pd.DataFrame, experiment: str, *, preset: str | None = None) -> list[str]:
    """Return a line for each run of an experiment, at one preset or at all, without a result; see `without_result`."""
    own = short_names(runs[(runs.experiment == experiment) & ((runs.preset == preset) | (preset is None))])
    lost = without_result(own, own.attrs["settings"])
    return [
        f"not measured: {r.run}: {r.status}" + (f", {r.error}" if isinstance(r.error, str) else "") for r in lost.itertuples()
    ]


def figure_lines(rows: pd.DataFrame, figure: Figure) -> dict[str, list[tuple[str | float, float, float]]]:
    """Return the lines of a figure: by label, x with mean and standard deviation of y."""
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
