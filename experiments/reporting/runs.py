"""Logged runs as one DataFrame, a row a run: what tables, `compare`, the report and notebooks start from."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from experiments.setup.groups import inr_name, unread_groups
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import flatten
from rapid_inr.runlog.records import read_json, status_of

FACTS = ("started", "seconds", "commit", "dirty", "code", "command", "seed", "error")
RENAMED = ("_headspace", "_headroom")  # the end of metrics' names in records from before the renaming, and today's
SAID_ELSEWHERE = ("experiment_name", "preset", "seed", "run_dir")  # configuration that other columns hold
BAD_RUN = (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, yaml.YAMLError)
MOST_NESTED = 50  # mappings and lists within each other in a configuration
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where it was built
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # where a key of the outermost level begins


def read_runs(root: Path | str) -> pd.DataFrame:
    """Read every run below a folder, whatever became of it: folders with a ``record.json``, and lines of a ``records.jsonl``.

    A run that cannot be read is named in a warning and left out.

    Args:
        root: each line of a ``records.jsonl`` is one run, ``{"run": NAME, "config": {...}, "record": {...}}``.

    Returns:
        A row a run, ordered by ``run``, None or NaN where a run lacks a value, with these columns:

        run, path: the run's name, its folder relative to `root`; path of the file that holds its record
        verb, status: the command; ``finished``, ``failed``, ``interrupted``, ``running``, ``crashed``, ``running?`` (unknown)
        experiment, preset: what the run belongs to; None for a run of its own
        started, seconds, commit, dirty, code, command, seed, error: as its record has them; ``code`` is a digest of the source
        machine: the GPU if it was used, else cores and processor
        warnings: list of ``{"name": ..., "message": ...}``
        version.PACKAGE: of python, torch, triton, ...
        LABEL: each label of the run, as text
        METRIC: each metric under its own name
        cfg.KEY: the configuration, nested keys with dots; lists are JSON text; ``cfg.inr`` is DEPTHxWIDTH or cosine-BYTES. A
            training that uses no INRs lacks the groups that describe them, and one that uses no files lacks ``export``

        A label or metric with the name of a column that is further up is ``label.NAME`` or ``metric.NAME``.

    Raises:
        UserError: if there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no folder of runs at {root}; root=... names one")
    rows: list[dict[str, Any]] = []
    for path in _record_files(root):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.suffix == ".jsonl" else [None]
        for line in lines:
            try:
                rows.append(_row_of_folder(path, root) if line is None else _row_of_line(line, path, root))
            except BAD_RUN as error:
                reason = str(error).splitlines()[0] if str(error) else "no reason given"
                warnings.warn(f"{path} cannot be read and is left out: {type(error).__name__}: {reason}", stacklevel=2)
    columns = ("run", "path", "verb", "status", "experiment", "preset", *FACTS, "machine", "warnings")
    return pd.DataFrame(rows, columns=None if rows else columns).sort_values("run", ignore_index=True)


def read_and_warn(root: Path | str) -> pd.DataFrame:
    """Read runs for a command: what cannot be read is named on stderr, one line each.

    Raises:
        UserError: if there is no run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = read_runs(root)
    for warning in caught:
        print(f"warning [unreadable]: {warning.message}", file=sys.stderr)
    if runs.empty:
        raise UserError(f"no run to read below {root}; root=... names a folder of runs")
    return runs


def _record_files(root: Path) -> Iterator[Path]:
    """Yield the records below a folder; folders of W&B and hidden ones hold none."""
    for folder, folders, files in os.walk(root):  # which passes over what was removed meanwhile, or is somebody else's
        folders[:] = [name for name in folders if name != "wandb" and name[0] != "."]
        yield from (Path(folder, name) for name in ("record.json", "records.jsonl") if name in files)


def _row_of_folder(path: Path, root: Path) -> dict[str, Any]:
    folder, record = path.parent, read_json(path)
    config = parse_config((folder / "config.yaml").read_text(encoding="utf-8"))
    if (folder / "point.json").exists():
        config |= _from_point(read_json(folder / "point.json"), folder)
    return run_row(folder.relative_to(root).as_posix(), path, config, record, status=status_of(folder, record))


def _row_of_line(line: str, path: Path, root: Path) -> dict[str, Any]:
    kept = json.loads(line)
    folder, config, record = path.parent / kept["run"], kept["config"], kept["record"]
    if kept.get("point"):
        config |= _from_point(kept["point"], folder)
    return run_row(folder.relative_to(root).as_posix(), path, config, record, status=record["status"])


def _from_point(point: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what configurations say today, from the `point.json` of older runs; a folder above has the experiment's name."""
    above = folder.absolute().parent
    experiment = above.parent.name if above.name == point["scale"] else above.name
    return {"experiment_name": experiment, "preset": point["scale"], "labels": point["labels"]}


def run_row(run: str, path: Path | None, config: Mapping[str, Any], record: Mapping[str, Any], *, status: str) -> dict[str, Any]:
    """Return the row of a run, as `read_runs` describes it, from its configuration and its record."""
    if not isinstance(record["verb"], str) or not isinstance(status, str):
        raise TypeError("verb and status are not text")
    row = {"run": run, "path": path and path.as_posix(), "verb": record["verb"], "status": status}
    row |= {"experiment": config.get("experiment_name"), "preset": config.get("preset")}
    row |= {name: record.get(name) for name in FACTS}
    row |= {"machine": machine_of(record), "warnings": record.get("warnings") or []}
    row |= {f"version.{name}": version for name, version in (record.get("versions") or {}).items()}
    labels = {name: str(value) for name, value in (config.get("labels") or {}).items() if name != "seed" and value is not None}
    row |= {f"label.{name}" if name in row else name: value for name, value in labels.items()}
    metrics = {_today(name): value for name, value in (record.get("metrics") or {}).items()}
    row |= {f"metric.{name}" if name in row else name: value for name, value in metrics.items()}
    left_out = (*SAID_ELSEWHERE, *unread_groups(config))
    leaves = flatten({key: value for key, value in config.items() if key not in left_out}, "cfg.")
    settings = {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in leaves.items()}
    inr = {key: settings.get(f"cfg.inr.{key}") for key in ("depth", "hidden", "bytes")}
    if any(value is not None for value in inr.values()):
        settings["cfg.inr"] = inr_name(inr)
    return row | settings


def _today(metric: str) -> str:
    old, new = RENAMED
    return metric.removesuffix(old) + new if metric.endswith(old) else metric


def machine_of(record: Mapping[str, Any]) -> str | None:
    """Return the device that did the work: the GPU where the run used it, else cores and processor; None if not on record."""
    machine = record.get("machine") or {}
    if (record.get("metrics") or {}).get("device") == "cuda":
        return machine.get("gpu")
    return f"{machine['cpu_cores']} cores, {machine['cpu'].replace('(R)', '')}" if "cpu" in machine else None


def parse_config(text: str) -> dict[str, Any]:
    """Return a configuration; groups that many runs share word by word are parsed once, which is most of a study's."""
    config: dict[str, Any] = {}
    for block in _BLOCK.split(text):
        config |= _parsed(block) or {}
    return config


@lru_cache(maxsize=1 << 16)
def _parsed(text: str) -> Any:
    """Parse YAML as runs write it. Aliases may stand for billions of values, and deep nesting crashes libyaml."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MOST_NESTED:
            raise ValueError("config.yaml has aliases, or is nested too deeply")
    return yaml.load(text, Loader=_Loader)
