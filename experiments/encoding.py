"""Encoding as configured: plan it, carry it out, and leave in the run what a person would look at."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments.build import build_device, build_fit, build_quantize, build_source, build_spec, plain
from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.decode import decode_each
from rapid_inr.encode import EncodeReport, encode
from rapid_inr.figures import comparison_sheet
from rapid_inr.fit import FitConfig
from rapid_inr.metrics import rates
from rapid_inr.progress import progress_bar
from rapid_inr.store.format import write_store
from rapid_inr.store.packed import PackedStore
from rapid_inr.tracking import Run

SHEET_IMAGES = 12


@dataclass(frozen=True)
class EncodePlan:
    """What to encode and how, checked before any work begins."""

    source: ImageSource
    spec: SirenSpec
    fit: FitConfig
    quantize: QuantizeConfig


def plan_encode(cfg: DictConfig, *, split: str | None = None) -> EncodePlan:
    source = build_source(cfg, split=split)
    return EncodePlan(source, build_spec(cfg, source), build_fit(cfg), build_quantize(cfg))


def encode_dataset(cfg: DictConfig, plan: EncodePlan, run: Run, *, out: Path) -> tuple[PackedStore, EncodeReport]:
    """Carry out a plan, write the store and what there is to see, and enter the metrics in the run."""
    made = {"dataset": plain(cfg.dataset), "fit": plain(cfg.fit), "seed": cfg.seed}
    del made["dataset"]["root"], made["fit"]["max_batch"]  # where data lay and how it was batched changes no byte of the rest
    with progress_bar("encode", len(plan.source), unit="images") as bar:
        store, report = encode(
            plan.source, plan.spec, plan.fit, plan.quantize, device=build_device(cfg), on_corrupt=cfg.dataset.on_corrupt,
            on_progress=bar.advance, on_chunk=lambda psnr: bar.note(f"{psnr.mean():.2f} dB"), made=made,
        )  # fmt: skip
    store_bytes = write_store(out, store, overwrite=cfg.overwrite)
    _warn(report, run)
    _write_images_csv(run.folder / "images.csv", store, report)
    _write_sheet(run.picture("contact_sheet.png"), plan.source, store, report)
    run.metrics |= rates(store_bytes=store_bytes, n_pixels=store.n_pixels) | {
        "images": len(store), "psnr_db": report.psnr_db.mean().item(), "fit_psnr_db": report.fit_psnr_db.mean().item(),
        "min_psnr_db": report.psnr_db.min().item(), "omega": plan.spec.omega, "fit_s": report.fit_s,
        "fit_ms_per_image": 1e3 * report.fit_s / len(store), "unconverged": len(report.unconverged),
        "skipped": len(report.skipped),
    }  # fmt: skip
    return store, report


def _warn(report: EncodeReport, run: Run) -> None:
    if report.unconverged:
        run.warn("not_converged", f"{len(report.unconverged)} images: {', '.join(report.unconverged[:20])}")
    for message in report.skipped:
        run.warn("image_skipped", message)


def _write_images_csv(path: Path, store: PackedStore, report: EncodeReport) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "psnr_db", "fit_psnr_db", "attempts"])
        for i, values in enumerate(
            zip(report.psnr_db.tolist(), report.fit_psnr_db.tolist(), report.attempts.tolist(), strict=True)
        ):
            rows.writerow([store.name_of(i), f"{values[0]:.3f}", f"{values[1]:.3f}", values[2]])


def _write_sheet(path: Path, source: ImageSource, store: PackedStore, report: EncodeReport) -> None:
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
