"""`python -m experiments.report`: one HTML page with all tables, figures and sheets, from the records of runs, offline."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.planning import experiment_names
from experiments.reporting.claims import read_paper
from experiments.reporting.measured import experiments_below
from experiments.reporting.records import finished_records
from experiments.reporting.report_sections import (
    claims_section,
    experiment_section,
    machines_section,
    other_runs_section,
    paper_section,
    pictures_section,
    whole_page,
)
from experiments.reporting.table_files import made_tables
from experiments.setup.cli import main
from experiments.setup.run_folder import require_file_can_be_written
from rapid_inr.errors import UserError
from rapid_inr.files import atomic


def run_report(cfg: DictConfig) -> None:
    root, out = Path(cfg.root), Path(cfg.out)
    require_file_can_be_written(out, overwrite=True)  # of the same records it is the same page
    records = finished_records(root)
    if not records:
        raise UserError(f"no record of a finished run below {root}; root=... names a folder of runs")
    names = experiments_below(root) or [name for name in experiment_names() if root.resolve().name == name]
    made = {name: made_tables(name, root) for name in names}
    paper, sheets_shown = read_paper(), cfg.sheets
    sections = [
        claims_section(paper, [table for tables in made.values() for table in tables]),
        *(experiment_section(name, tables, out=out, sheets_shown=sheets_shown) for name, tables in made.items()),
        other_runs_section(root, out=out, sheets_shown=sheets_shown),
        pictures_section([Path(path) for path in cfg.pictures]),
        paper_section(paper),
        machines_section(records),
    ]
    text = whole_page([section for section in sections if section is not None], records, root=root)
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}: {len(records):,} records, {len(text) / 1e6:.1f} MB, nothing in it comes from elsewhere")


if __name__ == "__main__":
    main("report", run_report)
