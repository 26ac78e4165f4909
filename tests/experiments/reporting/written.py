"""Folders of runs, and a sample experiment, for the tests of all that reads records."""

import json
from pathlib import Path

import pandas as pd
import yaml

from experiments.reporting.cells import summarize
from experiments.reporting.claims import Claim
from experiments.reporting.paper_tables import beside, only
from experiments.reporting.tables import Figure, Table

RECORD = {
    "verb": "train", "status": "finished", "started": "2026-11-25T10:00:00+00:00", "commit": "0123456789abcdef", "dirty": False,
    "code": "c0de", "seed": 0, "machine": {"cpu": "Fast", "cpu_cores": 2}, "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "warnings": [],
}  # fmt: skip


def write_run(
    folder: Path, *, config: dict | None = None, metrics: dict | None = None, lines: list | None = None, **record
) -> Path:
    """Write the folder of a run; keywords go to its record."""
    folder.mkdir(parents=True)
    whole = RECORD | {"command": f"python -m experiments.train run_dir={folder.name}", "metrics": metrics or {}} | record
    (folder / "record.json").write_text(json.dumps(whole))
    (folder / "config.yaml").write_text(yaml.safe_dump(config or {}, sort_keys=False))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines or []))
    return folder


def memory(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "encode"), ["dataset"], {"% of RGB": ("rgb_pct", 1), "stored bytes": ("store_bytes", 0)})


def accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    nets["raw"] = beside(nets, only(nets, codec="raw"), same=("dataset", "seed"))
    return summarize(nets, ["dataset", "codec", "variant"], {"top-1, %": ("top1_pct", 2), "points lost": ("raw", "top1_pct", 2)})


SAMPLE = [
    Table(
        "memory", "Memory", memory,
        claims=[Claim("memory_rgb_pct", "% of RGB"), Claim("quantizer", "stored bytes", {"dataset": ("a",)})],
    ),
    Table(
        "accuracy", "Accuracy", accuracy, claims=[Claim("accuracy_drop", "points lost", not_at=("small",))],
        figure=Figure("codec", "top-1, %", line=("dataset",)),
    ),
]  # fmt: skip


def write_sample(root: Path, *, preset: str = "cpu") -> Path:
    """Write the records of the sample experiment: dataset b failed to encode, and has raw images alone."""

    def write(name: str, verb: str, labels: dict, *, seed: int = 0, metrics: dict | None = None, **record) -> None:
        lines = [{"epoch": i, "top1_pct": 50.0 + i, "loss": 1.0} for i in range(3)] if verb == "train" else []
        config = {"experiment_name": "sample", "preset": preset, "labels": labels, "seed": seed}
        write_run(root / "sample" / preset / name, verb=verb, config=config, metrics=metrics, seed=seed, lines=lines, **record)

    write("encode-a", "encode", {"dataset": "a"}, metrics={"rgb_pct": 4.96, "store_bytes": 1234567})
    write("encode-b", "encode", {"dataset": "b"}, status="failed", error="ValueError: it | broke")
    for seed, raw, inr in ((0, 90.0, 89.0), (1, 94.0, 92.0)):
        write(f"raw-a-{seed}", "train", {"dataset": "a", "codec": "raw"}, seed=seed, metrics={"top1_pct": raw})
        write(
            f"inr-a-s-{seed}", "train", {"dataset": "a", "codec": "SIREN", "variant": "s"}, seed=seed, metrics={"top1_pct": inr}
        )
    write("raw-b-0", "train", {"dataset": "b", "codec": "raw"}, metrics={"top1_pct": 70.0})
    return root
