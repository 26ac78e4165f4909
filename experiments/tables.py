"""`python -m experiments.tables`: print the tables of experiments and of single runs, from records."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from experiments.reporting import open_questions, rate_distortion  # noqa: F401  # importing a module registers its tables
from experiments.reporting.commands import commands_of
from experiments.reporting.formats import to_csv, to_json, to_latex, to_markdown
from experiments.reporting.glance import at_a_glance
from experiments.reporting.markdown import markdown_table, replace_block
from experiments.reporting.run_tables import RUN_TABLES, runs_of_their_own
from experiments.reporting.runs import read_and_warn, write_records
from experiments.reporting.search_table import read_search, search_table
from experiments.reporting.tables import TABLES, MadeTable, made_tables, mixed_settings, unfinished
from experiments.setup.cli import main
from experiments.setup.errors import optional
from experiments.setup.groups import require_choice
from experiments.setup.run_folder import require_folder_can_be_written
from rapid_inr.errors import UserError
from rapid_inr.files import atomic

BLOCK = re.compile(r"<!-- (results|experiment|table|search|glance):([\w/-]+) -->")
LARGEST = ("h200", "paper", "whole", "cpu", "smoke")  # presets, the one with the most images first
OF_EXPERIMENT = {one.name: experiment for experiment, tables in TABLES.items() for one in tables}


def filled(text: str, root: Path, *, linked_from: Path) -> str:
    """Return a Markdown text whose marked blocks are filled from the runs below a folder.

    A block ``results:NAME`` is a table of runs that belong to no experiment, ``experiment:NAME`` the tables of an experiment, or
    ``experiment:NAME/PART`` those of a part such as a dataset, ``table:NAME`` one of these tables at the preset with the most
    images, ``search:NAME`` the best trials of a search, and ``glance:claims`` one row a claim.

    Raises:
        UserError: if it has no block, or one with an unknown name.
    """
    blocks = BLOCK.findall(text)
    if not blocks:
        raise UserError("the text has no block <!-- KIND:NAME -->, with a KIND of results, experiment, table, search or glance")
    runs = read_and_warn(root)
    known = {"results": RUN_TABLES, "table": OF_EXPERIMENT, "glance": ["claims"], "experiment": known_experiments(runs)}
    for kind, block in blocks:
        if kind in known:
            require_choice(f"a block {kind}", block.partition("/")[0], known[kind])
        text = replace_block(text, f"{kind}:{block}", block_markdown(kind, block, runs, root, linked_from=linked_from))
    return text


def known_experiments(runs: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of all experiments that have a table or a run."""
    return tuple(dict.fromkeys([*TABLES, *runs.experiment.dropna()]))


def block_markdown(kind: str, block: str, runs: pd.DataFrame, root: Path, *, linked_from: Path) -> str:
    """Return the content of one block."""
    name, _, part = block.partition("/")
    if kind == "search":
        return search_markdown(root, name, linked_from=linked_from)
    if kind == "glance":
        return to_markdown(at_a_glance(runs), linked_from=linked_from)
    if kind == "results":
        return to_markdown(RUN_TABLES[name][1](runs_of_their_own(runs)), linked_from=linked_from)
    if kind == "table":
        made = [one for one in made_tables(runs, OF_EXPERIMENT[name]) if one.table.name == name]
        presets = {one.preset for one in made}
        largest = next((preset for preset in (*LARGEST, *presets) if preset in presets), None)
        return "\n\n".join(one.markdown(linked_from=linked_from) for one in made if one.preset == largest) or "Not measured yet."
    return experiment_markdown(runs, name, part=part, linked_from=linked_from)


def search_markdown(root: Path, name: str, *, linked_from: Path) -> str:
    """Return the best trials of a search, one table for each folder of it."""
    folders = [path.parent for path in sorted(root.rglob("search.json")) if read_search(path.parent)["name"] == name]
    made = [search_table(folder, linked_from=linked_from) for folder in folders]
    texts = [f"{caption}\n\n{markdown_table(table.to_dict('records'), table.columns)}" for caption, table in made]
    return "\n\n".join(texts) or "No search yet."


def experiment_markdown(runs: pd.DataFrame, name: str, *, linked_from: Path, preset: str | None = None, part: str = "") -> str:
    """Return the tables of an experiment or of a part of it, its commands, and a line for each of its runs without a result."""
    parts = []
    tables = [made for made in made_tables(runs, name, preset=preset) if not part or made.name.endswith(f"_{part}")]
    for made in tables:
        if mixed := mixed_settings(made):
            print(f"warning [averaged_over]: rows of {made.name} average runs that differ in {', '.join(mixed)}", file=sys.stderr)
    for at in dict.fromkeys(made.preset for made in tables):
        own = runs[(runs.experiment == name) & (runs.preset == at)]
        parts += [made.markdown(linked_from=linked_from) for made in tables if made.preset == at]
        parts += ["\n".join(f"    {command}" for command in commands_of(name, at, own))]
    if not tables and preset and (others := dict.fromkeys(made.preset for made in made_tables(runs, name))):
        parts += [f"No finished run of preset {preset}; there are runs of {', '.join(others)}."]
    parts += ["\n".join(f"- {line}" for line in unfinished(runs, name, preset=preset))]
    return "\n\n".join(filter(None, parts)) or "Not measured yet."


def write_table(made: MadeTable, out: Path) -> Path:
    """Write a table below a folder as ``EXPERIMENT/PRESET/TABLE.md``, .csv, .tex, .json and .png; return the folder.

    Without matplotlib the picture is left out, without Jinja2 the LaTeX; a line on stderr says so.
    """
    folder = out / made.experiment / made.preset
    texts = {"": made.rows} | ({"_claims": made.claims_frame} if made.claims else {})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / f"{made.name}.md") as path:
        path.write_text(made.markdown(linked_from=folder) + "\n", encoding="utf-8")
    for end, frame in texts.items():
        for kind, form in {"csv": to_csv, "json": to_json, "tex": to_latex}.items():
            with optional(kind), atomic(folder / f"{made.name}{end}.{kind}") as path:
                path.write_text(form(frame), encoding="utf-8")
    if made.draws():
        with optional("picture"):
            made.draw(folder / f"{made.name}.png")
    return folder


def run_tables(cfg: DictConfig) -> None:
    if cfg["update"] is not None:  # cfg.update is a method
        path = Path(cfg["update"])
        text = filled(path.read_text(encoding="utf-8"), Path(cfg.root), linked_from=path.parent)
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{path}: {len(BLOCK.findall(text))} tables brought up to date")
        return
    if cfg.records is not None:
        print(f"{cfg.records}: {write_records(cfg.root, cfg.records)} runs below {cfg.root} are in it")
        return
    runs = read_and_warn(cfg.root)
    if cfg.name is not None:
        require_choice("name", cfg.name, known_experiments(runs))
    names = [cfg.name] if cfg.name else sorted(set(runs.experiment.dropna()))
    if cfg.name is None:
        own = {title: make(runs_of_their_own(runs)) for title, make in RUN_TABLES.values()}
        print("\n\n".join(f"**{title}**\n\n{to_markdown(rows, linked_from=Path())}" for title, rows in own.items() if len(rows)))
    for name in names:
        print(f"\n# {name}\n\n{experiment_markdown(runs, name, linked_from=Path(), preset=cfg.preset)}")
    if cfg.out is not None:
        require_folder_can_be_written(Path(cfg.out))
        made = [one for name in names for one in made_tables(runs, name, preset=cfg.preset)]
        for folder in dict.fromkeys(write_table(one, Path(cfg.out)) for one in made):
            print(f"\ntables and figures are in {folder}")


if __name__ == "__main__":
    main("tables", run_tables)
