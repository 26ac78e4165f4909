"""A dataset as image files, as configured: choose the quality, write the files, measure them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.encoding.decoded import as_decoded, likeness
from experiments.setup.build import build_device, build_source
from experiments.setup.groups import sides
from experiments.setup.left_out import warn_left_out
from experiments.setup.run_folder import sole_writer
from experiments.training.provenance import dataset_facts, require_made_from, rows_of
from rapid_inr.data import ImageSource
from rapid_inr.data.codecs import decode_file, require_available
from rapid_inr.data.export import FORMATS, QUALITIES, Export, even_sample, export_images, quality_for_bytes
from rapid_inr.data.moments import Triple
from rapid_inr.data.pixels import image_size
from rapid_inr.data.reading import require_images
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import bpp, rgb_pct
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run
from rapid_inr.store.families import code_settings
from rapid_inr.store.format import read_store

DEFAULT_QUALITY = 90
MEASURED_IMAGES = 1000  # training images whose files are compared with the originals


@dataclass(frozen=True)
class ExportPlan:
    """What an export will write, checked before any work.

    Args:
        sources: the images to write, by split.
        original: the training images of the dataset.
        settings: what decides the files, as JSON values.
        mean_std: to normalise by; None: those of the training images.
    """

    sources: dict[str, ImageSource]
    original: ImageSource
    settings: dict[str, Any]
    mean_std: tuple[Triple, Triple] | None


def plan_export(
    cfg: DictConfig, *, format: str, quality: int | None = None, bytes: float | None = None, size_of: Path | None = None,
    decoded: Path | None = None,
) -> ExportPlan:  # fmt: skip
    """Plan to write the training and test images of ``cfg.dataset`` as files.

    Args:
        format: one of `FORMATS`.
        quality: within `QUALITIES`; None for `DEFAULT_QUALITY`, or the best of ASTC.
        bytes: take the highest quality at which images take no more than this on average.
        size_of: take the highest quality at which images take no more than in this store.
        decoded: a store; the training images are written as they decode from it, the test images stay clean.

    Raises:
        UserError: if several of these are given, the quality is out of range, or the store was made from other images.
    """
    sources = {split: build_source(cfg, split=split) for split in ("train", "test")}
    if cfg.dataset.on_corrupt == "fail":
        for source in sources.values():
            require_images(source)
    original, mean_std = sources["train"], None
    chosen = _choose_quality(original, format=format, quality=quality, bytes=bytes, size_of=size_of)
    settings: dict[str, Any] = {"dataset": dataset_facts(cfg), "format": format, "quality": chosen}
    if decoded is not None:
        store = read_store(decoded)
        require_made_from(store, cfg)
        store = rows_of(store, original, on_corrupt=cfg.dataset.on_corrupt).to(build_device(cfg))
        header = store.header
        settings["decoded"] = code_settings(header.code) | header.made
        sources["train"] = as_decoded(original, store, size=sides(cfg.dataset.size))
        mean_std = (header.mean, header.std)  # as pipeline=inr
    return ExportPlan(sources, original, settings, mean_std)


def _choose_quality(
    source: ImageSource, *, format: str, quality: int | None, bytes: float | None, size_of: Path | None
) -> int | None:
    """Return the quality: a number, or found by the bytes of an image or of a store; None for PNG."""
    if format not in FORMATS:
        raise UserError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if format == "astc":
        require_available(format)
    choices = {"quality": quality, "bytes": bytes, "the size of a store": size_of}
    given = [name for name, value in choices.items() if value is not None]
    if format == "png" and given:
        raise UserError(f"format=png is exact and has no {given[0]}; leave it out, or set format=jpeg")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} all choose the quality; give one of them")
    if format == "png":
        return None
    if bytes is not None:
        return quality_for_bytes(source, bytes, format=format)
    if size_of is not None:
        return quality_for_bytes(source, Path(size_of).stat().st_size / len(read_store(size_of)), format=format)
    low, high = QUALITIES[format]
    if quality is not None and not low <= quality <= high:
        raise UserError(f"quality is {quality}, expected {low} to {high}")
    return min(DEFAULT_QUALITY, high) if quality is None else quality


def write_export(cfg: DictConfig, plan: ExportPlan, out: Path, run: Run) -> Export:
    """Write the missing files; log what they cost and how close they are to the originals."""
    n_images, began = sum(map(len, plan.sources.values())), time.perf_counter()
    written: list[int] = []
    skipped: list[str] = []
    with sole_writer(out, folder=out), progress_bar("export", n_images, unit="images") as bar:
        export = export_images(
            plan.sources, out, settings=plan.settings, mean_std=plan.mean_std, on_corrupt=cfg.dataset.on_corrupt,
            on_progress=bar.advance, on_written=written.append, on_skipped=skipped.append, overwrite=cfg.overwrite,
        )  # fmt: skip
    warn_left_out(run, skipped, passed_over=plan.original.passed_over, n_images=sum(s.n_opened for s in plan.sources.values()))
    if n_written := sum(written):  # files that existed took no time
        run.metrics["export_ms_per_image"] = 1e3 * (time.perf_counter() - began) / n_written
    quality = plan.settings["quality"]
    run.metrics |= measure(export, plan.original) | ({} if quality is None else {"quality": quality})
    return export


def measure(export: Export, source: ImageSource) -> dict[str, float]:
    """Return what the training images cost as files, and how close an even sample of them is to the originals."""
    paths = dict(zip(export.splits["train"].ids, export.paths("train"), strict=True))
    cost = {"n_bytes": sum(path.stat().st_size for path in paths.values()), "n_pixels": _n_pixels(export, list(paths.values()))}
    chosen = [image_id for image_id in even_sample(source, MEASURED_IMAGES) if image_id in paths]
    near = likeness(chosen, lambda image_id: decode_file(paths[image_id].read_bytes()), source.read)
    return {"images": len(paths), "file_bytes": cost["n_bytes"], "bpp": bpp(**cost), "rgb_pct": rgb_pct(**cost)} | near


def _n_pixels(export: Export, paths: Sequence[Path]) -> int:
    if export.size is not None:
        return len(paths) * export.size[0] * export.size[1]
    return sum(math.prod(image_size(path)) for path in paths)
