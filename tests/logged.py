"""Runs as comparisons see them, and folders of runs, for tests."""

import json
from pathlib import Path

import yaml

from experiments.reporting.comparing.logged import LoggedRun, logged_run


def made(run: str = "a", *, verb: str = "train", status: str = "finished", code: str | None = "c0de", **more) -> LoggedRun:
    """Return a run; keywords `config`, `metrics`, `labels` and `lines` as they are, others go to its record."""
    config, metrics = more.pop("config", {}), more.pop("metrics", {})
    extra = {key: more.pop(key) for key in ("labels", "lines") if key in more}
    record = {"verb": verb, "metrics": metrics, "code": code, **more}
    return logged_run(run, status=status, config=config, record=record, **extra)


def write_run(folder: Path, *, config: dict, metrics: dict, lines: list | None = None, **record) -> Path:
    """Write the folder of a run."""
    folder.mkdir(parents=True)
    facts = {"verb": "train", "status": "finished", "code": "c0de", "started": "2026-01-01T00:00:00+00:00", "warnings": []}
    (folder / "record.json").write_text(json.dumps(facts | {"metrics": metrics} | record))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines or []))
    return folder
