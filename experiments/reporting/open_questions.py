"""The tables of questions that the paper leaves open, a short function each, as in paper_tables.py."""

from __future__ import annotations

import math

import pandas as pd

from experiments.reporting.cells import summarize
from experiments.reporting.claims import Claim
from experiments.reporting.paper_tables import beside, networks, only
from experiments.reporting.tables import Figure, table

IMAGENET = 1_281_167  # training images


@table(
    "segmentation", "A small U-Net from raw images and from INRs, tested on clean test images",
    figure=Figure("% of RGB", "points lost", line=("augment",)),
)  # fmt: skip
def segmentation(runs: pd.DataFrame) -> pd.DataFrame:
    raw, nets = only(runs, "train", codec="raw"), only(runs, "train", codec="SIREN")
    nets["raw_miou_pct"] = beside(nets, raw, "miou_pct", same=("augment", "seed"))
    return summarize(nets, ["variant", "augment"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("store_psnr_db", 2), "mIoU from raw, %": ("raw_miou_pct", 2),
        "mIoU from INR, %": ("miou_pct", 2), "points lost": ("raw_miou_pct", "miou_pct", 2),
        "from INR, tested on decoded, %": ("decoded_miou_pct", 2),
    })  # fmt: skip


@table("scaling", "Memory and speed as the dataset grows", figure=Figure("images", "bytes on the device"))
def growth(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, "benchmark", part="growth"), ["images"], {
        "bytes of the file": ("store_bytes", 0), "bytes on the device": ("inr_device_bytes", 0),
        "bytes raw": ("resident_device_bytes", 0), "ms an image to encode": ("store_encode_ms_per_image", 1),
        "PSNR, dB": ("store_psnr_db", 2),
        "decoded images/s": ("inr_loader_images_per_s", 0), "trained images/s from INR": ("inr_together_images_per_s", 0),
        "from raw": ("resident_together_images_per_s", 0),
    })  # fmt: skip


@table("scaling", "ImageNet's 1,281,167 training images at 224 px: a projection from the images measured")
def imagenet(runs: pd.DataFrame) -> pd.DataFrame:
    runs = only(runs, "benchmark", part="constants")
    share = IMAGENET / runs.get("inr_images", math.nan)
    for kind in ("resident", "inr"):
        runs[f"{kind}_gb"] = runs.get(f"{kind}_device_bytes", math.nan) * share / 1e9
    runs["hours"] = runs.get("store_encode_ms_per_image", math.nan) * IMAGENET / 3.6e6
    return summarize(runs.assign(shape=runs.get("cfg.inr")), ["shape"], {
        "images measured": ("inr_images", 0), "PSNR, dB": ("store_psnr_db", 2), "raw, GB": ("resident_gb", 1),
        "as INRs, GB": ("inr_gb", 1), "hours to encode on the machine measured": ("hours", 0),
    })  # fmt: skip


@table(
    "rate_accuracy", "ResNet-18 on {dataset} from images that each codec has in the same bytes, tested on clean images",
    claims=[Claim("accuracy_drop", "points lost", {"codec": ("SIREN", "cosine series")})],
    figure=Figure("codec", "top-1, %", line=("at",)),
)  # fmt: skip
def coded_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return networks(runs, ["at", "codec"], {"codec": "raw"})


@table(
    "augmentation", "INRs decoded at moved coordinates, and the same images decoded once and moved as pixels; clean test images",
    figure=Figure("augment", "top-1, %", line=("variant",)),
)  # fmt: skip
def augmentation(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    nets["pixels"] = beside(nets, only(nets, variant="moved-pixels"), same=("augment", "seed"))
    return summarize(nets, ["augment", "variant"], {
        "top-1, %": ("top1_pct", 2), "points above moved pixels": ("top1_pct", "pixels", 2), "images/s": ("images_per_s", 0),
        "s an epoch": ("epoch_s", 2),
    })  # fmt: skip


@table("failures", "Failures provoked on purpose, what was measured of each, and the warnings on its record")
def failures(runs: pd.DataFrame) -> pd.DataFrame:
    provoked = runs.drop(only(runs, variant="raw").index)  # the baseline that one of them is compared with
    return summarize(provoked, ["variant"], {
        "images not converged": ("unconverged", 0), "bytes on the device": ("device_bytes", 0), "top-1, %": ("top1_pct", 2),
        "its baseline, %": ("baseline_pct", 2), "decode, % of its bound": ("least_of_bound_pct", 2),
        "decode images/s over step images/s (below 1: the network waits)": ("inr_headroom", 2),
    })  # fmt: skip
