"""The tables of runs without an experiment: a row a run, or a row for each line of a benchmark."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from experiments.reporting.cells import listed
from experiments.reporting.markdown import DECODE_COLUMNS

DATASET, IMAGES, INR, STEPS = ("cfg.dataset.name", ""), ("images", ",d"), ("cfg.inr", ""), ("cfg.fit.steps", "")


def demo(runs: pd.DataFrame) -> pd.DataFrame:
    return listed(runs[runs.verb == "demo"], {
        "images": IMAGES, "stored bytes": ("store_bytes", ",d"), "% of RGB": ("rgb_pct", ".1f"), "PSNR, dB": ("psnr_db", ".2f"),
        "top-1 from raw, %": ("resident_top1_pct", ".1f"), "top-1 from INR, %": ("inr_top1_pct", ".1f"),
        "images/s from raw": ("resident_images_per_s", ",.0f"), "images/s from INR": ("inr_images_per_s", ",.0f"),
    })  # fmt: skip


def encode(runs: pd.DataFrame) -> pd.DataFrame:
    return listed(runs[runs.verb == "encode"], {
        "dataset": DATASET, "images": IMAGES, "INR": INR, "steps": STEPS, "pruned": ("prune_ratio", ".0%"),
        "bits": ("cfg.quantize.bits", ""), "ends": ("cfg.quantize.ends_bits", ""), "steps after": ("cfg.refine.steps", ""),
        "fitted, dB": ("fit_psnr_db", ".2f"), "stored, dB": ("psnr_db", ".2f"), "bpp": ("bpp", ".2f"),
        "% of RGB": ("rgb_pct", ".1f"), "ms an image": ("encode_ms_per_image", ",.1f"),
    })  # fmt: skip


def train(runs: pd.DataFrame) -> pd.DataFrame:
    return listed(runs[runs.verb == "train"], {
        "dataset": DATASET, "pipeline": ("cfg.pipeline.name", ""), "images": IMAGES,
        "ResNet-18 width": ("cfg.backbone.width", ""), "epochs": ("epochs", "d"), "bytes on the device": ("device_bytes", ",d"),
        "top-1, %": ("top1_pct", ".1f"), "images/s": ("images_per_s", ",.0f"),
    })  # fmt: skip


def benchmark(runs: pd.DataFrame) -> pd.DataFrame:
    fits = _suite(runs, "fit")
    fits = fits.assign(cpu_threads=fits.threads.where(fits.device == "cpu")) if "threads" in fits else fits
    return listed(fits, {
        "dataset": DATASET, "images": IMAGES, "INR": INR, "steps": STEPS, "CPU threads": ("cpu_threads", ",.0f"),
        "fitted, dB": ("fit_psnr_db", ".2f"),
        "ms an image": ("fit_ms_per_image", ".1f"), "images/s": ("images_per_s", ".1f"),
    })  # fmt: skip


def benchmark_decode(runs: pd.DataFrame) -> pd.DataFrame:
    return listed(_decode_lines(runs), DECODE_COLUMNS | {"threads": ("threads", "d")})


def decode_rates(runs: pd.DataFrame) -> pd.DataFrame:
    lines = _decode_lines(runs)
    if lines.empty:
        return listed(lines, {})
    rates = lines.pivot_table("images_per_s", ["run", "path", "machine", "threads", "size"], "backend", sort=False).reset_index()
    if "torch" in rates:
        rates["cpu_threads"] = rates.threads.where(rates.torch.notna())
    return listed(rates, {
        "network@pixels": ("size", ""), "CPU threads": ("cpu_threads", ",.0f"), "Triton kernel, images/s": ("kernel", ",.0f"),
        "CPU backend": ("torch", ",.0f"), "layer by layer (`bmm`)": ("bmm chain", ",.0f"), "nvJPEG": ("nvjpeg", ",.0f"),
    })  # fmt: skip


def _suite(runs: pd.DataFrame, suite: str) -> pd.DataFrame:
    benchmarks = runs[runs.verb == "benchmark"]
    return benchmarks[benchmarks["cfg.suite"] == suite] if "cfg.suite" in runs else benchmarks


def _decode_lines(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each line of each run, with the run's machine, path and threads."""
    keep = ("run", "path", "machine", "threads")
    lines = [
        {name: run[name] for name in keep} | line for run in _suite(runs, "decode").to_dict("records") for line in run["rows"]
    ]
    return pd.DataFrame(lines)


RUN_TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {  # by the name of their block
    "demo": ("The demo", demo), "encode": ("Encoding", encode), "train": ("Training", train),
    "benchmark": ("Speed of fitting", benchmark), "decode_rates": ("Images decoded a second", decode_rates),
    "benchmark_decode": ("Speed of decoding", benchmark_decode),
}  # fmt: skip


def runs_of_their_own(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs without an experiment."""
    return runs[runs.experiment.isna() & (runs.status == "finished")]
