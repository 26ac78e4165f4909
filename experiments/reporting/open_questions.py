"""The tables of what the paper leaves open, a short function each: see paper_tables.py."""

from __future__ import annotations

import pandas as pd

from experiments.reporting.cells import summarize, value_of
from experiments.reporting.claims import Claim
from experiments.reporting.paper_tables import INR, NETWORKS, QUALITY, below, below_raw, images_of, of_store, only
from experiments.reporting.tables import Figure, table


@table(
    "segmentation", "A small U-Net from raw images and from INRs, tested on clean test images",
    figure=Figure("% of RGB", "points lost", line=("augment",)),
)  # fmt: skip
def segmentation(runs: pd.DataFrame) -> pd.DataFrame:
    raw, nets = only(runs, NETWORKS, arm="raw"), only(runs, NETWORKS, arm=INR)
    same = ("augment", "seed")
    nets["psnr"] = of_store(nets, only(runs, "encode", role="store"), "psnr_db", same=("net",))
    nets["raw"], nets["lost"] = value_of(nets, raw, "miou_pct", same=same), below(nets, raw, "miou_pct", same=same)
    nets["raw_decoded"] = value_of(nets, raw, "decoded_miou_pct", same=same)
    return summarize(nets, ["net", "augment"], {
        "% of RGB": ("rgb_pct", 1), "PSNR, dB": ("psnr", 2), "mIoU from raw, %": ("raw", 2), "mIoU from INR, %": ("miou_pct", 2),
        "points lost": ("lost", 2), "from INR, tested on decoded, %": ("decoded_miou_pct", 2),
        "from raw, tested on decoded, %": ("raw_decoded", 2), "images/s": ("images_per_s", 0),
    })  # fmt: skip


@table("scaling", "Memory and speed as the dataset grows", figure=Figure("images", "bytes on the device"))
def growth(runs: pd.DataFrame) -> pd.DataFrame:
    speeds, stores = only(runs, "benchmark", part="growth"), only(runs, "encode", part="growth")
    for metric in ("store_bytes", "device_bytes", "encode_ms_per_image", "psnr_db"):
        own = speeds.reindex(columns=[metric, f"store_{metric}", f"inr_{metric}"]).bfill(axis=1).iloc[:, 0]
        speeds[metric] = own.fillna(value_of(speeds, stores, metric, same=["images"]))
    return summarize(speeds, ["images"], {
        "bytes of the file": ("store_bytes", 0), "bytes on the device": ("device_bytes", 0),
        "bytes raw": ("resident_device_bytes", 0), "ms an image to encode": ("encode_ms_per_image", 1),
        "PSNR, dB": ("psnr_db", 2),
        "decoded images/s": ("inr_loader_images_per_s", 0), "trained images/s from INR": ("inr_together_images_per_s", 0),
        "from raw": ("resident_together_images_per_s", 0),
    })  # fmt: skip


@table("scaling", "ImageNet at 224 px on a card of some GB, 4 of them kept for the training; a projection, none of it measured")
def imagenet(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(only(runs, part="projection"), ["card"], {
        "raw, GB": ("raw_gb", 2), "raw images that fit": ("raw_fit_images", 0), "of ImageNet, %": ("raw_fit_pct", 2),
        "as INRs, GB": ("inr_gb", 2), "INRs that fit": ("inr_fit_images", 0), "likewise, %": ("inr_fit_pct", 2),
        "bytes an INR": ("image_inr_bytes", 0), "PSNR of those measured, dB": ("psnr_db", 2),
        "hours to encode on the machine measured": ("encode_hours", 0), "s to decode an epoch there": ("decode_s", 0),
    })  # fmt: skip


@table("rate_accuracy", "The images as each codec has them in the bytes of an INR")
def coded_images(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(images_of(runs), ["at", "codec"], QUALITY)


@table("rate_accuracy", "ResNet-18 from these, tested on clean images", figure=Figure("codec", "top-1, %", line=("at",)))
def coded_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    nets["lost"] = below(nets, only(nets, codec="raw"))
    columns = {"% of RGB": ("rgb_pct", 1), "top-1, %": ("top1_pct", 2), "points below raw": ("lost", 2)}
    return summarize(nets, ["at", "codec"], columns)


@table("fourth_dataset", "What the images cost and how near they are to the originals")
def fourth_images(runs: pd.DataFrame) -> pd.DataFrame:
    return summarize(images_of(runs), ["arm"], QUALITY)


@table(
    "fourth_dataset", "A dataset that the paper did not have",
    claims=[
        Claim("memory_rgb_pct", "% of RGB", {"arm": ("INR",)}),
        Claim("accuracy_drop", "points below raw", {"arm": ("INR",)}, not_at=("cpu",)),
    ],
)  # fmt: skip
def fourth_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    return below_raw(runs, ["arm"])


@table(
    "augmentation", "Moved coordinates against moved pixels of the same decoded images, tested on clean images",
    figure=Figure("augment", "top-1, %", line=("moved",)),
)  # fmt: skip
def augmentation(runs: pd.DataFrame) -> pd.DataFrame:
    nets = only(runs, "train")
    nets["gained"] = -below(nets, only(nets, moved="pixels"), same=("augment", "seed"))
    return summarize(nets, ["augment", "moved"], {
        "top-1, %": ("top1_pct", 2), "points above moved pixels": ("gained", 2), "images/s": ("images_per_s", 0),
        "s an epoch": ("epoch_s", 2),
    })  # fmt: skip


@table("failure_signatures", "Failures provoked on purpose, what was measured of each, and the warnings on its record")
def failure_signatures(runs: pd.DataFrame) -> pd.DataFrame:
    provoked = runs.dropna(subset=["signature"]) if "signature" in runs else runs[:0]
    return summarize(provoked, ["signature"], {
        "images not converged": ("unconverged", 0), "bytes on the device": ("device_bytes", 0), "top-1, %": ("top1_pct", 2),
        "its baseline, %": ("baseline_pct", 2), "decode, % of its bound": ("least_of_bound_pct", 2),
        "decode over step": ("inr_headroom", 2),
    })  # fmt: skip
