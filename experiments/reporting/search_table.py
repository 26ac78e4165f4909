"""The trials of a search as a table, the best first, from its ``search.json`` and the records of its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.reporting.markdown import ABSENT
from experiments.reporting.runs import read_runs

SHOWN = 10  # trials in a table
DIGITS = {"ssim": 4, "rgb_pct": 1, "bytes": 0, "images_per_s": 0}  # by the end of a metric's name; others have 2


def excess(limit: Mapping[str, float], value: float) -> float:
    """Return by how much a value breaks ``{at_most: NUMBER}`` or ``{at_least: NUMBER}``; 0 or less if it does not."""
    return value - limit["at_most"] if "at_most" in limit else limit["at_least"] - value


def metrics_of(search: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a search's goals and limits."""
    return list(dict.fromkeys([*search["goals"], *search["limits"]]))


def title_of(search: Mapping[str, Any]) -> str:
    goals = " and ".join(f"{direction} {metric}" for metric, direction in search["goals"].items())
    limits = " and ".join(
        f"{metric} {side.replace('_', ' ')} {bound:g}"
        for metric, limit in search["limits"].items()
        for side, bound in limit.items()
    )
    return f"Search {search['name']}: {goals}" + (f", {limits}" if limits else "")


def read_search(folder: Path) -> dict[str, Any]:
    """Return ``search.json``: name, preset, goals and limits of the search in a folder."""
    return {"limits": {}} | json.loads((folder / "search.json").read_text(encoding="utf-8"))


def read_trials(folder: Path) -> pd.DataFrame:
    """Return a row for each trial in the folder of a search: ``trial``, its choices, its metrics, ``status`` and ``path``."""
    runs, metrics = read_runs(folder), metrics_of(read_search(folder))
    labels = {name: name.removeprefix("cfg.labels.") for name in runs if name.startswith("cfg.labels.")}
    return runs.reindex(columns=[*labels, *metrics, "status", "path", "machine"]).rename(columns=labels)


def ranked(trials: pd.DataFrame, search: Mapping[str, Any]) -> pd.DataFrame:
    """Return trials with a column ``result``, the best first.

    It says ``best`` of those within the limits that no other beats in all goals, ``beyond`` of those that break a limit, what
    became of those without metrics, and nothing of the others.
    """
    trials = trials.sort_values("trial", ignore_index=True)
    measured = trials[metrics_of(search)].notna().all(axis=1) & (trials["status"] == "finished")
    within = measured.copy()
    for metric, limit in search["limits"].items():
        within &= excess(limit, trials[metric].astype(float)) <= 0
    signs = {goal: 1.0 if way == "minimize" else -1.0 for goal, way in search["goals"].items()}
    costs = trials[list(signs)].astype(float) * pd.Series(signs)
    kept = costs[within]

    def is_best(i: int) -> bool:
        """Return whether no other trial is as good in all goals and better in one; of equal trials the first is best."""
        no_worse = kept[(kept <= kept.loc[i]).all(axis=1)]
        return not any((kept.loc[j] < kept.loc[i]).any() or j < i for j in no_worse.index)

    best = pd.Series({i: bool(within[i]) and is_best(i) for i in trials.index}, dtype=bool)
    result = trials["status"].mask(measured, "beyond").mask(within, "").mask(best, "best")
    costs.insert(0, "tier", -(measured.astype(int) + within + best))
    return trials.assign(result=result).loc[costs.sort_values([*costs], kind="stable").index].reset_index(drop=True)


def search_table(folder: Path, *, linked_from: Path | None = None) -> tuple[str, pd.DataFrame]:
    """Return the caption and the best trials of the search in a folder, as texts.

    Args:
        linked_from: the folder of the text that shows the table; it adds a column of links to the records.
    """
    search, trials = read_search(folder), read_trials(folder)
    machines = "; ".join(trials["machine"].unique())
    best = ranked(trials, search)[:SHOWN]
    shown = f"the best {SHOWN} of {len(trials)} trials" if len(trials) > SHOWN else f"{len(trials)} trials"
    for metric in metrics_of(search):
        digits = next((digits for end, digits in DIGITS.items() if metric.endswith(end)), 2)
        best[metric] = [ABSENT if pd.isna(value) else f"{value:,.{digits}f}" for value in best[metric]]
    if linked_from is not None:
        best["records"] = [f"[record]({Path(os.path.relpath(path, linked_from)).as_posix()})" for path in best["path"]]
    caption = f"**{title_of(search)}.** Preset {search['preset']}; {machines}; {shown}."
    return caption, best.drop(columns=["status", "path", "machine"]).astype(str)
