"""`python -m experiments.tables`: the tables of the README, from the records that are committed under results/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.cli import main
from rapid_inr.tables import Column, markdown_table, metric, read_records, replace_block

Record = Mapping[str, Any]


def override(record: Record, key: str, default: str) -> str:
    """Return what a record's command line gave for a key."""
    words = dict(word.split("=", 1) for word in record["command"].split() if "=" in word)
    return words.get(key, default)


def machine(record: Record) -> str:
    facts = record["machine"]
    return facts.get("gpu") or f"{facts['cpu_cores']} cores, {facts['cpu'].replace('(R)', '')}"


RUN = Column("record", lambda r: f"[{r['run']}](results/{r['run']}/record.json)", right=False)
MACHINE = Column("machine", machine, right=False)
IMAGES = Column("images", metric("images", ",d"))
ENCODE = (
    Column("dataset", lambda r: override(r, "dataset", "shapes"), right=False),
    IMAGES,
    Column("INR", lambda r: override(r, "inr", "3x16"), right=False),
    Column("fit", lambda r: override(r, "fit", "fast"), right=False),
    Column("fitted, dB", metric("fit_psnr_db")),
    Column("stored, dB", metric("psnr_db")),
    Column("bpp", metric("bpp")),
    Column("% of RGB", metric("rgb_pct", ".1f")),
    Column("ms an image", metric("fit_ms_per_image", ",.0f")),
    MACHINE,
    RUN,
)
TRAIN = (
    Column("dataset", lambda r: override(r, "dataset", "shapes"), right=False),
    Column("pipeline", lambda r: override(r, "pipeline", "resident"), right=False),
    IMAGES,
    Column("backbone", lambda r: override(r, "backbone", "resnet18"), right=False),
    Column("epochs", metric("epochs", "d")),
    Column("bytes on the device", metric("device_bytes", ",d")),
    Column("top-1, %", metric("top1_pct", ".1f")),
    Column("images/s", metric("images_per_s", ",.0f")),
    MACHINE,
    RUN,
)
BENCHMARK_FIT = (
    IMAGES,
    Column("INR", lambda r: override(r, "inr", "3x16"), right=False),
    Column("fitted, dB", metric("fit_psnr_db")),
    Column("ms an image", metric("fit_ms_per_image", ".1f")),
    Column("images/s", metric("images_per_s", ".1f")),
    MACHINE,
    RUN,
)
DEMO = (
    IMAGES,
    Column("stored bytes", metric("store_bytes", ",d")),
    Column("% of RGB", metric("rgb_pct", ".1f")),
    Column("PSNR, dB", metric("psnr_db")),
    Column("top-1 from raw, %", metric("resident_top1_pct", ".1f")),
    Column("top-1 from INR, %", metric("inr_top1_pct", ".1f")),
    Column("images/s from raw", metric("resident_images_per_s", ",.0f")),
    Column("images/s from INR", metric("inr_images_per_s", ",.0f")),
    MACHINE,
    RUN,
)
TABLES = {"demo": DEMO, "encode": ENCODE, "train": TRAIN, "benchmark": BENCHMARK_FIT}


def run_tables(cfg: DictConfig) -> None:
    tables = {verb: markdown_table(read_records(cfg.root, verb=verb), columns) for verb, columns in TABLES.items()}
    if cfg.update is None:
        print("\n\n".join(f"{verb}\n\n{table}" for verb, table in tables.items()))
        return
    path = Path(cfg.update)
    text = path.read_text()
    for verb, table in tables.items():
        text = replace_block(text, f"results:{verb}", table)
    path.write_text(text)
    print(f"{path}: {len(tables)} tables brought up to date")


if __name__ == "__main__":
    main("tables", run_tables)
