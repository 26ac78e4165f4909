"""How fast images are fitted: those of the configured dataset, and four sizes by both backends beside their bound."""

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
from kernels.fit.launch import fit_width, kernel_runs_on
from kernels.spec import SirenSpec
from kernels.tools.ceilings import measure_ceilings, timed_s
from rapid_inr.data import load_all
from rapid_inr.data.reading import first_image
from rapid_inr.data.shapes import shapes
from rapid_inr.inr.batches import map_batches
from rapid_inr.inr.fit import STARTS, FitConfig, fit, fit_rows, images_per_batch, measure_psnr
from rapid_inr.inr.fused import fits_fused
from rapid_inr.inr.layout import unquantized
from rapid_inr.inr.siren import default_omega
from rapid_inr.inr.steps import pixels_per_step
from rapid_inr.runlog.progress import Report
from rapid_inr.runlog.run import Run

REPEATS = 3  # on a GPU; a CPU takes minutes for one
CPU_FEWER = 64  # times fewer images
H200_SINES_PER_S = 4.13e12  # measured (kernels/README.md)
GPU_COMMAND = "python -m experiments.benchmark suite=fit device=cuda"
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

    def bound_images_per_s(self, backend: str, sines_per_s: float) -> float:
        """Return how many images could be fitted at most: each value of a step takes a sine and a cosine."""
        pixels = self.config.steps * pixels_per_step(self.config, self.side**2)
        width = fit_width(self.spec) if backend == "kernel" else self.hidden
        return sines_per_s / (2 * self.depth * width * pixels)

    def count(self, backend: str, device: torch.device) -> int:
        """Return how many images to fit; a CPU takes few, but one for each thread."""
        return self.images[backend] if device.type == "cuda" else max(torch.get_num_threads(), self.images[backend] // CPU_FEWER)


PHOTO = FitConfig(steps=1000, betas=(0.9, 0.95), pixels_per_step=2048, full_from=1.0)
SIZES = (
    FitSize(3, 16, 32, FitConfig(steps=200), 195_000, {"kernel": 8448, "torch": 4096}),
    FitSize(4, 14, 32, FitConfig(steps=1600), 20_000, {"kernel": 8448, "torch": 1024}),
    FitSize(10, 32, 224, PHOTO, 1_300, {"kernel": 264, "torch": 64}),
    FitSize(6, 44, 224, PHOTO, 400, {"kernel": 264, "torch": 64}),
)


def benchmark_fit(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """Time fitting the images of ``cfg.dataset``, loaded beforehand; on a GPU, or where it is asked for, the backends too."""
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
    if cfg.backends or device.type == "cuda":
        metrics["backends"] = [row for size in SIZES for row in time_backends(size, device)]
        print(formatted_table(metrics["backends"], COLUMNS))
        if not kernel_runs_on(device):
            print(f"bound and prediction of the kernel are those of an H200; measure it on a GPU: {GPU_COMMAND}")
    return metrics


def time_backends(size: FitSize, device: torch.device) -> list[dict[str, Any]]:
    """Fit generated images by both backends and return a row for each.

    A kernel that doesn't run here, or fits worse than torch, has no speed.
    """
    sines_per_s = measure_ceilings(device, size.spec, n_pixels=size.side**2).sines_per_s
    rows = []
    for backend in ("torch", "kernel"):
        runs = backend == "torch" or kernel_runs_on(device)
        bound = size.bound_images_per_s(backend, sines_per_s if runs else H200_SINES_PER_S)
        row = {
            "size": f"{size.depth}x{size.hidden} at {size.side} px", "backend": backend, "bound_images_per_s": bound,
            "predicted_images_per_s": size.predicted_images_per_s if backend == "kernel" else None,
        }  # fmt: skip
        rows.append(row | (_timed(size, backend, device, bound) if runs else {}))
    if runs and abs(rows[1]["psnr_db"] - rows[0]["psnr_db"]) > MAX_BACKEND_PSNR_GAP_DB:
        rows[1] |= {"images_per_s": None, "of_bound": None}
    return rows


def _timed(size: FitSize, backend: str, device: torch.device, bound: float) -> dict[str, float]:
    """Return the speed of fits whose starts and images are on the device, and the mean PSNR of images that differ."""
    config, spec, count = replace(size.config, backend=backend), size.spec, size.count(backend, device)
    images = load_all(shapes("train", count=min(count, *size.images.values()), size=size.side)).images.to(device)
    start = STARTS["even"](spec, torch.arange(len(images), device=device), seed=0)
    many = torch.arange(count, device=device) % len(images)
    starts, originals, fitted = start[many], images[many], []
    at_once = images_per_batch(spec, config, n_pixels=size.side**2, device=device)

    def fit_batch(places: slice, report: Report) -> Tensor:
        return fit_rows(starts[places], originals[places], spec, config)

    def run() -> None:
        fitted[:] = map_batches(fit_batch, count, at_once=at_once, device=device)

    if device.type == "cuda":
        run()  # compiles the kernel
    seconds = median(timed_s(run, device, head_start=False) for _ in range(REPEATS if device.type == "cuda" else 1))
    psnr_db = measure_psnr(unquantized(torch.cat(fitted)[: len(images)], spec), images, spec).mean().item()
    return {"images_per_s": count / seconds, "of_bound": count / seconds / bound, "psnr_db": psnr_db}


COLUMNS = {
    "size": ("size", ""), "backend": ("backend", ""), "bound, images/s": ("bound_images_per_s", ",.0f"),
    "predicted": ("predicted_images_per_s", ",.0f"), "images/s": ("images_per_s", ",.0f"), "of the bound": ("of_bound", ".0%"),
    "PSNR, dB": ("psnr_db", ".2f"),
}  # fmt: skip
