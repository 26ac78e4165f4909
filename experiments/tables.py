"""`python -m experiments.tables`: tables from the records of runs, offline: those of the README, and those of experiments."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from experiments.planning import experiment_names
from experiments.reporting.columns import TABLES, Record
from experiments.reporting.grids import Grid, Head, as_markdown
from experiments.reporting.measured import experiments_below
from experiments.reporting.records import markdown_table, read_records, replace_block
from experiments.reporting.search_table import search_table
from experiments.reporting.table_files import made_tables, markdown_of, write_tables
from experiments.reporting.table_grids import short_claims_grid
from experiments.setup.cli import CONFIGS, main
from experiments.setup.run_folder import require_folder_can_be_written
from rapid_inr.errors import UserError
from rapid_inr.files import atomic

BLOCK = re.compile(r"<!-- (results|experiment|claims|search):([\w-]+) -->")


def read_runs(root: Path, verb: str, *, linked_from: Path) -> list[Record]:
    """Read the finished runs of a verb, each with its configuration and a link to its record from a folder.

    The points of an experiment are left out: they have tables of their own.
    """
    runs = []
    for record in read_records(root, verb=verb):
        folder = root / record["run"]
        if (folder / "point.json").is_file():
            continue
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        link = Path(os.path.relpath(folder / "record.json", linked_from)).as_posix()
        runs.append(record | {"config": config, "link": link})
    return runs


def table_of(name: str, root: Path, *, linked_from: Path) -> str:
    """Return one of the README's tables as Markdown, for the runs below a folder, for a text in the folder `linked_from`."""
    table = TABLES[name]
    return markdown_table(table.rows(read_runs(root, table.verb, linked_from=linked_from)), table.columns)


def tables(root: Path, *, linked_from: Path) -> dict[str, str]:
    """Return all of them, by name."""
    return {name: table_of(name, root, linked_from=linked_from) for name in TABLES}


def filled(text: str, root: Path, *, linked_from: Path) -> str:
    """Return a Markdown text with its blocks made anew from the runs below a folder.

    A block ``results:NAME`` is a table of runs, ``experiment:NAME`` the tables of an experiment, ``claims:NAME`` of these the
    paper's claims alone, in few columns, and ``search:NAME`` what a search has come to.

    Raises:
        ValueError: if it has none, or one of a name that there is not.
    """
    blocks = BLOCK.findall(text)
    if not blocks:
        raise UserError("the text has no block <!-- KIND:NAME -->, with a KIND of results, experiment, claims or search")
    for kind, name in blocks:
        known = list(TABLES) if kind == "results" else search_names() if kind == "search" else experiment_names()
        if name not in known:
            raise UserError(f"the text has a block {kind}:{name}, expected of {', '.join(known)}")
        if kind == "results":
            content = table_of(name, root, linked_from=linked_from)
        elif kind == "search":
            content = markdown_of_search(root / "search" / name, linked_from=linked_from)
        elif kind == "claims":
            content = as_markdown(short_claims_grid(made_tables(name, root), linked_from=linked_from))
        else:
            content = markdown_of(made_tables(name, root), linked_from=linked_from)
        text = replace_block(text, f"{kind}:{name}", content)
    return text


def search_names() -> list[str]:
    return sorted(path.name for path in (CONFIGS / "search").iterdir())


def markdown_of_search(folder: Path, *, linked_from: Path) -> str:
    """Return the tables of a search as Markdown, one for each preset."""
    tables = []
    for path in sorted(folder.glob("*/search.json")):
        caption, table = search_table(path.parent, linked_from=linked_from)
        heads = [Head(name, right=pd.to_numeric(table[name], errors="coerce").notna().any()) for name in table]
        tables.append(f"{caption}\n\n{as_markdown(Grid(heads, table.to_numpy().tolist()))}")
    return "\n\n".join(tables) or "No search yet."


def run_tables(cfg: DictConfig) -> None:
    root, update = Path(cfg.root), cfg["update"]  # cfg.update is a method
    if update is not None:
        path = Path(update)
        text = filled(path.read_text(encoding="utf-8"), root, linked_from=path.parent)
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{path}: {len(BLOCK.findall(text))} tables brought up to date")
        return
    asked = cfg.get("experiment")
    names = experiments_below(root) if asked is None else [asked.name]
    made = {name: made_tables(name, root, scale=None if cfg.scale == "all" else cfg.scale) for name in names}
    if asked is None:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables(root, linked_from=Path()).items()))
    for some in made.values():
        print(f"\n{markdown_of(some, linked_from=Path())}")
    if cfg.out is not None:
        require_folder_can_be_written(Path(cfg.out))
        for folder in (folder for some in made.values() for folder in write_tables(some, Path(cfg.out))):
            print(f"\ntables, figures and the numbers behind them are in {folder}")


if __name__ == "__main__":
    main("tables", run_tables)
