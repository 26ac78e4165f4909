"""A logged run as comparisons see it: its settings under dotted names, what it measured, and what has become of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATUSES = ("finished", "running", "running?", "interrupted", "failed", "dead")
NAMED_GROUPS = ("dataset", "pipeline", "codec")  # known by their names: `pipeline` stands for `pipeline.name`
ORIGIN = ("command", "commit", "dirty", "code", "started", "seconds", "error")


def no_lines() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class LoggedRun:
    """A run.

    Args:
        run: its name, that of its folder below the one that was read.
        status: one of `STATUSES`; ``dead`` is a run whose process is gone, ``running?`` one of which that cannot be known.
        settings: the configuration, flat, keys with dots; ``inr``, ``dataset``, ``pipeline`` and ``codec`` also in short.
        metrics: numbers, texts and lists, by name.
        facts: what else is on record, flat: ``commit``, ``code``, ``machine``, ``versions.torch``, ``point.AXIS``, ...
        lines: reads the lines of its metrics, such as one an epoch.
    """

    run: str
    verb: str
    status: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Callable[[], list[dict[str, Any]]] = no_lines

    def value(self, key: str) -> Any:
        """Return what a key stands for here: a setting, a fact, or a metric; None where this run has no such key."""
        if key in ("run", "verb", "status"):
            return getattr(self, key)
        for values in (self.settings, self.facts, self.metrics):
            if key in values:
                return values[key]
        return None

    def keys(self) -> set[str]:
        """Return all keys that have a value here."""
        return {"run", "verb", "status", *self.settings, *self.facts, *self.metrics}

    @property
    def code(self) -> str | None:
        """By what the code of the run is known: its digest, or else its commit; None where neither says it."""
        if self.facts.get("code") is not None:
            return self.facts["code"]
        return None if self.facts.get("dirty") is not False else self.facts.get("commit")


def logged_run(
    run: str,
    *,
    status: str,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    lines: Callable[[], list[dict[str, Any]]] = no_lines,
) -> LoggedRun:
    """Return a run from its configuration and its record, nested as they are written."""
    machine = record.get("machine") or {}
    facts = {key: record[key] for key in ORIGIN if record.get(key) is not None}
    facts |= {"machine": machine.get("gpu") or machine.get("cpu")} | flat(record.get("versions") or {}, "versions.")
    facts |= {f"point.{axis}": label for axis, label in (labels or {}).items()}
    settings = short_names(config) | flat(config)
    return LoggedRun(run, record.get("verb") or "run", status, settings, record.get("metrics") or {}, facts, lines)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def short_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what the groups that have a name are called: ``pipeline`` is that of a pipeline, ``inr`` DEPTHxHIDDEN."""
    found = {}
    for group in NAMED_GROUPS:
        if isinstance(config.get(group), Mapping) and "name" in config[group]:
            found[group] = config[group]["name"]
    inr = config.get("inr")
    if isinstance(inr, Mapping) and {"depth", "hidden"} <= set(inr):
        found["inr"] = f"{inr['depth']}x{inr['hidden']}"
    return found


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics file; a last line that is cut short, as by a kill, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found
