"""`python -m experiments.benchmark`: time fitting, decoding, or the input pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from experiments.benchmarks.decode import benchmark_decode
from experiments.benchmarks.fit import benchmark_fit
from experiments.benchmarks.pipelines import benchmark_pipelines
from experiments.reporting.markdown import DECODE_COLUMNS, formatted_table
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from rapid_inr.runlog.run import Run

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
