"""What an encoded dataset leaves in its run: warnings, a table of the images, and a sheet to look at."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from omegaconf import DictConfig

from experiments.setup.build import build_device
from kernels.spec import SirenSpec
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encode import EncodeReport
from rapid_inr.files import atomic
from rapid_inr.plots.figures import comparison_sheet, distributions
from rapid_inr.runlog import named_warnings
from rapid_inr.runlog.run import Run
from rapid_inr.store.decode import decode_each
from rapid_inr.store.packed import PackedStore
from rapid_inr.store.plan import StorePlan

SHEET_IMAGES = 12
LARGE_SIDE, SMALL_DEPTH = 128, 5  # images of that many pixels a side and more want INRs of more layers


def warn_small(run: Run, *, image_size: tuple[int, int], spec: SirenSpec) -> None:
    if max(image_size) >= LARGE_SIDE and spec.depth <= SMALL_DEPTH:
        height, width = image_size
        shape = f"{spec.depth}x{spec.hidden}"
        run.warn("small_inr", f"images of {height}x{width} lose detail in inr={shape}; inr=6x44 fit=photo is meant for them")


def say_store(out: Path, run: Run) -> None:
    """Print what was written, in one line."""
    m = run.metrics
    print(
        f"{out}: {m['images']:,} images, {m['store_bytes']:,} bytes, {m['rgb_pct']:.1f}% of RGB, {m['bpp']:.2f} bpp, "
        f"{m['psnr_db']:.2f} dB, {m['encode_ms_per_image']:.1f} ms an image; run in {run.folder}"
    )


def warn_too_large(run: Run, cfg: DictConfig, *, store_bytes: int, n_images: int) -> None:
    """Say so if a store does not fit ``gpu_memory_gb`` or, without that, the GPU of this process where there is one."""
    memory_bytes, device = None, build_device(cfg)
    if cfg.get("gpu_memory_gb") is not None:
        memory_bytes = int(1e9 * cfg.gpu_memory_gb)
    elif device.type == "cuda":
        memory_bytes = torch.cuda.mem_get_info(device)[1]
    for warning in named_warnings.store_does_not_fit(store_bytes=store_bytes, n_images=n_images, memory_bytes=memory_bytes):
        run.warn(*warning)


def warn_failures(run: Run, report: EncodeReport, plan: StorePlan) -> None:
    least = plan.made["fit"]["min_psnr_db"]
    for warning in named_warnings.fits_not_converged(report.unconverged, n_images=len(report.psnr_db), min_psnr_db=least):
        run.warn(*warning)
    for message in report.skipped:
        run.warn("image_skipped", message)


def warn_unpruned(run: Run, report: EncodeReport, plan: StorePlan) -> None:
    """Say so where a rule let no image be pruned: most likely its numbers are not what was meant."""
    config = PruneConfig(**plan.made["prune"])
    if config.rule not in ("none", "budget") and config.max_ratio > 0 and not bool(report.prune_ratio.any()):
        highest = f"{report.fit_psnr_db.max():.2f} dB at best before pruning"
        run.warn("nothing_pruned", f"no image meets prune.rule={config.rule} at {config.step:.0%} pruned ({highest})")


def warn_over_budget(run: Run, n_bytes: int, plan: StorePlan) -> None:
    config = PruneConfig(**plan.made["prune"])
    if config.rule == "budget" and n_bytes > config.budget_bytes:
        run.warn("over_budget", f"the store takes {n_bytes:,} bytes, prune.budget_bytes is {config.budget_bytes:,}")


def write_distributions(run: Run, report: EncodeReport, *, title: str) -> None:
    """Draw PSNR, and how much was pruned where anything was; without matplotlib the figure is left out."""
    values = {"PSNR of what is stored (dB)": report.psnr_db.tolist()}
    if report.prune_ratio.any():
        values["hidden weights pruned (%)"] = (100 * report.prune_ratio).tolist()
    try:
        distributions(run.picture("distributions.png"), values, title=title)
    except ImportError as error:
        run.warn("no_figure", f"distributions.png is not drawn: {error}")


def write_images_csv(path: Path, store: PackedStore, report: EncodeReport, *, source: ImageSource | None) -> None:
    """Write a line for each image of a store, with its file where the source that it was encoded from is known and has files."""
    file_of = None if source is None else source.file_of
    ids = range(len(store)) if store.source_ids is None else store.source_ids.tolist()
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "psnr_db", "fit_psnr_db", "attempts", "prune_ratio", *(["file"] if file_of else [])])
        measured = (report.psnr_db, report.fit_psnr_db, report.attempts, report.prune_ratio)
        for i, (psnr, fit_psnr, attempts, ratio) in enumerate(zip(*(values.tolist() for values in measured), strict=True)):
            file_name = [file_of(ids[i])] if file_of else []
            rows.writerow([store.name_of(i), f"{psnr:.3f}", f"{fit_psnr:.3f}", attempts, f"{ratio:.4f}", *file_name])


def write_sheet(path: Path, source: ImageSource, store: PackedStore, report: EncodeReport) -> None:
    shown, spec = range(min(SHEET_IMAGES, len(store))), store.header.spec
    ids = shown if store.source_ids is None else store.source_ids[: len(shown)].tolist()
    decoded = [image.numpy() for image in decode_each(store, limit=len(shown))]
    captions = [f"{store.name_of(i)}  {report.psnr_db[i]:.1f} dB" for i in shown]
    comparison_sheet(
        path,
        [source.read(int(i)) for i in ids],
        decoded,
        captions,
        title=f"{source.name} as {spec.depth}x{spec.hidden}, omega {spec.omega:g}",
    )
