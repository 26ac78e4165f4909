"""The runs below a folder, thousands in seconds: each is two small files, and folders that hold no runs are not entered."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import yaml

from experiments.reporting.comparing.groups import STORES
from experiments.reporting.comparing.logged import LoggedRun, json_lines, logged_run
from rapid_inr.runlog.liveness import lives

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where it was built
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # where a key of the outermost level begins
MAKING = ("inr", "fit", "prune", "quantize", "refine", "seed")  # what an encode's settings say of its store


def read_runs(root: Path) -> tuple[list[LoggedRun], list[str]]:
    """Read the runs below a folder, whatever has become of them, in the order of their names.

    Returns:
        The runs, and a line for each that cannot be read.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {root}")
    runs, unread = [], []
    for folder, names in run_folders(root):
        try:
            runs.append(read_run(folder, names, root=root))
        except (ValueError, KeyError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0] if str(error) else ""
            unread.append(f"{folder.relative_to(root).as_posix()}: {type(error).__name__}: {reason}")
    return sorted(runs, key=lambda run: run.run), unread


def run_folders(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield the folders below `root`, itself included, that hold a record, each with the names that lie in it."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError:  # removed, or somebody else's
            continue
        if "record.json" in kinds:
            yield folder, set(kinds)
        waiting += [folder / name for name, is_folder in kinds.items() if is_folder and name != "wandb" and name[0] != "."]


def read_run(folder: Path, names: set[str], *, root: Path) -> LoggedRun:
    """Read a run.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OSError, YAMLError: if one of its files is torn or not a run's.
    """
    record = json.loads((folder / "record.json").read_bytes())
    config = read_config((folder / "config.yaml").read_text(encoding="utf-8"))
    labels = json.loads((folder / "point.json").read_bytes())["labels"] if "point.json" in names else None
    return logged_run(
        folder.relative_to(root).as_posix(), status=status_of(folder, record), config=config, record=record, labels=labels,
        lines=partial(json_lines, folder / "metrics.jsonl"),
    )  # fmt: skip


def read_config(text: str) -> dict[str, Any]:
    """Return a configuration; groups that many runs share word by word are parsed once, which is most of a study's.

    Raises:
        YAMLError: if it is none.
    """
    config: dict[str, Any] = {}
    try:
        for block in _BLOCK.split(text):
            config |= _parsed(block) or {}
    except (TypeError, yaml.YAMLError):  # a file that is written in another way
        return yaml.load(text, Loader=_Loader)
    return config


@lru_cache(maxsize=1 << 16)
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def status_of(folder: Path, record: Mapping[str, Any]) -> str:
    """Return what has become of a run: a record that says ``running`` is believed only if its process lives."""
    if record["status"] != "running":
        return record["status"]
    if "process" not in record:
        return "running?"  # of a version that did not say by which process
    files = (folder / name for name in ("record.json", "metrics.jsonl"))
    touched = max(path.stat().st_mtime for path in files if path.exists())
    return "running" if lives(record["process"], touched=touched) else "dead"


def with_store_settings(runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    """Return the runs, those that read a store with the settings of the run that made it, as ``store.inr`` and so on.

    The maker is the last encode to that path which had begun before. Without one, the path itself is what is known of a store.
    """
    made: dict[str, list[LoggedRun]] = {}
    for run in runs:
        if run.verb == "encode" and run.settings.get("out"):
            made.setdefault(os.path.normpath(run.settings["out"]), []).append(run)
    return [_with_makers(run, made) for run in runs] if made else list(runs)


def _with_makers(run: LoggedRun, made: Mapping[str, Sequence[LoggedRun]]) -> LoggedRun:
    settings = dict(run.settings)
    for key in STORES:
        path, began = settings.get(key), run.facts.get("started", "")
        makers = (
            [maker for maker in made.get(os.path.normpath(path), ()) if maker.facts.get("started", "") <= began] if path else []
        )
        if makers:
            maker = max(makers, key=lambda maker: maker.facts.get("started", ""))
            known = {name: value for name, value in maker.settings.items() if name.partition(".")[0] in MAKING}
            settings |= {f"{key}.{name}": value for name, value in known.items()}
    return replace(run, settings=settings) if len(settings) > len(run.settings) else run
