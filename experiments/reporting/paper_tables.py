"""The tables of the paper's claims and of the parts of the method: each turns the runs of an experiment at a preset into rows.

To change a table, edit its short function: its columns are ``"heading": (metric, digits)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from experiments.reporting.cells import Columns, summarize, value_of
from experiments.reporting.claims import Claim
from experiments.reporting.tables import Figure, table
from rapid_inr.plots.speeds import speed_figure

QUALITY: Columns = {"% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4)}
RAW = {"codec": "raw"}
PIPELINES = {
    "resident": "resident", "INR": "inr", "ram": "ram", "DataLoader": "dataloader", "DALI": "dali",
    "DALI as published": "dali_published", "nvJPEG": "nvjpeg",
}  # fmt: skip


def only(runs: pd.DataFrame, verb: str | None = None, **labels: str | Sequence[str]) -> pd.DataFrame:
    """Return the runs of a command with certain labels; of several values, any fits."""
    wanted = labels if verb is None else {"verb": verb} | labels
    for column, values in wanted.items():
        runs = runs[runs[column].isin([values] if isinstance(values, str) else values)] if column in runs else runs[:0]
    return runs.copy()


def first_of(runs: pd.DataFrame, *columns: str) -> pd.Series:
    """Return for each run its first value in some columns."""
    return runs.reindex(columns=list(columns)).astype(float).bfill(axis=1).iloc[:, 0]


def beside(runs: pd.DataFrame, baseline: pd.DataFrame, metric: str = "top1_pct", *, same: Sequence[str] = ("seed",)) -> pd.Series:
    """Return for each run the metric of the baseline's run with the same labels; NaN for the baseline itself."""
    return value_of(runs, baseline, metric, same=same).mask(runs.index.isin(baseline.index))


def networks(runs: pd.DataFrame, by: Sequence[str], baseline: Mapping[str, str | Sequence[str]], **more: tuple) -> pd.DataFrame:
    """Return what each kind of images costs and how well networks learn from it, beside a baseline of the same seeds.

    Args:
        baseline: its labels.
        more: further columns, by heading.
    """
    nets = only(runs, "train")
    nets["psnr"] = first_of(nets, "store_psnr_db", "files_psnr_db")
    nets["image_bytes"] = first_of(nets, "store_bytes", "file_bytes", "device_bytes") / first_of(nets, "images")
    nets["baseline"] = beside(nets, only(nets, **baseline))
    return summarize(nets, by, {
        "bytes an image": ("image_bytes", 0), "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr", 2), "top-1, %": ("top1_pct", 2),
        "points lost": ("baseline", "top1_pct", 2), **more,
    })  # fmt: skip


def break_even(encode_ms_per_image: pd.Series, rival_images_per_s: pd.Series, own_images_per_s: pd.Series) -> pd.Series:
    """Return after how many epochs encoding has paid off; infinite if an epoch is no faster."""
    saved_s = 1 / rival_images_per_s - 1 / own_images_per_s  # for each image and epoch
    return (encode_ms_per_image / 1e3 / saved_s).mask(saved_s <= 0, math.inf)


@table(
    "memory", "Bytes of the stored training images",
    claims=[Claim("memory_rgb_pct", "% of RGB")],
    figure=Figure("% of RGB", "PSNR, dB", line=("dataset", "shape"), title="PSNR of the stored training images over their bytes"),
)  # fmt: skip
def memory(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "encode"), ["dataset", "shape", "variant"], {
        "images": ("images", 0), "pruned": ("prune_ratio", 2), "bytes": ("store_bytes", 0), "% of RGB": ("rgb_pct", 1),
        "bpp": ("bpp", 2), "PSNR, dB": ("psnr_db", 2), "to encode, ms an image": ("encode_ms_per_image", 2),
    })  # fmt: skip


@table(
    "accuracy", "ResNet-18 on {dataset} from raw images and from what each way keeps of them, tested on clean images",
    claims=[Claim("accuracy_drop", "points lost", {"codec": ("SIREN", "cosine series")}, not_at=("cpu",))],
    figure=Figure("% of RGB", "points lost", line=("codec",)),
)  # fmt: skip
def accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    # a network trained on raw images has no store of its own; that of another setting would say little
    decoded = runs.get("decoded_top1_pct", pd.Series(dtype=float)).where(runs.codec != "raw")
    shown = {"top-1 on decoded images, %": ("decoded", 2)}
    return networks(runs.assign(decoded=decoded), ["codec", "variant"], RAW, **shown)


def draw_speeds(runs: pd.DataFrame, path: Path) -> None:
    """Draw the speeds of training and loading over the number of workers, with that of the step alone, the limit."""
    rows = by_pipeline(runs)
    curves = {
        name: [(float(run.workers), run.loader, run.together) for run in some.itertuples()]
        for name, some in rows.groupby("pipeline", sort=False)
    }
    speed_figure(path, curves, step=rows.step.median(), title=f"{runs.dataset.iloc[0]}, {runs.machine.iloc[0]}: ResNet-18")


@table(
    "speedup", "{}: images a second of the loader alone, of the network's step alone, and of both", each="dataset",
    claims=[
        Claim("speedup_pytorch", "INR over it", {"pipeline": ("DataLoader",)}),
        Claim("speedup_dali", "INR over it", {"pipeline": ("DALI",)}),
    ],
    picture=draw_speeds,
)  # fmt: skip
def speeds(runs: pd.DataFrame) -> pd.DataFrame:
    rows = summarize(by_pipeline(runs), ["workers", "pipeline"], {
        "loader alone": ("loader", 0), "step alone": ("step", 0), "both": ("together", 0), "INR over it": ("over", 2),
        "a free decode over it": ("free", 2), "epochs until encoding pays back": ("break_even", 1),
    })  # fmt: skip
    return rows.dropna(axis="columns", how="all")


def by_pipeline(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run and pipeline. Ratios are of GPUs only: on a CPU the network's step hides the pipeline."""
    runs = only(runs, "benchmark")
    rates = {heading: {what: runs.get(f"{name}_{what}_images_per_s", math.nan) for what in ("loader", "step", "together")}
             for heading, name in PIPELINES.items()}  # fmt: skip
    rows = pd.concat([runs.assign(pipeline=heading, **rate) for heading, rate in rates.items()], ignore_index=True)
    rows = rows.dropna(subset="together")
    judged = (rows.device == "cuda") & (rows.pipeline != "INR")
    inr = rows.run.map(rows[rows.pipeline == "INR"].set_index("run").together)
    rows["free"], rows["over"] = (rows.step / rows.together).where(rows.device == "cuda"), (inr / rows.together).where(judged)
    encode_ms = first_of(rows, "store_encode_ms_per_image")
    rows["break_even"] = break_even(encode_ms, rows.together, inr).where(judged)
    return rows


@table("end_to_end", "Preparing the images once, and training the same network from each", figure=Figure("variant", "images/s"))
def end_to_end(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    inr = only(nets, variant="inr")
    nets["prepare"] = first_of(nets, "store_encode_ms_per_image", "files_export_ms_per_image")
    own, encode_ms = value_of(nets, inr, "images_per_s"), value_of(nets, inr, "store_encode_ms_per_image")
    nets["faster"] = (own / nets.images_per_s).mask(nets.index.isin(inr.index))
    nets["break_even"] = break_even(encode_ms, nets.images_per_s, own)
    return summarize(nets, ["variant"], {
        "to prepare, ms an image": ("prepare", 1), "% of RGB": ("rgb_pct", 1), "epochs": ("epochs", 0),
        "s an epoch": ("epoch_s", 2), "images/s": ("images_per_s", 0), "top-1, %": ("top1_pct", 2), "INR over it": ("faster", 2),
        "epochs until encoding has paid": ("break_even", 1),
    })  # fmt: skip


@table(
    "baseline_jpeg", "ResNet-18 from JPEG files, INRs and raw images of {dataset}, tested on clean images",
    claims=[Claim("accuracy_drop", "points lost", {"codec": ("SIREN",)}, not_at=("cpu",))],
    figure=Figure("% of RGB", "top-1, %", line=("codec",)),
)  # fmt: skip
def jpeg_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return networks(runs, ["codec", "variant"], RAW)


@table("pruning", "{dataset}'s test images pruned by each rule", figure=Figure("% of RGB", "PSNR, dB", line=("rule",)))
def pruning_curves(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="curve"), ["rule", "amount"], {
        "pruned, share of hidden weights": ("prune_ratio", 2), "of the least pruned twentieth": ("prune_ratio_p05", 2),
        "of the most pruned twentieth": ("prune_ratio_p95", 2), "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2),
        "PSNR of the poorest twentieth, dB": ("psnr_db_p05", 2), "SSIM": ("ssim", 4), "ms an image": ("encode_ms_per_image", 1),
    })  # fmt: skip


@table("pruning", 'A network trained from images that were pruned by either reading of "dynamic"')
def pruning_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return networks(runs, ["reading"], {"reading": "none"})


@table(
    "quantization", "{dataset}'s test images at fewer and fewer bits of a hidden weight",
    figure=Figure("% of RGB", "PSNR, dB", line=("weights",)),
)  # fmt: skip
def bits(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="curve"), ["weights", "bits"], QUALITY | {"ms an image": ("encode_ms_per_image", 1)})


@table(
    "quantization",
    "As fitted: a scale for each column, each layer, or each layer of all images; no clipping, or that of least squares",
)
def scales(runs: pd.DataFrame) -> pd.DataFrame:
    by = ["bits", "granularity", "range"]
    return summarize(only(runs, role="scales"), by, QUALITY | {"ms an image": ("encode_ms_per_image", 1)})


@table("quantization", "First and last layer and biases in 8, 16 or 32 bits, hidden weights in 8")
def first_and_last_layers(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="ends"), ["ends"], QUALITY | {"ms an image": ("encode_ms_per_image", 1)})


@table("quantization", "A network trained from images at fewer and fewer bits")
def quantization_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    most = max(only(runs, "train").get("bits", pd.Series(dtype=str)).dropna(), key=int, default="32")
    return networks(runs, ["bits"], {"bits": most})


@table(
    "architecture", "{dataset}'s test images as SIRENs of every shape, 8 bits a hidden weight",
    figure=Figure("% of RGB", "PSNR, dB", line=("layers",)),
)  # fmt: skip
def shapes(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="curve"), ["layers", "width"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2), "PSNR of the poorest twentieth, dB": ("psnr_db_p05", 2),
        "SSIM": ("ssim", 4), "ms an image": ("encode_ms_per_image", 1),
    })  # fmt: skip


@table(
    "architecture", "A network trained from {dataset} as SIRENs of a few shapes, tested on clean images",
    claims=[Claim("accuracy_drop", "points lost", not_at=("cpu",))], figure=Figure("% of RGB", "top-1, %"),
)  # fmt: skip
def shapes_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return networks(runs, ["variant"], RAW)


@table(
    "single_image", "One image, by the size of its INR", figure=Figure("bytes of the image", "PSNR, dB", line=("bits",), log=True)
)
def single_image(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "encode"), ["shape", "bits"], {
        "bytes of the image": ("image_bytes", 0), "bytes of the file with its header": ("store_bytes", 0),
        "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4), "to encode, ms": ("encode_ms_per_image", 0),
    })  # fmt: skip
