"""Read the JSON files, the status and the INRs of runs, without pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rapid_inr.errors import UserError
from rapid_inr.runlog.liveness import lives


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        UserError: if it is not JSON or nested too deeply; the message names the file.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None


def status_of(folder: Path, record: Mapping[str, Any]) -> str:
    """Return the status of a run; a run recorded as ``running`` whose process no longer lives has crashed.

    Returns:
        ``finished``, ``failed``, ``interrupted``, ``running`` or ``crashed``; ``running?`` if the record names no process.
    """
    if record["status"] != "running":
        return record["status"]
    if not isinstance(record.get("process"), Mapping):
        return "running?"
    files = (folder / name for name in ("record.json", "metrics.jsonl"))
    touched = max((path.stat().st_mtime for path in files if path.exists()), default=0.0)
    return "running" if lives(record["process"], touched=touched) else "crashed"


def inr_name(inr: Mapping[str, Any]) -> str:
    """Return the name of INRs, as ``3x16`` or ``cosine-154``, from the values of the group ``inr`` of a configuration."""
    return f"cosine-{inr['bytes']}" if inr.get("bytes") is not None else f"{inr['depth']}x{inr['hidden']}"
