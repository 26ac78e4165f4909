"""Logged runs as one DataFrame, a row a run, for tables, `compare`, the report and notebooks."""

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

from experiments.setup.groups import unread_groups
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.runlog.differences import flatten
from rapid_inr.runlog.records import inr_name, read_json, status_of

FACTS = ("started", "seconds", "commit", "dirty", "code", "command", "seed", "error")
SAID_ELSEWHERE = ("experiment_name", "preset", "seed", "run_dir")  # keys that other columns have
BAD_RUN = (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, yaml.YAMLError)
MOST_NESTED = 50  # mappings and lists within each other in a configuration
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version, if it was built
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # the start of a key at the top level


def read_runs(root: Path | str) -> pd.DataFrame:
    """Read every run below a folder, finished or not: folders with a ``record.json``, and lines of a ``records.jsonl``.

    A run that cannot be read is named in a warning and left out.

    Args:
        root: each line of a ``records.jsonl`` is one run, ``{"run": NAME, "config": {...}, "record": {...}}``, as `write_records`
            leaves them.

    Returns:
        A row a run, ordered by ``run``, None or NaN where a run lacks a value, with these columns:

        run, path: the run's name, its folder relative to `root`; its record, a file or ``FILE#L3``, the third line of one
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
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_row_of_folder(path, root) if line is None else _row_of_line(line, number, path, root))
            except BAD_RUN as error:
                reason = str(error).splitlines()[0] if str(error) else "no reason given"
                warnings.warn(f"{path} cannot be read and is left out: {type(error).__name__}: {reason}", stacklevel=2)
    columns = ("run", "path", "verb", "status", "experiment", "preset", *FACTS, "machine", "warnings")
    return pd.DataFrame(rows, columns=None if rows else columns).sort_values("run", ignore_index=True)


def read_and_warn(root: Path | str) -> pd.DataFrame:
    """Read runs for a command; name those that cannot be read on stderr, one line each.

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
    """Yield the records below a folder, except in folders of W&B and hidden ones."""
    for folder, folders, files in os.walk(root):  # skips folders that were removed meanwhile, or may not be read
        folders[:] = [name for name in folders if name != "wandb" and name[0] != "."]
        yield from (Path(folder, name) for name in ("record.json", "records.jsonl") if name in files)


def _row_of_folder(path: Path, root: Path) -> dict[str, Any]:
    folder, record = path.parent, read_json(path)
    config = parse_config((folder / "config.yaml").read_text(encoding="utf-8"))
    return run_row(folder.relative_to(root).as_posix(), path.as_posix(), config, record, status=status_of(folder, record))


def _row_of_line(line: str, number: int, path: Path, root: Path) -> dict[str, Any]:
    kept = json.loads(line)
    run = (path.parent / kept["run"]).relative_to(root).as_posix()
    return run_row(run, f"{path.as_posix()}#L{number}", kept["config"], kept["record"], status=kept["record"]["status"])


def write_records(root: Path | str, path: Path | str) -> int:
    """Write the finished runs in the folders below `root` as lines of a file; a line with the same name is replaced.

    Returns:
        How many were written.

    Raises:
        UserError: if there is none.
    """
    runs, path = read_runs(root), Path(path)
    done = runs[(runs.status == "finished") & ~runs.path.str.contains("#")]
    if done.empty:
        raise UserError(f"no finished run in the folders below {root}")
    earlier = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = {json.loads(line)["run"]: line for line in earlier}
    for run, file in zip(done.run, map(Path, done.path), strict=True):
        config = parse_config(file.with_name("config.yaml").read_text(encoding="utf-8"))
        lines[run] = json.dumps({"run": run, "config": config, "record": read_json(file)}, ensure_ascii=False)
    with atomic(path) as temporary:
        temporary.write_text("".join(f"{lines[run]}\n" for run in sorted(lines)), encoding="utf-8")
    return len(done)


def run_row(run: str, path: str | None, config: Mapping[str, Any], record: Mapping[str, Any], *, status: str) -> dict[str, Any]:
    """Return the row of a run, as `read_runs` describes it, from its configuration and its record."""
    if not isinstance(record["verb"], str) or not isinstance(status, str):
        raise TypeError("verb and status are not text")
    row = {"run": run, "path": path, "verb": record["verb"], "status": status}
    row |= {"experiment": config.get("experiment_name"), "preset": config.get("preset")}
    row |= {name: record.get(name) for name in FACTS}
    row |= {"machine": machine_of(record), "warnings": record.get("warnings") or []}
    row |= {f"version.{name}": version for name, version in (record.get("versions") or {}).items()}
    labels = {name: str(value) for name, value in (config.get("labels") or {}).items() if name != "seed" and value is not None}
    row |= {f"label.{name}" if name in row else name: value for name, value in labels.items()}
    metrics = record.get("metrics") or {}
    row |= {f"metric.{name}" if name in row else name: value for name, value in metrics.items()}
    left_out = (*SAID_ELSEWHERE, *unread_groups(config))
    leaves = flatten({key: value for key, value in config.items() if key not in left_out}, "cfg.")
    settings = {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in leaves.items()}
    inr = {key: settings.get(f"cfg.inr.{key}") for key in ("depth", "hidden", "bytes")}
    if any(value is not None for value in inr.values()):
        settings["cfg.inr"] = inr_name(inr)
    return row | settings


def machine_of(record: Mapping[str, Any]) -> str | None:
    """Return the device that did the work: the GPU if the run used it, else cores and processor; None if unknown."""
    machine = record.get("machine") or {}
    if (record.get("metrics") or {}).get("device") == "cuda":
        return machine.get("gpu")
    return f"{machine['cpu_cores']} cores, {machine['cpu'].replace('(R)', '')}" if "cpu" in machine else None


def parse_config(text: str) -> dict[str, Any]:
    """Return a configuration. Groups that many runs share are parsed only once."""
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
