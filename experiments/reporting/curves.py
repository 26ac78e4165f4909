"""The lines that runs logged, such as one an epoch, as curves: the mean over runs and their range."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rapid_inr.plots.overlay import Band

NO_METRICS = ("at", "epoch", "step")
MOST_PANELS = 6


def curves(groups: Mapping[str, pd.DataFrame], metrics: Sequence[str] | None = None) -> dict[str, list[Band]]:
    """Return a curve for each group of runs and each input pipeline in it.

    Args:
        groups: runs by label.
        metrics: which to draw; None: the first `MOST_PANELS`.

    Returns:
        The curves by metric. A metric that no run logged is left out.
    """
    panels: dict[str, list[Band]] = {}
    for label, runs in groups.items():
        pipelines = list(logged_lines(runs).groupby("pipeline", sort=False))
        for pipeline, lines in pipelines:
            told = f"{label}, {pipeline}" if len(pipelines) > 1 else label
            for name in metrics or [name for name in lines.select_dtypes("number") if name not in NO_METRICS]:
                if name in lines and lines[name].notna().any():
                    at = lines.groupby("at")[name].agg(["mean", "min", "max"]).dropna()
                    band = Band(told, list(at.index), *(list(at[edge]) for edge in ("mean", "min", "max")))
                    panels.setdefault(name, []).append(band)
    return dict(list(panels.items())[:MOST_PANELS])


def logged_lines(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that finished runs logged; if no run has finished, those of all runs, so that one can be watched.

    Returns:
        A row a line: its values, and ``at``, its epoch or number, from 1. A last line that was cut short is left out.
    """
    done = runs[runs.status == "finished"]
    lines: list[Mapping[str, Any]] = []
    for path in (done if len(done) else runs).path.dropna():
        file = Path(path).with_name("metrics.jsonl")
        for count, text in enumerate(file.read_text(encoding="utf-8").splitlines() if file.is_file() else (), start=1):
            try:
                line = json.loads(text)
            except ValueError:
                break
            at = line["epoch"] + 1 if "epoch" in line else count  # epochs are logged from 0
            lines.append({"pipeline": ""} | line | {"at": at})
    return pd.DataFrame(lines, columns=None if lines else ["pipeline", "at"])
