"""`python -m experiments.benchmark`: how fast things are, as medians."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.benchmarks.decode import benchmark_decode
from experiments.benchmarks.pipelines import benchmark_pipelines
from experiments.reporting.markdown import DECODE_COLUMNS, formatted_table
from experiments.setup.build import build, build_device, build_source, build_spec
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from rapid_inr.data import load_all
from rapid_inr.data.reading import first_image
from rapid_inr.inr.fit import fit
from rapid_inr.runlog.run import Run


def benchmark_fit(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """Time fitting the images of ``cfg.dataset``, loaded beforehand."""
    source, device, config = build_source(cfg), build_device(cfg), build(cfg.fit)
    spec = build_spec(cfg, image_size=first_image(source, on_corrupt=cfg.dataset.on_corrupt).shape[:2])
    loaded = load_all(source, on_corrupt=cfg.dataset.on_corrupt)
    fit(loaded.images[:16], loaded.ids[:16], spec, config, device=device)  # warm up
    seconds = []
    for _ in range(cfg.repeats):
        began = time.perf_counter()
        result = fit(loaded.images, loaded.ids, spec, config, device=device)  # ends with a copy to the CPU: synchronised
        seconds.append(time.perf_counter() - began)
    per_image = 1e3 * median(seconds) / len(loaded.images)
    return {
        "images": len(loaded.images), "threads": torch.get_num_threads(), "fit_psnr_db": result.psnr_db.mean().item(),
        "fit_s": median(seconds), "fit_ms_per_image": per_image, "images_per_s": 1e3 / per_image,
        "fit_s_fastest": min(seconds), "fit_s_slowest": max(seconds),
    }  # fmt: skip


SUITES: dict[str, Callable[[DictConfig, Run], dict[str, Any]]] = {
    "fit": benchmark_fit, "decode": benchmark_decode, "pipelines": benchmark_pipelines,
}  # fmt: skip


def run_benchmark(cfg: DictConfig) -> None:
    with start_run(cfg, "benchmark") as run:
        run.metrics |= SUITES[cfg.suite](cfg, run)
    if "rows" in run.metrics:
        print(formatted_table(run.metrics["rows"], DECODE_COLUMNS))
    for name, value in run.metrics.items():
        if isinstance(value, list | dict):
            continue
        text = value if isinstance(value, str) else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        print(f"{name:18s} {text}")
    print(f"run in {run.folder}")


if __name__ == "__main__":
    main("benchmark", run_benchmark)
