"""Encoding as configured: plan it, carry it out, and leave in the run what a person would look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments.build import (
    build_device,
    build_fit,
    build_prune,
    build_quantize,
    build_refine,
    build_source,
    build_spec,
    first_image,
)
from experiments.outputs import warn_failures, warn_small, write_images_csv, write_sheet
from experiments.provenance import how_made
from kernels.spec import SirenSpec
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encode import EncodeReport, encode
from rapid_inr.fit import FitConfig
from rapid_inr.metrics import rates
from rapid_inr.progress import progress_bar
from rapid_inr.refine import RefineConfig
from rapid_inr.store.format import write_store
from rapid_inr.store.packed import PackedStore
from rapid_inr.tracking import Run


@dataclass(frozen=True)
class EncodePlan:
    """What to encode and how, checked before any work begins."""

    source: ImageSource
    spec: SirenSpec
    fit: FitConfig
    prune: PruneConfig
    quantize: QuantizeConfig
    refine: RefineConfig
    image_size: tuple[int, int]  # of the first image


def plan_encode(cfg: DictConfig, *, split: str | None = None) -> EncodePlan:
    source = build_source(cfg, split=split)
    stages = build_fit(cfg), build_prune(cfg), build_quantize(cfg), build_refine(cfg)
    image_size = first_image(cfg, source).shape[:2]
    return EncodePlan(source, build_spec(cfg, image_size=image_size), *stages, image_size)


def encode_dataset(cfg: DictConfig, plan: EncodePlan, run: Run, *, out: Path) -> tuple[PackedStore, EncodeReport]:
    """Carry out a plan, write the store and what there is to see, and enter the metrics in the run."""
    warn_small(run, image_size=plan.image_size, spec=plan.spec)
    with progress_bar("encode", len(plan.source), unit="images") as bar:
        store, report = encode(
            plan.source, plan.spec, plan.fit, plan.quantize, prune_config=plan.prune, refine_config=plan.refine,
            device=build_device(cfg), on_corrupt=cfg.dataset.on_corrupt, on_progress=bar.advance,
            on_chunk=lambda psnr: bar.note(f"{psnr.mean():.2f} dB"), made=how_made(cfg),
        )  # fmt: skip
    store_bytes = write_store(out, store, overwrite=cfg.overwrite)
    warn_failures(run, report)
    write_images_csv(run.folder / "images.csv", store, report)
    write_sheet(run.picture("contact_sheet.png"), plan.source, store, report)
    run.metrics |= rates(store_bytes=store_bytes, n_pixels=store.n_pixels) | {
        "images": len(store), "psnr_db": report.psnr_db.mean().item(), "fit_psnr_db": report.fit_psnr_db.mean().item(),
        "min_psnr_db": report.psnr_db.min().item(), "omega": plan.spec.omega, "fit_s": report.fit_s,
        "compress_s": report.compress_s, "fit_ms_per_image": 1e3 * report.fit_s / len(store),
        "encode_ms_per_image": 1e3 * (report.fit_s + report.compress_s) / len(store), "unconverged": len(report.unconverged),
        "skipped": len(report.skipped), "prune_ratio": report.prune_ratio.mean().item(),
    }  # fmt: skip
    return store, report
