"""The pictures of the report: figures of tables, curves of training, sheets of images."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.reporting.curves import measured_curves
from experiments.reporting.html_report import folded, picture
from experiments.reporting.measured import Measured
from experiments.reporting.summaries import UNNAMED
from experiments.reporting.table_files import draw, figure_lines
from experiments.reporting.table_grids import MadeTable, finished
from rapid_inr.plots.figures import rate_distortion_figure, training_curves

DRAWN_ANEW = "curves.png"  # from the epochs on record
MAX_CURVES = 10  # in one figure
Epochs = list[dict[str, Any]]


def drawn(write: Callable[[Path], None], caption: str) -> str:
    """Return a picture that a function writes, without leaving it on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write(path)
        return picture(path, caption)


def table_pictures(made: MadeTable) -> list[str]:
    """Return the figure of a table, if it has one and anything was measured."""
    lines = figure_lines(made)
    return [drawn(lambda path: draw(path, made, lines), f"{made.spec.title}. {made.note}")] if lines else []


def rate_distortion_pictures(measured: Measured) -> list[str]:
    """Return PSNR over bits per pixel, a picture a dataset, without what others have published."""
    folder = measured.root / measured.name
    folder = folder if folder.is_dir() else measured.root
    below = folder / measured.scale
    curves, _ = measured_curves(below if below.is_dir() else folder)
    made = []
    for dataset in dict.fromkeys(curve.dataset for curve in curves):
        own = [curve for curve in curves if curve.dataset == dataset]
        title = f"{dataset}: rate and distortion"
        made.append(drawn(lambda path, own=own, title=title: rate_distortion_figure(path, own, title=title), title))
    return made


def experiment_curves(measured: Measured) -> list[str]:
    """Return accuracy and loss over epochs of an experiment's trainings, a line for each combination of labels but the seed."""
    groups: dict[str, list[Epochs]] = defaultdict(list)
    trained = [point for point in finished(measured.points) if point.verb == "train"]
    differing = [
        label
        for label in dict.fromkeys(label for point in trained for label in point.labels)
        if label not in UNNAMED and len({point.labels.get(label) for point in trained}) > 1
    ]
    for point in trained:
        for epochs in _epochs_of(measured.root / point.run).values():
            groups[" ".join(point.labels[label] for label in differing if label in point.labels) or point.name].append(epochs)
    curves = {label: _mean_epochs(runs) for label, runs in groups.items()}
    averaged = any(len(runs) > 1 for runs in groups.values())
    return _curves(curves, f"{measured.title}: training", note="; means over seeds" * averaged)


def other_curves(root: Path, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return accuracy and loss over epochs of trainings that are no points of an experiment, a picture a dataset."""
    datasets: dict[str, dict[str, Epochs]] = defaultdict(dict)
    for record in records:
        for arm, epochs in _epochs_of(root / record["run"]).items():
            name = f"{record['run']}, {arm}" if record["verb"] == "demo" else record["run"]
            datasets[record["config"]["dataset"]["name"]][name] = _mean_epochs([epochs])
    return [part for dataset, curves in datasets.items() for part in _curves(curves, f"{dataset}: training")]


def _epochs_of(folder: Path) -> dict[str, Epochs]:
    """Return the epochs that a run has logged, by arm."""
    arms: dict[str, Epochs] = defaultdict(list)
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        if {"epoch", "top1_pct", "loss"} <= row.keys():
            arms[row.get("arm", "")].append(row)
    return arms


def _mean_epochs(runs: Sequence[Epochs]) -> Epochs:
    """Return the mean over runs of each epoch that all of them have; a loss that is null on record was no number."""

    def mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
        return fmean(math.nan if row[name] is None else row[name] for row in rows)

    by_epoch = [{row["epoch"]: row for row in epochs} for epochs in runs]  # a run that went on with another begins later
    shared = sorted(set.intersection(*(set(rows) for rows in by_epoch))) if by_epoch else ()
    return [{name: mean([rows[epoch] for rows in by_epoch], name) for name in ("epoch", "top1_pct", "loss")} for epoch in shared]


def _curves(curves: Mapping[str, Epochs], title: str, *, note: str = "") -> list[str]:
    shown = dict(list(curves.items())[:MAX_CURVES])
    if not shown:
        return []
    left = f"; {len(curves) - len(shown)} more runs are not drawn" if len(curves) > len(shown) else ""
    return [drawn(lambda path: training_curves(path, shown, title=title), f"{title}{note}{left}")]


def sheets(folders: Sequence[Path], *, limit: int) -> list[str]:
    """Return the pictures that runs have left in their folders, those of `limit` runs at most, all but the first run's folded."""
    found = {folder: [path for path in sorted(folder.glob("*.png")) if path.name != DRAWN_ANEW] for folder in folders}
    found = {folder: paths for folder, paths in found.items() if paths}
    shown = [
        [picture(path, f"{folder.name}: {path.stem.replace('_', ' ')}") for path in paths]
        for folder, paths in list(found.items())[:limit]
    ]
    if len(shown) < 2:
        return shown[0] if shown else []
    return [
        *shown[0],
        folded(f"Pictures of {len(shown) - 1} more of {len(found)} runs", *(p for some in shown[1:] for p in some)),
    ]
