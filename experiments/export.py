"""`python -m experiments.export`: a dataset becomes folders of image files, for the pipelines that read files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image

from experiments.encoding.decoded import as_decoded, likeness
from experiments.setup.build import build_device, build_source
from experiments.setup.cli import main
from experiments.setup.run_folder import require_folder_can_be_written, start_run
from experiments.training.provenance import dataset_facts, require_made_from, rows_of
from rapid_inr.data import ImageSource
from rapid_inr.data.codecs import decode_file
from rapid_inr.data.export import FORMATS, QUALITIES, Export, even_sample, export_images, quality_for_bytes
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import bpp, rgb_pct
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore

DEFAULT_QUALITY = 90
MEASURED_IMAGES = 1000  # of the training images, whose files are held against the originals


def choose_quality(cfg: DictConfig, source: ImageSource) -> int | None:
    """Return the quality that is asked for, by number, by bytes an image, or by those of a store; None for PNG."""
    given = [name for name in ("quality", "bytes", "store") if cfg[name] is not None]
    if cfg.format not in FORMATS:
        raise UserError(f"format is {cfg.format!r}, expected one of {', '.join(FORMATS)}")
    if cfg.format == "png" and given:
        raise UserError(f"format=png is exact and has no {given[0]}; leave it out, or set format=jpeg")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} all choose the quality; give one of them")
    if cfg.format == "png":
        return None
    low, high = QUALITIES[cfg.format]
    if cfg.quality is not None and not low <= cfg.quality <= high:
        raise UserError(f"quality is {cfg.quality}, expected {low} to {high}")
    if cfg.bytes is not None:
        return quality_for_bytes(source, cfg.bytes, format=cfg.format)
    if cfg.store is not None:
        store = read_store(cfg.store)
        return quality_for_bytes(source, Path(cfg.store).stat().st_size / len(store), format=cfg.format)
    return DEFAULT_QUALITY if cfg.quality is None else cfg.quality


def read_decoded(cfg: DictConfig, source: ImageSource) -> PackedStore:
    """Return the training images of ``cfg.dataset`` in the store that ``decoded`` names."""
    store = read_store(cfg.decoded)
    require_made_from(store, cfg)
    return rows_of(store, source, on_corrupt=cfg.dataset.on_corrupt).to(build_device(cfg))


def measure(export: Export, source: ImageSource) -> dict[str, float]:
    """Return what the training images cost as files, and on an even sample of them how near they are to the originals."""
    paths = dict(zip(export.splits["train"].ids, export.paths("train"), strict=True))
    cost = {"n_bytes": sum(path.stat().st_size for path in paths.values()), "n_pixels": _n_pixels(export, list(paths.values()))}
    chosen = [image_id for image_id in even_sample(source, MEASURED_IMAGES) if image_id in paths]
    near = likeness(chosen, lambda image_id: decode_file(paths[image_id].read_bytes()), source.read)
    return {"images": len(paths), "file_bytes": cost["n_bytes"], "bpp": bpp(**cost), "rgb_pct": rgb_pct(**cost)} | near


def _n_pixels(export: Export, paths: Sequence[Path]) -> int:
    if export.size is not None:
        return len(paths) * export.size[0] * export.size[1]
    total = 0
    for path in paths:
        with Image.open(path) as picture:  # reads no more than where its size is written
            total += picture.width * picture.height
    return total


def run_export(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    sources = {split: build_source(cfg, split=split) for split in ("train", "test")}
    original, mean_std = sources["train"], None
    quality = choose_quality(cfg, original)
    settings: dict[str, Any] = {"dataset": dataset_facts(cfg), "format": cfg.format, "quality": quality}
    if cfg.decoded is not None:
        store = read_decoded(cfg, original)
        header = store.header
        settings["decoded"] = {"inr": asdict(header.spec), "quantize": asdict(header.quantize), **header.made}
        size = cfg.dataset.size
        sides = (size, size) if isinstance(size, int) else size and tuple(size)
        sources["train"] = as_decoded(original, store, size=sides)
        mean_std = (header.mean, header.std)  # as pipeline=inr
    require_folder_can_be_written(out)
    n_images = sum(map(len, sources.values()))
    with start_run(cfg, "export") as run:
        began = time.perf_counter()
        with progress_bar("export", n_images, unit="images") as bar:
            export = export_images(
                sources, out, settings=settings, mean_std=mean_std, on_corrupt=cfg.dataset.on_corrupt,
                on_progress=bar.advance, on_skipped=lambda message: run.warn("image_skipped", message), overwrite=cfg.overwrite,
            )  # fmt: skip
        run.metrics["export_ms_per_image"] = 1e3 * (time.perf_counter() - began) / n_images
        run.metrics |= measure(export, original) | ({} if quality is None else {"quality": quality})
    count = sum(len(split.files) for split in export.splits.values())
    how = cfg.format if quality is None else f"{cfg.format} of quality {quality}"
    print(f"{out}: {count:,} images, {export.n_bytes:,} bytes, {export.n_bytes / count:,.0f} an image, {how}")


if __name__ == "__main__":
    main("export", run_export)
