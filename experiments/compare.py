"""`python -m experiments.compare`: logged runs side by side, from their folders or from W&B; reads, runs nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from experiments.reporting.comparing.baseline import against, baselines
from experiments.reporting.comparing.curves import draw_curves
from experiments.reporting.comparing.groups import SEEDS, differing, headlines, in_order, metrics_of, rows_of
from experiments.reporting.comparing.logged import LoggedRun
from experiments.reporting.comparing.records import read_runs, with_store_settings
from experiments.reporting.comparing.render import FORMATS, Comparison, render
from experiments.reporting.comparing.wandb_runs import is_wandb, read_wandb
from experiments.reporting.comparing.where import known_keys, matching, parse, resolve
from experiments.setup.cli import main
from rapid_inr.errors import UserError

TEXTS = ("root", "where", "group_by", "metric", "baseline", "sort", "plot")  # whatever is in them, they are texts to Hydra
UNEXPLAINED = {"failed": "no error on record", "interrupted": "no error on record", "dead": "its process is gone"}
MOST_NAMED = 5  # runs that a warning names


def as_texts(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the values of `TEXTS` in quotes, so that Hydra leaves their commas and signs alone."""
    return [_as_text(*argument.partition("=")) for argument in arguments]


def _as_text(key: str, sign: str, value: str) -> str:
    plain = key in TEXTS and sign and value not in ("", "null") and value[0] not in "'\"["
    if not plain:
        return key + sign + value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"  # a number too, as a baseline may be


def names(cfg: DictConfig, key: str) -> list[str] | None:
    """Return the names that a setting lists, with commas or as a list."""
    value = cfg[key]
    if value is None:
        return None
    found = [str(name).strip() for name in (value if isinstance(value, ListConfig) else str(value).split(","))]
    if not all(found):
        raise UserError(f"{key} is {value!r}, expected names with commas between them")
    return found


def read(root: str) -> list[LoggedRun]:
    """Read the runs of a folder, or of W&B; what cannot be read is told on stderr."""
    runs, unread = read_wandb(root) if is_wandb(root) else read_runs(Path(root))
    _warn("unreadable", unread)
    if not runs:
        raise UserError(f"no run to read in root={root}")
    return with_store_settings(runs)


def compared(cfg: DictConfig, verb: str, runs: Sequence[LoggedRun]) -> Comparison:
    """Return the rows of the runs of one command, as a configuration asks for them."""
    known = known_keys(runs)
    by = names(cfg, "group_by")
    each = by == ["run"]
    keys = differing(runs, but=() if each else SEEDS) if by is None or each else [resolve(key, known) for key in by]
    rows = rows_of(runs, keys, each=each, any_code=cfg.any_code)
    if cfg.sort is not None:
        rows = in_order(rows, resolve(cfg.sort.removeprefix("-"), known), falling=cfg.sort.startswith("-"))
    asked = names(cfg, "metric")
    there = metrics_of(rows)
    metrics = headlines(rows) if asked is None else there if asked == ["all"] else asked
    for name in set(metrics) - set(there):
        raise UserError(f"no finished run of verb={verb} has metric={name}; there are {', '.join(there) or 'none'}")
    bases = [] if cfg.baseline is None else baselines(rows, str(cfg.baseline), runs)
    found = against(rows, bases, metrics) if bases else []
    return Comparison(verb, rows, metrics, frozenset(known), bases, found)


def warn_of_limits(comparison: Comparison) -> None:
    """Say on stderr what a table does not: runs that came to nothing, and what makes numbers hard to compare."""
    verb, runs = comparison.verb, [run for row in comparison.rows for run in row.runs]
    lost = [run for run in runs if run.status in UNEXPLAINED]
    _warn("not_finished", [f"{run.run}: {run.status}, {run.facts.get('error', UNEXPLAINED[run.status])}" for run in lost])
    finished = [run for run in runs if run.status == "finished"]
    unknown = sum(run.code is None for run in finished)
    if unknown and len(finished) > 1:
        _warn("unknown_code", [f"{unknown} of {len(finished)} {verb} runs do not say of which code they are"])
    for name, of, told in (
        ("different_code", {run.code for run in finished}, "versions of the code; group_by=run,code shows which"),
        ("different_machines", {run.facts.get("machine") for run in finished}, "machines; where=machine=... takes one"),
    ):  # fmt: skip
        if len(of - {None}) > 1:
            _warn(name, [f"the {verb} runs are of {len(of - {None})} {told}"])


def warn_of_mixtures(comparison: Comparison) -> None:
    """Say in which settings runs differ that chosen keys have put into one row."""
    shared = [row for row in comparison.rows if len(row.finished) > 1]
    keys = dict.fromkeys(key for row in shared for key in differing(row.finished, but=(*SEEDS, *row.keys)))
    if keys:
        _warn("averaged_over", [f"rows of {comparison.verb} average runs that differ in {', '.join(keys)}"])


def _warn(name: str, messages: Sequence[str]) -> None:
    for message in messages[:MOST_NAMED]:
        print(f"warning [{name}]: {message}", file=sys.stderr)
    if len(messages) > MOST_NAMED:
        print(f"warning [{name}]: and {len(messages) - MOST_NAMED} more", file=sys.stderr)


def run_compare(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise UserError(f"format is {cfg.format!r}, expected one of {', '.join(FORMATS)}")
    if not isinstance(cfg.any_code, bool):
        raise UserError(f"any_code is {cfg.any_code!r}, expected true or false")
    runs = read(cfg.root)
    if cfg.where is not None:
        chosen = matching(runs, parse(str(cfg.where), known_keys(runs)))
        if not chosen:
            raise UserError(f"none of {len(runs)} runs fulfils where={cfg.where}")
        runs = chosen
    verbs = sorted({run.verb for run in runs})
    if len(verbs) > 1 and (cfg.format == "csv" or cfg.plot is not None or cfg.baseline is not None):
        raise UserError(f"these runs are of {', '.join(verbs)}; where=verb={verbs[0]} takes those of one command")
    comparisons = [compared(cfg, verb, [run for run in runs if run.verb == verb]) for verb in verbs]
    for comparison in comparisons:
        warn_of_limits(comparison)
        warn_of_mixtures(comparison)
    print(as_text(comparisons, cfg.format))
    if cfg.plot is not None:
        draw_curves(Path(cfg.plot), comparisons[0], names(cfg, "metric"))
        print(f"curves in {cfg.plot}", file=sys.stderr)


def as_text(comparisons: Sequence[Comparison], style: str) -> str:
    """Return the tables of several commands, each under its name, in one text."""
    texts = [render(comparison, style) for comparison in comparisons]
    if style == "json":
        return "[" + ",\n".join(texts) + "]"
    if len(texts) == 1:
        return texts[0]
    marks = {"md": "## ", "latex": "% "}
    return "\n\n".join(f"{marks.get(style, '')}{c.verb}\n\n{text}" for c, text in zip(comparisons, texts, strict=True))


if __name__ == "__main__":
    sys.argv[1:] = as_texts(sys.argv[1:])
    main("compare", run_compare)
