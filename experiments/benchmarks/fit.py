"""How fast images are fitted: those of the configured dataset, and on a GPU four sizes by both backends beside their bound."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.reporting.markdown import formatted_table
from experiments.setup.build import build, build_device, build_source, build_spec
from kernels.fit.launch import fit_width
from kernels.spec import SirenSpec
from kernels.tools.ceilings import measure_ceilings, timed_s
from rapid_inr.data import load_all
from rapid_inr.data.reading import first_image
from rapid_inr.data.shapes import shapes
from rapid_inr.inr.fit import STARTS, FitConfig, fit, fit_rows, measure_psnr
from rapid_inr.inr.fused import fits_fused
from rapid_inr.inr.layout import unquantized
from rapid_inr.inr.siren import default_omega
from rapid_inr.inr.steps import pixels_per_step
from rapid_inr.runlog.run import Run

REPEATS = 3
MAX_BACKEND_PSNR_GAP_DB = 0.5  # of the mean; beyond, the kernel is wrong and its speed says nothing


@dataclass(frozen=True)
class FitSize:
    """A network, an image and the steps that fit it.

    Args:
        predicted_images_per_s: by the kernel on an H200, written down before any measurement (kernels/fit/README.md).
        images: that are fitted at once, by backend.
    """

    depth: int
    hidden: int
    side: int
    config: FitConfig
    predicted_images_per_s: float | None
    images: dict[str, int]

    @property
    def spec(self) -> SirenSpec:
        return SirenSpec(self.depth, self.hidden, default_omega(self.side, self.side))

    def bound_images_per_s(self, sines_per_s: float) -> float:
        """Return how many images could be fitted at most: each value of a step takes a sine and a cosine."""
        pixels = self.config.steps * pixels_per_step(self.config, self.side**2)
        return sines_per_s / (2 * self.depth * fit_width(self.spec) * pixels)


PHOTO = FitConfig(steps=1000, betas=(0.9, 0.95), pixels_per_step=2048, full_from=1.0)
SIZES = (
    FitSize(3, 16, 32, FitConfig(steps=200), 195_000, {"kernel": 8448, "torch": 4096}),
    FitSize(4, 14, 32, FitConfig(steps=1600), 20_000, {"kernel": 8448, "torch": 1024}),
    FitSize(10, 32, 224, PHOTO, 1_300, {"kernel": 264, "torch": 64}),
    FitSize(6, 44, 224, PHOTO, 400, {"kernel": 264, "torch": 64}),
)


def benchmark_fit(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """Time fitting the images of ``cfg.dataset``, loaded beforehand; on a GPU the backends too."""
    source, device, config = build_source(cfg), build_device(cfg), build(cfg.fit)
    spec = build_spec(cfg, image_size=first_image(source, on_corrupt=cfg.dataset.on_corrupt).shape[:2])
    loaded = load_all(source, on_corrupt=cfg.dataset.on_corrupt)
    fit(loaded.images[:16], loaded.ids[:16], spec, config, device=device)  # warm up
    seconds = []
    for _ in range(cfg.repeats):
        began = time.perf_counter()
        result = fit(loaded.images, loaded.ids, spec, config, device=device)  # ends with a copy to the CPU: synchronised
        seconds.append(time.perf_counter() - began)
    per_image = 1e3 * median(seconds) / len(loaded.images)
    metrics = {
        "backend": "kernel" if fits_fused(config, spec, device) else "torch",
        "images": len(loaded.images), "threads": torch.get_num_threads(), "fit_psnr_db": result.psnr_db.mean().item(),
        "fit_s": median(seconds), "fit_ms_per_image": per_image, "images_per_s": 1e3 / per_image,
        "fit_s_fastest": min(seconds), "fit_s_slowest": max(seconds),
    }  # fmt: skip
    if device.type == "cuda":
        metrics["backends"] = [row for size in SIZES for row in time_backends(size, device)]
        print(formatted_table(metrics["backends"], COLUMNS))
    return metrics


def time_backends(size: FitSize, device: torch.device) -> list[dict[str, Any]]:
    """Fit generated images by both backends and return a row for each; a kernel that fits worse than torch has no speed."""
    sines_per_s = measure_ceilings(device, size.spec, n_pixels=size.side**2).sines_per_s
    bound, rows = size.bound_images_per_s(sines_per_s), []
    images = load_all(shapes("train", count=min(size.images.values()), size=size.side)).images.to(device)
    for backend in ("torch", "kernel"):
        config, count = replace(size.config, backend=backend), size.images[backend]
        many = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
        start = STARTS["even"](size.spec, range(len(images)), seed=0).to(device)
        weights = start.repeat(-(-count // len(start)), 1)[:count]
        fitted = fit_rows(start, images, size.spec, config)  # compiles the kernel, too
        psnr_db = measure_psnr(unquantized(fitted, size.spec), images, size.spec).mean().item()
        rows.append(_row(size, backend, psnr_db, bound) | _speed(size, config, weights, many, bound))
    if abs(rows[1]["psnr_db"] - rows[0]["psnr_db"]) > MAX_BACKEND_PSNR_GAP_DB:
        rows[1] |= {"images_per_s": None, "of_bound": None}
    return rows


def _row(size: FitSize, backend: str, psnr_db: float, bound: float) -> dict[str, Any]:
    return {
        "size": f"{size.depth}x{size.hidden} at {size.side} px", "backend": backend, "psnr_db": psnr_db,
        "bound_images_per_s": bound, "predicted_images_per_s": size.predicted_images_per_s if backend == "kernel" else None,
    }  # fmt: skip


def _speed(size: FitSize, config: FitConfig, weights: Tensor, images: Tensor, bound: float) -> dict[str, float]:
    def run() -> None:
        fit_rows(weights, images, size.spec, config)

    images_per_s = len(images) / median(timed_s(run, images.device, head_start=False) for _ in range(REPEATS))
    return {"images_per_s": images_per_s, "of_bound": images_per_s / bound}


COLUMNS = {
    "size": ("size", ""), "backend": ("backend", ""), "bound, images/s": ("bound_images_per_s", ",.0f"),
    "predicted": ("predicted_images_per_s", ",.0f"), "images/s": ("images_per_s", ",.0f"), "of the bound": ("of_bound", ".0%"),
    "PSNR, dB": ("psnr_db", ".2f"),
}  # fmt: skip
