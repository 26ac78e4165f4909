"""`python -m experiments.export`: a dataset becomes folders of image files, for the pipelines that read files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.build import build_source
from experiments.cli import main
from experiments.provenance import dataset_facts
from experiments.runs import require_folder_can_be_written
from rapid_inr.data import ImageSource
from rapid_inr.data.export import FORMATS, export_images, quality_for_bytes
from rapid_inr.progress import progress_bar
from rapid_inr.store.format import read_store

DEFAULT_QUALITY = 90


def choose_quality(cfg: DictConfig, source: ImageSource) -> int | None:
    """Return the JPEG quality that is asked for, by number, by bytes an image, or by those of a store; None for PNG."""
    given = [name for name in ("quality", "bytes", "store") if cfg[name] is not None]
    if cfg.format not in FORMATS:
        raise ValueError(f"format is {cfg.format!r}, expected one of {', '.join(FORMATS)}")
    if cfg.format == "png" and given:
        raise ValueError(f"format=png is exact and has no {given[0]}; leave it out, or set format=jpeg")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} all choose the quality; give one of them")
    if cfg.quality is not None and not 1 <= cfg.quality <= 95:
        raise ValueError(f"quality is {cfg.quality}, expected 1 to 95")
    if cfg.format == "png":
        return None
    if cfg.bytes is not None:
        return quality_for_bytes(source, cfg.bytes)
    if cfg.store is not None:
        store = read_store(cfg.store)
        return quality_for_bytes(source, Path(cfg.store).stat().st_size / len(store))
    return cfg.quality or DEFAULT_QUALITY


def run_export(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    sources = {split: build_source(cfg, split=split) for split in ("train", "test")}
    quality = choose_quality(cfg, sources["train"])
    require_folder_can_be_written(out)
    settings: dict[str, Any] = {"dataset": dataset_facts(cfg), "format": cfg.format, "quality": quality}
    with progress_bar("export", sum(map(len, sources.values())), unit="images") as bar:
        export = export_images(
            sources, out, settings=settings, on_corrupt=cfg.dataset.on_corrupt, on_progress=bar.advance
        )  # fmt: skip
    count = sum(len(split.files) for split in export.splits.values())
    how = "png" if quality is None else f"jpeg of quality {quality}"
    print(f"{out}: {count:,} images, {export.n_bytes:,} bytes, {export.n_bytes / count:,.0f} an image, {how}")


if __name__ == "__main__":
    main("export", run_export)
