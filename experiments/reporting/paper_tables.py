"""The tables of the paper's claims and the method's parts: from the runs of one experiment at one preset to the rows printed.

To change a table, edit its short function: its columns are ``"heading": (metric, digits)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from experiments.reporting.cells import Columns, summarize, value_of
from experiments.reporting.claims import Claim
from experiments.reporting.tables import Figure, table

QUALITY: Columns = {"% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4)}
NETWORKS = ("train", "segment")  # older records have a command of its own for segmentation
INR = ("INR", "inr")  # as newer and older records label it
PIPELINES = {
    "resident": "resident", "INR": "inr", "ram": "ram", "DataLoader": "dataloader", "DALI": "dali",
    "DALI as published": "dali_published", "nvJPEG": "nvjpeg",
}  # fmt: skip


def only(runs: pd.DataFrame, verb: str | Sequence[str] | None = None, **labels: str | Sequence[str]) -> pd.DataFrame:
    """Return the runs of a command that have all of some labels; several values are alternatives."""
    wanted = labels if verb is None else {"verb": verb} | labels
    for column, values in wanted.items():
        runs = runs[runs[column].isin([values] if isinstance(values, str) else values)] if column in runs else runs[:0]
    return runs.copy()


def below(
    runs: pd.DataFrame, baseline: pd.DataFrame, metric: str = "top1_pct", *, same: tuple[str, ...] = ("seed",)
) -> pd.Series:
    """Return how far each run is below that run of the baseline which shares some labels; NaN for the baseline itself."""
    return (value_of(runs, baseline, metric, same=same) - runs.get(metric)).mask(runs.index.isin(baseline.index))


def of_store(runs: pd.DataFrame, encodes: pd.DataFrame, metric: str, *, same: tuple[str, ...] = ()) -> pd.Series:
    """Return a metric of the store of each run: on its own record, or by the encode that shares some labels with it."""
    encoded = value_of(runs, encodes, metric, same=same)
    return runs[f"store_{metric}"].fillna(encoded) if f"store_{metric}" in runs else encoded


def images_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that made the images of an experiment, and the trainings that made theirs on demand."""
    nets = only(runs, NETWORKS)
    for metric in ("psnr_db", "ssim", "encode_ms_per_image", "export_ms_per_image"):
        nets[metric] = nets.reindex(columns=[f"store_{metric}", f"files_{metric}"]).bfill(axis=1).iloc[:, 0]
    return pd.concat([only(runs, role="images"), nets.dropna(subset=["psnr_db"])])


def break_even(encode_ms_per_image: pd.Series, rival_images_per_s: pd.Series, own_images_per_s: pd.Series) -> pd.Series:
    """Return after how many epochs the time of encoding is won back, infinite where an epoch is no faster."""
    saved_s = 1 / rival_images_per_s - 1 / own_images_per_s  # an image and epoch
    return (encode_ms_per_image / 1e3 / saved_s).mask(saved_s <= 0, math.inf)


@table(
    "memory", "Bytes of the stored training images",
    claims=[Claim("memory_rgb_pct", "% of RGB", {"store": ("paper", "paper-pruned", "5bit")})],
    figure=Figure("% of RGB", "PSNR, dB", line=("dataset", "net"), title="PSNR of the stored training images over their bytes"),
)  # fmt: skip
def memory(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "encode"), ["dataset", "net", "store"], {
        "images": ("images", 0), "pruned": ("prune_ratio", 2), "bytes": ("store_bytes", 0), "% of RGB": ("rgb_pct", 1),
        "bpp": ("bpp", 2), "PSNR, dB": ("psnr_db", 2), "to encode, ms an image": ("encode_ms_per_image", 2),
    })  # fmt: skip


@table(
    "accuracy", "ResNet-18 on CIFAR-10 from raw images and from INRs, tested on clean and on decoded images",
    claims=[Claim("accuracy_drop", "points lost", {"arm": ("INR",)}, not_at=("cpu",))],
)  # fmt: skip
def accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    nets["psnr"] = of_store(nets, only(runs, "encode", role="images"), "psnr_db", same=("net",))
    nets["lost"] = below(nets, only(nets, arm="raw"))
    return summarize(nets, ["arm", "net"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr", 2), "epochs": ("epochs", 0), "top-1, %": ("top1_pct", 2),
        "top-1 on decoded images, %": ("decoded_top1_pct", 2), "points lost": ("lost", 2), "images/s": ("images_per_s", 0),
    })  # fmt: skip


@table(
    "speedup", "Images a second of training the same ResNet-18 from each pipeline",
    claims=[Claim("speedup_pytorch", "INR over DataLoader"), Claim("speedup_dali", "INR over DALI")],
    figure=Figure("workers", "INR over DataLoader", ("dataset",), title="Training speed from INRs over that from a DataLoader"),
)  # fmt: skip
def training_speed(runs: pd.DataFrame) -> pd.DataFrame:
    speeds = only(runs, "benchmark")
    columns = {heading: f"{name}_together_images_per_s" for heading, name in PIPELINES.items()}
    together = speeds.reindex(columns=list(columns.values())).set_axis(list(columns), axis=1).astype(float)
    ratios = {f"INR over {rival}": f"over_{PIPELINES[rival]}" for rival in ("resident", "DataLoader", "DALI")}
    for heading, column in ratios.items():
        speeds[column] = together["INR"] / together[heading.removeprefix("INR over ")]
    encode_ms = of_store(speeds, only(runs, "encode"), "encode_ms_per_image", same=("dataset",))
    speeds["break_even"] = break_even(encode_ms, together["DataLoader"], together["INR"])
    return summarize(speeds, ["dataset", "workers"], {
        **{heading: (column, 0) for heading, column in columns.items()},
        **{heading: (column, 2) for heading, column in ratios.items()},
        "epochs until it pays back": ("break_even", 1),
    })  # fmt: skip


@table("speedup", "Images a second of each pipeline alone, with nothing trained")
def loading_speed(runs: pd.DataFrame) -> pd.DataFrame:
    alone = {heading: (f"{name}_loader_images_per_s", 0) for heading, name in PIPELINES.items() if name != "dali_published"}
    return summarize(
        only(runs, "benchmark"), ["dataset", "workers"], {"the step alone": ("resident_step_images_per_s", 0)} | alone
    )


@table("end_to_end", "What must be done once, before training")
def preparation(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(images_of(runs), ["feed"], {
        "to encode, ms an image": ("encode_ms_per_image", 1), "to write as JPEG, ms an image": ("export_ms_per_image", 1),
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2),
    })  # fmt: skip


@table("end_to_end", "Training the same network from each", figure=Figure("feed", "images/s"))
def end_to_end(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    inr = only(nets, feed="inr")
    own = value_of(nets, inr, "images_per_s")
    encode_ms = value_of(nets, inr.assign(ms=of_store(inr, only(runs, "encode"), "encode_ms_per_image")), "ms")
    nets["faster"] = (own / nets.images_per_s).mask(nets.index.isin(inr.index))
    nets["break_even"] = break_even(encode_ms, nets.images_per_s, own)
    return summarize(nets, ["feed"], {
        "epochs": ("epochs", 0), "s an epoch": ("epoch_s", 2), "images/s": ("images_per_s", 0), "top-1, %": ("top1_pct", 2),
        "INR over it": ("faster", 2), "epochs until encoding has paid": ("break_even", 1),
    })  # fmt: skip


def below_raw(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return how well networks learn from each kind of images, against the raw ones."""
    nets = only(runs, "train")
    nets["lost"] = below(nets, only(nets, arm="raw"))
    return summarize(nets, by, {
        "% of RGB": ("rgb_pct", 1), "top-1, %": ("top1_pct", 2), "points below raw": ("lost", 2), "images/s": ("images_per_s", 0),
    })  # fmt: skip


@table("baseline_jpeg", "What the images cost and how near they are to the originals")
def jpeg_images(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(images_of(runs), ["arm", "quality"], QUALITY)


@table(
    "baseline_jpeg", "ResNet-18 from JPEG files, INRs and raw images of CIFAR-10, tested on clean images",
    claims=[Claim("accuracy_drop", "points below raw", {"arm": ("INR",)}, not_at=("cpu",))],
    figure=Figure("% of RGB", "top-1, %", line=("arm",)),
)  # fmt: skip
def jpeg_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return below_raw(runs, ["arm", "quality"])


@table("pruning", "CIFAR-10's test images pruned by each rule", figure=Figure("% of RGB", "PSNR, dB", line=("rule",)))
def pruning_curves(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="curve"), ["rule", "amount"], {
        "pruned, share of hidden weights": ("prune_ratio", 2), "of the least pruned twentieth": ("prune_ratio_p05", 2),
        "of the most pruned twentieth": ("prune_ratio_p95", 2), "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2),
        "PSNR of the poorest twentieth, dB": ("psnr_db_p05", 2), "SSIM": ("ssim", 4), "ms an image": ("encode_ms_per_image", 1),
    })  # fmt: skip


@table("pruning", 'A network trained from images that were pruned by either reading of "dynamic"')
def pruning_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return _accuracy_of_stores(runs, "reading", baseline=("dense", "none"), below_what="dense")


def _accuracy_of_stores(runs: pd.DataFrame, label: str, *, baseline: str | Sequence[str], below_what: str) -> pd.DataFrame:
    """Return how well networks learn from stores that one label tells apart, against one of these."""
    nets = only(runs, "train")
    nets["psnr"] = of_store(nets, only(runs, "encode", role="store"), "psnr_db", same=(label,))
    nets["lost"] = below(nets, only(nets, **{label: baseline}))
    return summarize(nets, [label], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr", 2), "top-1, %": ("top1_pct", 2),
        f"points below {below_what}": ("lost", 2),
    })  # fmt: skip


@table(
    "quantization", "CIFAR-10's test images at fewer and fewer bits of a hidden weight",
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
    most = max(only(runs, "train").get("stored", pd.Series(dtype=str)).dropna(), key=int, default="32")
    return _accuracy_of_stores(runs, "stored", baseline=most, below_what=f"{most} bits")


@table(
    "architecture", "CIFAR-10's test images as SIRENs of every shape, 8 bits a hidden weight",
    figure=Figure("% of RGB", "PSNR, dB", line=("layers",)),
)  # fmt: skip
def shapes(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, role="curve"), ["layers", "width"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr_db", 2), "PSNR of the poorest twentieth, dB": ("psnr_db_p05", 2),
        "SSIM": ("ssim", 4), "ms an image": ("encode_ms_per_image", 1),
    })  # fmt: skip


@table(
    "architecture", "A network trained from CIFAR-10 as SIRENs of a few shapes, tested on clean images",
    claims=[Claim("accuracy_drop", "points lost", not_at=("cpu",))], figure=Figure("% of RGB", "top-1, %"),
)  # fmt: skip
def shapes_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    raw, nets = only(runs, "train", arm="raw"), only(runs, "train", arm=INR)
    nets["psnr"] = of_store(nets, only(runs, "encode", role="store"), "psnr_db", same=("shape",))
    nets["raw"], nets["lost"] = value_of(nets, raw, "top1_pct", same=["seed"]), below(nets, raw)
    return summarize(nets, ["shape"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr", 2), "top-1, %": ("top1_pct", 2), "from raw images, %": ("raw", 2),
        "points lost": ("lost", 2), "images/s": ("images_per_s", 0),
    })  # fmt: skip


@table(
    "single_image", "One image, by the size of its INR", figure=Figure("bytes of the image", "PSNR, dB", line=("bits",), log=True)
)
def single_image(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "encode"), ["shape", "bits"], {
        "bytes of the image": ("image_bytes", 0), "bytes of the file with its header": ("store_bytes", 0),
        "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 4), "to encode, ms": ("encode_ms_per_image", 0),
    })  # fmt: skip
