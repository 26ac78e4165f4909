"""What an encoded dataset leaves in its run: a table of the images, their distributions, and a sheet to look at."""

from __future__ import annotations

import csv
from pathlib import Path

from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encode import EncodeReport
from rapid_inr.files import atomic
from rapid_inr.plots.figures import comparison_sheet, distributions
from rapid_inr.runlog.run import Run
from rapid_inr.store.decode import decode_each
from rapid_inr.store.packed import PackedStore

SHEET_IMAGES = 12


def say_store(out: Path, run: Run) -> None:
    """Print what was written, in one line."""
    m = run.metrics
    reused = f" ({m['reused']:,} reused)" if "reused" in m else ""
    codebooks = f" ({m['own_rgb_pct']:.1f}% without codebooks)" if "own_rgb_pct" in m else ""
    print(
        f"{out}: {m['images']:,} images{reused}, {m['store_bytes']:,} bytes, {m['rgb_pct']:.1f}% of RGB{codebooks}, "
        f"{m['bpp']:.2f} bpp, "
        f"{m['psnr_db']:.2f} dB, {m['encode_ms_per_image']:.1f} ms an image; run in {run.folder}"
    )


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
    """Write a line for each image of a store; with its source, also a digest of each image, to recognise it by."""
    ids = range(len(store)) if store.source_ids is None else store.source_ids.tolist()
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "psnr_db", "fit_psnr_db", "attempts", "prune_ratio", *([] if source is None else ["content"])])
        measured = (report.psnr_db, report.fit_psnr_db, report.attempts, report.prune_ratio)
        for i, (psnr, fit_psnr, attempts, ratio) in enumerate(zip(*(values.tolist() for values in measured), strict=True)):
            content = [] if source is None else [source.content_of(ids[i])]
            rows.writerow([store.name_of(i), f"{psnr:.3f}", f"{fit_psnr:.3f}", attempts, f"{ratio:.4f}", *content])


def write_sheet(path: Path, source: ImageSource, store: PackedStore, report: EncodeReport) -> None:
    shown = range(min(SHEET_IMAGES, len(store)))
    ids = shown if store.source_ids is None else store.source_ids[: len(shown)].tolist()
    decoded = [image.numpy() for image in decode_each(store, limit=len(shown))]
    captions = [f"{store.name_of(i)}  {report.psnr_db[i]:.1f} dB" for i in shown]
    title = f"{source.name} as {store.header.code}"
    comparison_sheet(path, [source.read(int(i)) for i in ids], decoded, captions, title=title)
