"""`python -m experiments.report`: write one HTML page of claims, tables, figures, curves and sheets, from records."""

from __future__ import annotations

import base64
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from omegaconf import DictConfig
from PIL import Image

from experiments.reporting import open_questions, rate_distortion  # noqa: F401  # importing a module registers its tables
from experiments.reporting.cells import Link, number
from experiments.reporting.claims import PaperNumber, paper_table, read_paper
from experiments.reporting.curves import curves
from experiments.reporting.formats import cell_text
from experiments.reporting.markdown import ABSENT, NUMBER
from experiments.reporting.run_tables import RUN_TABLES, runs_of_their_own
from experiments.reporting.runs import read_and_warn
from experiments.reporting.search_table import read_search, search_table
from experiments.reporting.tables import MadeTable, made_tables, unfinished
from experiments.setup.cli import main
from experiments.setup.errors import optional
from experiments.setup.run_folder import require_file_can_be_written
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.plots.overlay import overlaid_curves

TEMPLATE = Path(__file__).parent / "reporting" / "report.html"
VERSIONS = ("python", "torch", "triton", "numpy")
DRAWN_AGAIN = "curves.png"  # the report draws its own curves, from the epochs on record
TRAINED = ("top1_pct", "miou_pct", "loss")
LONG = 40  # a cell of more letters may break into lines
Grid = dict[str, Any]


def grid(table: pd.DataFrame, out: Path) -> Grid:
    """Return a table for the template: columns with their kind, and cells as texts or links."""
    rows = [[_cell(value, out) for value in row] for row in table.to_numpy()]
    kinds = []
    for cells in zip(*rows, strict=True):
        plain = [cell["text"] for cell in cells if not cell["links"]]
        number_column = len(plain) == len(cells) and all(NUMBER.fullmatch(text) for text in plain)
        kinds.append("number" if number_column else "long" if max(map(len, plain), default=0) > LONG else "")
    return {"columns": list(zip(table.columns, kinds, strict=False)), "rows": rows}


def _cell(value: Any, out: Path) -> dict[str, Any]:
    links = value if isinstance(value, tuple) and value and isinstance(value[0], Link) else ()
    paths = [(link.text, Path(os.path.relpath(link.path, out.parent)).as_posix()) for link in links]
    hrefs = [{"text": text, "href": quote(path, safe="/#")} for text, path in paths]
    return {"text": cell_text(value), "links": hrefs}  # quoted: a folder's name must not become a scheme such as javascript:


def picture(path: Path, caption: str) -> dict[str, Any]:
    """Return a PNG for the template."""
    with Image.open(path) as image:
        width, height = image.size
    return {"data": base64.b64encode(path.read_bytes()).decode("ascii"), "width": width, "height": height, "caption": caption}


def drawn(draw: Callable[[Path], None], caption: str) -> dict[str, Any] | None:
    """Return the picture that a function draws; None without matplotlib."""
    with tempfile.TemporaryDirectory() as folder, optional("picture"):
        draw(Path(folder) / "picture.png")
        return picture(Path(folder) / "picture.png", caption)
    return None


def card(claimed: PaperNumber, tables: Sequence[MadeTable]) -> dict[str, str]:
    """Return a claim of the paper, our best result, and how many of our rows are within the claim."""
    rows = [(claim, made.preset) for made in tables for claim in made.claims if claim.number == claimed]
    rows = [(claim, preset) for claim, preset in rows if math.isfinite(claim.ours.mean)]
    title, paper = claimed.says[0].upper() + claimed.says[1:], f"The paper: {claimed.text}."
    if not rows:
        return {"title": title, "number": ABSENT, "line": f"{paper} Not measured yet.", "verdict": ""}
    less_is_better = claimed.at_most is not None
    best, preset = (min if less_is_better else max)(rows, key=lambda row: row[0].ours.mean)
    within = sum(claim.within is True for claim, _ in rows)
    verdict = "no" if within == 0 else "yes" if within == len(rows) or not less_is_better else "some"
    where = ", ".join(f"{label} {value}" for label, value in best.labels.items() if isinstance(value, str))
    line = f"{paper} Within it: {within} of {len(rows)} rows. The best: {where}, at preset {preset}."
    unit = claimed.unit if claimed.unit in ("%", "x") else f" {claimed.unit}"
    return {"title": title, "number": f"{number(best.ours.mean, 2)}{unit}", "line": line, "verdict": verdict}


def experiment_section(name: str, runs: pd.DataFrame, tables: Sequence[MadeTable], cfg: DictConfig) -> dict[str, Any]:
    """Return an experiment's tables with figures, the curves of its trainings, and the pictures of its runs."""
    parts, out = [], Path(cfg.out)
    for made in tables:
        shown = drawn(made.draw, f"{made.title}. {made.note}") if made.draws() else None
        claims = grid(made.claims_frame, out) if made.claims else None
        parts.append({"title": made.title, "note": made.note, "rows": grid(made.rows, out), "claims": claims, "picture": shown})
    own = runs[(runs.experiment == name) & (runs.status == "finished")]
    pictures = [_curves(some, f"{name}, preset {preset}: training") for preset, some in own.groupby("preset")]
    return {
        "title": name.replace("_", " ").capitalize(), "tables": parts, "pictures": [shown for shown in pictures if shown],
        "sheets": sheets(own, Path(cfg.root), limit=cfg.sheets), "unfinished": unfinished(runs, name),
        "commands": list(own.command.dropna()),
    }  # fmt: skip


def own_runs_section(runs: pd.DataFrame, cfg: DictConfig) -> dict[str, Any]:
    """Return the tables of runs without an experiment, and the pictures that ``pictures=`` names."""
    own, out = runs_of_their_own(runs), Path(cfg.out)
    made = {title: make(own) for title, make in RUN_TABLES.values()}
    parts = [{"title": title, "note": "", "rows": grid(rows, out)} for title, rows in made.items() if len(rows)]
    curves_of_all = _curves(own, "Trainings that belong to no experiment") if len(own) else None
    asked = [picture(Path(path), Path(path).name) for path in cfg.pictures]
    return {
        "title": "Other runs",
        "tables": parts,
        "pictures": [curves_of_all, *asked] if curves_of_all else asked,
        "sheets": sheets(own, Path(cfg.root), limit=cfg.sheets),
    }


def _curves(runs: pd.DataFrame, title: str) -> dict[str, Any] | None:
    """Return the curves of trainings: a line for each combination of labels, or for each run without labels."""
    labels = [name for name in runs if name.startswith("cfg.labels.") and name not in ("cfg.labels.seed", "cfg.labels.role")]
    told = runs[labels].apply(lambda row: ", ".join(map(str, row.dropna())), axis=1) if labels else pd.Series("", runs.index)
    panels = curves(dict(list(runs.groupby(told.where(told != "", runs.run), sort=False))), TRAINED)
    return drawn(lambda path: overlaid_curves(path, panels, x_label="epoch", title=title), title) if panels else None


def sheets(runs: pd.DataFrame, root: Path, *, limit: int) -> list[dict[str, Any]]:
    """Return the pictures in the folders of at most `limit` runs."""
    found = [sorted((root / run).glob("*.png")) for run in runs.run]
    kept = [[path for path in paths if path.name != DRAWN_AGAIN] for paths in found]
    some = [paths for paths in kept if paths][:limit]
    return [picture(path, f"{path.parent.name}: {path.stem.replace('_', ' ')}") for paths in some for path in paths]


def counted(values: Sequence[tuple[Any, ...]], headings: Sequence[str]) -> pd.DataFrame:
    """Return how often each tuple occurs, the most frequent first."""
    rows = [(*value, f"{count:,}") for value, count in Counter(values).most_common()]
    return pd.DataFrame(rows, columns=[*headings, "runs"], dtype=object)


def facts_of(done: pd.DataFrame, out: Path) -> dict[str, Grid]:
    """Return the machines, the commits and the warnings of runs."""
    versions = [f"version.{name}" for name in VERSIONS]
    places = list(done.reindex(columns=["machine", *versions]).itertuples(index=False, name=None))
    states = zip(done.commit, done.dirty, strict=True)
    commits = [(str(commit or "unknown")[:12], "changed" if dirty else "as committed") for commit, dirty in states]
    warned = [(warning.get("name"), warning.get("message")) for some in done.warnings for warning in some]
    first = dict(reversed(warned))  # the message of the first of each name
    return {
        "machines": grid(counted(places, ["machine", *VERSIONS]), out),
        "commits": grid(counted(commits, ["commit", "code"]), out),
        "warnings": grid(counted([(name, first[name]) for name, _ in warned], ["warning", "the first of them"]), out),
    }


def searches_section(cfg: DictConfig) -> dict[str, Any]:
    """Return the best trials of each search."""
    made = [search_table(path.parent) for path in sorted(Path(cfg.root).rglob("search.json"))]
    parts = [{"title": caption.replace("*", ""), "note": "", "rows": grid(table, Path(cfg.out))} for caption, table in made]
    return {"title": "Searches", "tables": parts}


def run_report(cfg: DictConfig) -> None:
    try:
        from jinja2 import Environment
    except ImportError:
        raise UserError("the report needs Jinja2: pip install jinja2") from None
    out = Path(cfg.out)
    require_file_can_be_written(out, overwrite=True)  # the same records make the same page
    runs, paper = read_and_warn(cfg.root), read_paper()
    done = runs[runs.status == "finished"]
    searched = {read_search(path.parent)["name"] for path in Path(cfg.root).rglob("search.json")}
    tables = {name: made_tables(runs, name) for name in sorted(set(runs.experiment.dropna()) - searched)}
    all_tables = [made for some in tables.values() for made in some]
    sections = [experiment_section(name, runs, some, cfg) for name, some in tables.items()]
    sections += [section for section in (searches_section(cfg), own_runs_section(runs, cfg)) if section["tables"]]
    days = f"{min(done.started.dropna(), default='')[:10]} to {max(done.started.dropna(), default='')[:10]}"
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        title="Rapid-INR: results",
        style=TEMPLATE.with_suffix(".css").read_text(encoding="utf-8"),
        lead=f"Made from {len(done):,} finished runs below {cfg.root}, {days}. {ABSENT}: not measured, or does not apply.",
        cards=[card(claimed, all_tables) for claimed in paper.values() if claimed.is_claim],
        sections=sections,
        paper=grid(paper_table(paper), out),
        **facts_of(done, out),
    )
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}: {len(done):,} finished runs, {len(text) / 1e6:.1f} MB; the page loads nothing from elsewhere")


if __name__ == "__main__":
    main("report", run_report)
