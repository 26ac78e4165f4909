"""`python -m experiments.compare`: show logged runs side by side, from their folders or from W&B."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, ListConfig

from experiments.reporting import comparison
from experiments.reporting.curves import curves
from experiments.reporting.formats import cell_text, to_csv, to_json, to_latex, to_markdown
from experiments.reporting.markdown import ABSENT
from experiments.reporting.runs import read_and_warn
from experiments.reporting.wandb_runs import SCHEME, read_wandb
from experiments.setup.cli import main
from experiments.setup.command_line import quoted
from rapid_inr.errors import UserError
from rapid_inr.plots.overlay import overlaid_curves

TEXTS = ("where", "group_by", "metric", "baseline", "sort")  # Hydra takes these literally
FORMATS = ("table", "md", "csv", "latex", "json")
MOST_KEYS, MOST_METRICS, MOST_NAMED = 8, 5, 5  # shown
LEGEND = f"Δ: difference from the baseline, ratio to it (x), and p of Welch's test; {ABSENT}: not measured, or does not apply."
WIDEST_CELL = 40  # in a terminal; a path may be longer


def as_text(argument: str) -> str:
    """Return an argument; the value of one of `TEXTS` is put in quotes, so that Hydra ignores its commas and signs."""
    key, sign, value = argument.partition("=")
    plain = key in TEXTS and sign and value not in ("", "null") and value[0] not in '"['
    return f"{key}={quoted(value)}" if plain else argument


def names(value: str | ListConfig | None) -> list[str] | None:
    """Return the names in a setting: a list, or a text with commas."""
    listed = value.split(",") if isinstance(value, str) else value
    return listed and [str(name).strip() for name in listed]


def compared(cfg: DictConfig, verb: str, runs: pd.DataFrame, settings: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of one command's runs, as configured, and the keys in which they differ."""
    asked, metrics = names(cfg.group_by), names(cfg.metric)
    keys = comparison.differing(runs, settings) if asked in (None, ["run"]) else [comparison.resolve(runs, key) for key in asked]
    keys = ["run", *keys, "seed"] if asked == ["run"] else keys  # the run first: where there are too many keys, it is shown
    if comparison.mixes_code(runs, keys):
        if cfg.any_code:
            warn("different_code", [f"rows of {verb} average runs of different code"])
        else:
            warn("different_code", [f"{verb} runs of different code have rows of their own; any_code=true averages them"])
            keys.append("code")
    there = comparison.metrics_of(runs, settings)
    metrics = there if metrics == ["all"] else metrics or there[:MOST_METRICS]
    for name in set(metrics) - set(there):
        raise UserError(f"no finished run of {verb} has metric={name}; there are {', '.join(there) or 'none'}")
    table = comparison.grouped(runs, keys, metrics)
    if cfg.sort is not None:
        table = comparison.in_order(
            table, comparison.resolve(table, cfg.sort.removeprefix("-")), falling=cfg.sort.startswith("-")
        )
    if cfg.baseline is not None:
        table = comparison.with_differences(table, runs, keys, metrics, str(cfg.baseline))
    if asked is not None and (over := comparison.averaged_over(table, runs, keys, settings)):
        warn("averaged_over", [f"rows of {verb} average runs that differ in {', '.join(over)}"])
    return table, keys


def warn(name: str, messages: list[str]) -> None:
    more = [f"and {len(messages) - MOST_NAMED} more"] if len(messages) > MOST_NAMED else []
    for message in [*messages[:MOST_NAMED], *more]:
        print(f"warning [{name}]: {message}", file=sys.stderr)


def warn_of_limits(verb: str, runs: pd.DataFrame, settings: list[str]) -> None:
    """Say on stderr what the table leaves out: runs without a result, and times of different machines."""
    lost = comparison.without_result(runs, settings).query("status in ['failed', 'interrupted', 'crashed']")
    lost = lost.reindex(columns=[*lost, *({"error"} - set(lost))])
    errors = lost.error.map(lambda error: error if isinstance(error, str) else "no error on record")
    warn("not_finished", [f"{run}: {status}, {error}" for run, status, error in zip(lost.run, lost.status, errors, strict=True)])
    if (machines := runs[runs.status == "finished"].machine.nunique()) > 1:
        warn("different_machines", [f"the {verb} runs are of {machines} machines, between which times do not compare"])


def rendered(table: pd.DataFrame, keys: list[str], style: str) -> str:
    """Return a table as text; CSV and JSON have all columns, the others at most `MOST_KEYS` keys and none that says nothing."""
    if style in ("csv", "json"):
        return {"csv": to_csv, "json": to_json}[style](table.drop(columns="runs")).rstrip("\n")
    shown = comparison.telling(table, keys, MOST_KEYS)
    hidden = [key for key in keys if key not in shown]
    if hidden:
        warn("more_keys", [f"{len(hidden)} more keys differ: {', '.join(hidden)}; group_by=... chooses"])
    says_nothing = {"status": (table.status == "finished").all(), "run": bool(keys)}  # keys name the rows
    dull = [column for column in table if column not in keys and says_nothing.get(column)]
    table = table.drop(columns=["runs", *hidden, *dull])
    if style == "latex":
        return to_latex(table).rstrip("\n")
    text = table.map(_cut).to_string(index=False) if style == "table" else to_markdown(table, linked_from=Path())
    return f"{text}\n\n{LEGEND}" if any(column.startswith("Δ ") for column in table) else text


def _cut(cell: Any) -> str:
    text = cell_text(cell)
    return text if len(text) <= WIDEST_CELL or "/" in text else f"{text[: WIDEST_CELL - 1]}…"


def run_compare(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise UserError(f"format is {cfg.format!r}, expected one of {', '.join(FORMATS)}")
    runs = comparison.short_names(read_wandb(cfg.root) if cfg.root.startswith(SCHEME) else read_and_warn(cfg.root))
    settings = runs.attrs["settings"]
    if cfg.where is not None and (runs := comparison.query(runs, str(cfg.where))).empty:
        raise UserError(f"no run fulfils where={cfg.where}")
    verbs = sorted(runs.verb.unique())
    if len(verbs) > 1 and (cfg.format in ("csv", "json") or cfg.plot is not None or cfg.baseline is not None):
        raise UserError(f"these runs are of {', '.join(verbs)}; where=\"verb == '{verbs[0]}'\" takes those of one command")
    for verb in verbs:
        some = runs[runs.verb == verb].dropna(axis="columns", how="all")
        warn_of_limits(verb, some, settings)
        table, keys = compared(cfg, verb, some, settings)
        print(f"\n## {verb}\n" if len(verbs) > 1 else "", rendered(table, keys, cfg.format), sep="")
        if cfg.plot is not None:
            rows = {comparison.label_of(row, keys): runs.loc[row.runs] for _, row in table.iterrows()}
            panels = curves(rows, names(cfg.metric))
            if not panels:
                raise UserError("none of these runs has logged lines that curves could be drawn of")
            overlaid_curves(Path(cfg.plot), panels, x_label="epoch or line", title=f"{verb}: means over the runs of a row")
            print(f"curves in {cfg.plot}", file=sys.stderr)


if __name__ == "__main__":
    sys.argv[1:] = map(as_text, sys.argv[1:])
    main("compare", run_compare)
