"""The curves of rate and distortion: those that a sweep has measured, and those that others have published."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.reporting.records import read_record
from rapid_inr.compress.prune import PruneConfig, prune_ratios
from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint

PUBLISHED = Path(__file__).parent / "published"
CODECS = {"jpeg": "JPEG", "jpeg_shared": "JPEG, shared tables", "webp": "WebP", "jpeg2000": "JPEG2000", "avif": "AVIF"}


def measured_curves(root: Path) -> tuple[list[Curve], list[str]]:
    """Return the curves of the finished points below a folder, and a line for each point that has none.

    Encodes with the same dataset and curve in their labels are the points of one curve; a codec's run is a whole one.

    Raises:
        FileNotFoundError: if there is no such folder, or no point in it.
    """
    found: dict[tuple[str, str, str, str], list[CurvePoint]] = defaultdict(list)
    missing = []
    for path in sorted(root.rglob("point.json")):
        labels, folder = read_record(path)["labels"], path.parent
        if {"dataset", "curve", "kind"} <= set(labels):
            record = read_record(folder / "record.json") if (folder / "record.json").is_file() else {"status": "missing"}
            if record["status"] != "finished":
                missing.append(f"{folder.name}: {record['status']}, {record.get('error', 'no error on record')}")
                continue
            key = labels["dataset"], labels["curve"], labels["kind"], _note(folder, record)
            found[key] += _points(record, labels, run=folder.relative_to(root).as_posix())
    if not found:
        raise FileNotFoundError(f"no finished point of a curve below {root}; experiment=rate_distortion makes them")
    curves = [
        Curve(dataset, CODECS.get(label, label), kind, tuple(points), note=note)
        for (dataset, label, kind, note), points in found.items()
    ]
    return curves, missing


def _note(folder: Path, record: dict[str, Any]) -> str:
    images = f"{record['metrics']['images']:,} images"
    if record["verb"] == "codec":
        return images
    return f"{images}, {_steps(OmegaConf.load(folder / 'config.yaml'))} steps"


def _steps(config: DictConfig) -> str:
    """Return the optimiser steps of an image at most: of the fit, of pruning's rounds, and of training through the rounding."""
    rounds = len(prune_ratios(PruneConfig(**config.prune))) * config.prune.finetune_steps
    after = config.refine.steps if config.quantize.bits <= 8 else 0
    return " + ".join(f"{steps:,}" for steps in (config.fit.steps, rounds, after) if steps)


def _points(record: dict[str, Any], labels: dict[str, str], *, run: str) -> list[CurvePoint]:
    metrics = record["metrics"]
    if record["verb"] != "codec":
        return [CurvePoint(metrics["bpp"], metrics["psnr_db"], metrics.get("ssim"), setting=labels.get("shape", ""), run=run)]
    return [
        CurvePoint(
            p["bpp"], p["psnr_db"], p["ssim"], setting=f"{p['quality']:g} {p['subsampling']}", branch=p["subsampling"], run=run
        )
        for p in metrics["points"]
    ]


def published_curves(dataset: str) -> list[Curve]:
    """Return the published curves that are shown beside a dataset's own, the images that they are of in their notes."""
    curves = []
    for path in sorted(PUBLISHED.glob("*.yaml")):
        file = OmegaConf.to_container(OmegaConf.load(path))
        if dataset not in file["shown_with"]:
            continue
        for entry in file["curves"]:
            points = tuple(CurvePoint(bpp, psnr_db) for bpp, psnr_db in entry["points"])
            origin = f"{entry['mark']}: {file['sources'][entry['source']]}"
            curves.append(
                Curve(dataset, entry["codec"], entry["kind"], points, published=True, origin=origin, note=file["images"])
            )
    return curves
