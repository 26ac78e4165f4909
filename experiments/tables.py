"""`python -m experiments.tables`: the tables of the README, from the records that are committed under results/."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from experiments.cli import main
from experiments.columns import TABLES, Record
from rapid_inr.files import atomic
from rapid_inr.tables import markdown_table, read_records, replace_block


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


def tables(root: Path, *, linked_from: Path) -> dict[str, str]:
    """Return the Markdown tables, by name, for the runs below a folder, for a text in the folder `linked_from`."""
    return {
        name: markdown_table(table.rows(read_runs(root, table.verb, linked_from=linked_from)), table.columns)
        for name, table in TABLES.items()
    }


def run_tables(cfg: DictConfig) -> None:
    root, update = Path(cfg.root), cfg["update"]  # cfg.update is a method
    if update is None:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables(root, linked_from=Path()).items()))
        return
    path = Path(update)
    text = path.read_text(encoding="utf-8")
    for name, table in tables(root, linked_from=path.parent).items():
        text = replace_block(text, f"results:{name}", table)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{path}: {len(TABLES)} tables brought up to date")


if __name__ == "__main__":
    main("tables", run_tables)
