"""What runs have logged line by line, such as one line an epoch, as curves: means over runs within their range."""

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
    """Return a curve for each group of runs, and for each input pipeline that its runs have trained from.

    Args:
        groups: runs by label.
        metrics: which; None takes the first that are there.

    Returns:
        The curves by metric; none of those that no run has logged.
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
    """Return the lines that finished runs have logged, or all runs where none is, so that one can be watched.

    Returns:
        Their values, and ``at``, the epoch or line that each is of, from 1; a last line that a kill cut short is left out.
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
