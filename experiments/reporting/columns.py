"""The columns of the tables: cells from a record, its configuration, and its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.records import Column, metric

Record = Mapping[str, Any]  # of a run, with its resolved configuration as "config" and the link to it as "link"


def configured(key: str) -> Callable[[Record], str | None]:
    """Return a cell with a value of the run's configuration."""

    def cell(record: Record) -> str | None:
        value: Any = record["config"]
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return None if value is None else str(value)

    return cell


def inr_shape(record: Record) -> str | None:
    depth, hidden = configured("inr.depth")(record), configured("inr.hidden")(record)
    return None if depth is None or hidden is None else f"{depth}x{hidden}"


def machine(record: Record) -> str:
    """Return the device that did the work: the GPU where the run used it, else the processor."""
    facts = record["machine"]
    if record["metrics"].get("device") == "cuda":
        return facts["gpu"]
    return f"{facts['cpu_cores']} cores, {facts['cpu'].replace('(R)', '')}"


def figure(name: str, style: str) -> Callable[[Record], str | None]:
    """Return a cell that formats a figure of one row of a run that has many."""

    def cell(record: Record) -> str | None:
        value = record["row"].get(name)
        return None if value is None else format(value, style)

    return cell


def decode_rows(records: Sequence[Record], *, backend: str | None = None) -> list[Record]:
    """Return each record once for each of its rows, or those of a backend, with the row as "row"."""
    rows = [{**record, "row": row} for record in records for row in record["metrics"]["rows"]]
    return [record for record in rows if backend in (None, record["row"]["backend"])]


def of_suite(suite: str) -> Callable[[Sequence[Record]], list[Record]]:
    """Return what picks the records of a suite of the benchmark."""
    return lambda records: [record for record in records if record["config"]["suite"] == suite]


RUN = Column("record", lambda r: f"[{r['run']}]({r['link']})", right=False)
MACHINE = Column("machine", machine, right=False)
DATASET = Column("dataset", configured("dataset.name"), right=False)
IMAGES = Column("images", metric("images", ",d"))
INR = Column("INR", inr_shape, right=False)
STEPS = Column("steps", configured("fit.steps"))
ENCODE = (
    DATASET,
    IMAGES,
    INR,
    STEPS,
    Column("pruned", metric("prune_ratio", ".0%")),
    Column("bits", configured("quantize.bits")),
    Column("ends", configured("quantize.ends_bits")),
    Column("steps after", configured("refine.steps")),
    Column("fitted, dB", metric("fit_psnr_db")),
    Column("stored, dB", metric("psnr_db")),
    Column("bpp", metric("bpp")),
    Column("% of RGB", metric("rgb_pct", ".1f")),
    Column("ms an image", metric("encode_ms_per_image", ",.0f")),
    MACHINE,
    RUN,
)
TRAIN = (
    DATASET,
    Column("pipeline", configured("pipeline.name"), right=False),
    IMAGES,
    Column("ResNet-18 width", configured("backbone.width")),
    Column("epochs", metric("epochs", "d")),
    Column("bytes on the device", metric("device_bytes", ",d")),
    Column("top-1, %", metric("top1_pct", ".1f")),
    Column("images/s", metric("images_per_s", ",.0f")),
    MACHINE,
    RUN,
)
BENCHMARK_FIT = (
    DATASET,
    IMAGES,
    INR,
    STEPS,
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
DECODE_FIGURES = (
    Column("size", figure("size", ""), right=False),
    Column("batch", figure("batch", ",d")),
    Column("backend", figure("backend", ""), right=False),
    Column("images/s", figure("images_per_s", ",.0f")),
    Column("ms a batch", figure("ms", ",.2f")),
    Column("fastest", figure("fastest_ms", ",.2f")),
    Column("slowest", figure("slowest_ms", ",.2f")),
    Column("over `bmm`", figure("speedup", ".2f")),
    Column("of the sine bound", figure("of_sine", ".0%")),
    Column("of the matrix bound", figure("of_matrix", ".0%")),
    Column("of the bandwidth", figure("of_bandwidth", ".1%")),
    Column("one image at 32 px, us", figure("call_us", ",.0f")),
    Column("PSNR to float64, dB", figure("psnr_db", ".1f")),
    Column("lost at 35 dB, dB", figure("loss_db", "z.4f")),
)
DECODE_KERNEL = (
    Column("size", figure("size", ""), right=False),
    Column("images/s", figure("images_per_s", ",.0f")),
    Column("of the sine bound", figure("of_sine", ".0%")),
    Column("over `bmm`", figure("speedup", ".1f")),
    Column("PSNR to float64, dB", figure("psnr_db", ".1f")),
    Column("lost at 35 dB, dB", figure("loss_db", "z.4f")),
    MACHINE,
    RUN,
)
BENCHMARK_DECODE = (*DECODE_FIGURES, Column("threads", metric("threads", "d")), MACHINE, RUN)


@dataclass(frozen=True)
class Table:
    """A table of the README: the runs of a verb, what becomes of their records, and the columns."""

    verb: str
    columns: Sequence[Column]
    rows: Callable[[Sequence[Record]], list[Record]] = list


TABLES = {
    "demo": Table("demo", DEMO),
    "encode": Table("encode", ENCODE),
    "train": Table("train", TRAIN),
    "benchmark": Table("benchmark", BENCHMARK_FIT, of_suite("fit")),
    "decode_kernel": Table(
        "benchmark", DECODE_KERNEL, lambda records: decode_rows(of_suite("decode")(records), backend="kernel")
    ),
    "benchmark_decode": Table("benchmark", BENCHMARK_DECODE, lambda records: decode_rows(of_suite("decode")(records))),
}
