"""W&B as a mirror of a run's folder; if W&B fails, it gives one warning and the run continues without it.

config      the config, and under ``origin`` the rest of the record: command, commit, versions, machine
tags        verb, dataset, pipeline, codec and INR
group       the multirun of the run
history     the lines of metrics.jsonl, over ``epoch`` if they have one
summary     the metrics, and under ``units`` the unit of each
media       the figures, and columns of images.csv as histograms
artifacts   the written store by reference: its path, size and checksum, without its bytes
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rapid_inr.evaluation.units import unit_of
from rapid_inr.runlog.records import inr_name

PROJECT = "rapid-inr"
FLUSH_S = 1.0  # between flushes of the offline run's file, so that a kill loses little; the default is 15 s
MAKES_STORES = ("encode", "merge")  # commands whose ``out`` is a store
HISTOGRAMS = ("psnr_db", "fit_psnr_db", "prune_ratio")  # columns of images.csv
LONGEST_TAG = 64  # letters, W&B's limit


class WandbMirror:
    """The mirror of one run.

    Args:
        track: ``offline``, ``online`` or ``off``.
        config: the resolved config.
        origin: the record's command, commit, versions and machine.
        group: the multirun of the run, if any.
    """

    def __init__(
        self, track: str, folder: Path, *, config: Mapping[str, Any], origin: Mapping[str, Any], group: str | None = None
    ) -> None:
        self.pictures: list[Path] = []
        self._folder, self._config, self._verb = folder, config, origin["verb"]
        self._run, self._by_epoch = None, False
        if track != "off":
            self._try(lambda: self._start(track, origin, group))

    def _start(self, track: str, origin: Mapping[str, Any], group: str | None) -> None:
        import wandb

        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True, init_timeout=60,
            x_transaction_log_flush_interval=FLUSH_S,
        )  # fmt: skip
        self._run = wandb.init(
            project=PROJECT, dir=str(self._folder), mode=track, name=self._folder.name, job_type=self._verb, settings=settings,
            config={**self._config, "origin": dict(origin)}, group=group, tags=tags(self._verb, self._config),
        )  # fmt: skip

    def log(self, values: Mapping[str, Any]) -> None:
        """Add a line of metrics."""
        if self._run is not None:
            self._try(lambda: self._log(dict(values)))

    def _log(self, values: dict[str, Any]) -> None:
        if "epoch" in values and not self._by_epoch:
            self._run.define_metric("*", step_metric="epoch")
            self._by_epoch = True
        self._run.log(values)

    def finish(self, metrics: Mapping[str, Any], *, exit_code: int) -> None:
        """Send the metrics and files of a finished run."""
        if self._run is not None:
            self._try(lambda: self._finish(metrics, exit_code))

    def _finish(self, metrics: Mapping[str, Any], exit_code: int) -> None:
        import wandb

        media = {path.stem: wandb.Image(str(path)) for path in self.pictures if path.is_file()}
        media |= {f"images/{name}": wandb.Histogram(values) for name, values in columns(self._folder / "images.csv").items()}
        if media:
            self._run.log(media)
        units = {name: unit for name in metrics if (unit := unit_of(name)) is not None}
        self._run.summary.update({**metrics, "units": units})
        if exit_code == 0 and self._verb in MAKES_STORES and (store := self._store()) is not None:
            artifact = wandb.Artifact(store.stem, type="store", metadata=_scalars(metrics))
            artifact.add_reference(store.as_uri())
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=exit_code)

    def _store(self) -> Path | None:
        """Return the store that this run wrote, or None, for instance if it only made some of the shards."""
        out = Path(self._config["out"]).resolve() if self._config.get("out") else None
        began = (self._folder / "config.yaml").stat().st_mtime
        return out if out is not None and out.is_file() and out.stat().st_mtime >= began else None

    def _try(self, action: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # users cannot act on the library's warnings
                action()
        except Exception as error:  # a broken mirror must not stop the run
            self._run = None
            print(f"warning [wandb]: {type(error).__name__}: {error}; the run continues without W&B", file=sys.stderr)


def tags(verb: str, config: Mapping[str, Any]) -> list[str]:
    """Return the W&B tags of a run, such as ``train``, ``cifar10``, ``inr:3x16``."""
    return [tag[:LONGEST_TAG] for tag in dict.fromkeys([verb, *_names(config)])]


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    for group in ("dataset", "pipeline", "codec"):
        name = (config.get(group) or {}).get("name")
        if name:
            yield name if group == "dataset" else f"{group}:{name}"
    inr = config.get("inr")
    if inr:
        yield f"inr:{inr_name(inr)}"


def columns(path: Path) -> dict[str, list[float]]:
    """Return the `HISTOGRAMS` columns of a CSV file whose values differ; empty without a file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    series = {name: [float(row[name]) for row in rows if row.get(name)] for name in HISTOGRAMS}
    return {name: values for name, values in series.items() if len(set(values)) > 1}


def _scalars(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
