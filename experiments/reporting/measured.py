"""An experiment as its folder shows it: the points that it asks for, what has become of each, and the tables that it wants."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.planning import experiment_names, experiment_of
from experiments.points import expand
from experiments.reporting.columns import machine
from experiments.reporting.records import read_record
from experiments.reporting.summaries import PointRun
from experiments.reporting.table_specs import TableSpec, read_specs
from experiments.setup.cli import compose_command
from rapid_inr.errors import UserError


@dataclass(frozen=True)
class Measured:
    """An experiment at a scale.

    Args:
        root: the folder that the runs of its points are named from.
        points: those that the experiment asks for, in its order, and behind them what else is in the folder.
    """

    name: str
    scale: str
    title: str
    root: Path
    points: Sequence[PointRun]
    tables: Sequence[TableSpec]

    @property
    def unfinished(self) -> list[str]:
        """Return a line for each point that came to nothing, and why, and one for those that have no record."""
        failed = [
            f"{point.name}: {point.status}" + (f", {error}" if (error := point.record.get("error")) else "")
            for point in self.points
            if point.status not in ("finished", "missing")
        ]
        missing = [point.name for point in self.points if point.status == "missing"]
        return [*failed, *([f"no record yet: {', '.join(missing)}"] if missing else [])]

    @property
    def machines(self) -> list[str]:
        """Return the devices that did the work, the one of most points first."""
        found = Counter(machine(point.record) for point in self.points if point.status == "finished")
        return [name for name, _ in found.most_common()]

    def link(self, point: PointRun, *, linked_from: Path) -> str:
        """Return the path of a point's record from a folder."""
        return Path(os.path.relpath(self.root / point.run / "record.json", linked_from)).as_posix()


def experiments_below(root: Path) -> list[str]:
    """Return the experiments that have a folder of their own in a folder of runs."""
    return [name for name in experiment_names() if (root / name).is_dir()]


def read_experiment(name: str, root: Path, *, scale: str | None = None) -> list[Measured]:
    """Return an experiment at every scale that is found in a folder of runs, or at one.

    Args:
        root: holds the experiment's folder, or is it, or is one whose subfolders are its points.
        scale: the only one to look at; without it, and where nothing was run, ``paper``.

    Raises:
        FileNotFoundError: if there is no such folder of runs.
        ValueError: if a record is not JSON, a point is there twice, or the experiment is not in order.
    """
    found = _points_in(_folder_of(name, root), root)
    scales = [scale] if scale else list(dict.fromkeys(at for at, _ in found)) or ["paper"]
    return [_at_scale(name, root, at, [point for there, point in found if there == at]) for at in scales]


def experiment_at(name: str, scale: str) -> dict[str, Any]:
    """Return the file of an experiment, what differs at a scale merged in."""
    return experiment_of(compose_command("sweep", [f"experiment={name}", f"scale={scale}"]))


def _folder_of(name: str, root: Path) -> Path | None:
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {root}")
    if (root / name).is_dir():
        return root / name
    return root if root.resolve().name == name or any(root.glob("*/point.json")) else None


def _points_in(folder: Path | None, root: Path) -> list[tuple[str, PointRun]]:
    """Return scale and point of each run in the folder of an experiment."""
    points = []
    for path in sorted(folder.rglob("point.json")) if folder else ():
        point, run = read_record(path), path.parent.relative_to(root).as_posix()
        record = read_record(path.with_name("record.json")) if path.with_name("record.json").is_file() else {}
        status = record.get("status", "missing")
        metrics = record.get("metrics", {}) if status == "finished" else {}
        labels = {label: str(value) for label, value in point["labels"].items()}
        points.append((point["scale"], PointRun(point["name"], record.get("verb", ""), labels, run, status, metrics, record)))
    return points


def _at_scale(name: str, root: Path, scale: str, found: Sequence[PointRun]) -> Measured:
    experiment = experiment_at(name, scale)
    there: dict[str, PointRun] = {}
    for point in found:
        if point.name in there:
            raise UserError(f"point {point.name} is there twice, in {there[point.name].run} and {point.run}; name one by root=")
        there[point.name] = point
    asked = [PointRun(point.name, point.verb, {k: str(v) for k, v in point.labels.items()}) for point in expand(experiment)]
    points = [replace(there.pop(point.name, point), verb=point.verb) for point in asked]
    return Measured(
        name,
        scale,
        experiment.get("title") or name.replace("_", " ").capitalize(),
        root,
        [*points, *there.values()],
        read_specs(experiment),
    )
