"""Training an arm as configured, and what it leaves in the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from omegaconf import DictConfig
from safetensors.torch import save_file

from experiments.arms import Arm, pipeline_dtype
from experiments.build import build_autocast, build_backbone_config, build_device, build_optimize
from experiments.held_out import HeldOut
from rapid_inr.backbone import build_backbone
from rapid_inr.figures import training_curves
from rapid_inr.files import atomic
from rapid_inr.pipelines.on_device import resident_pipeline
from rapid_inr.progress import progress_bar
from rapid_inr.tracking import Run
from rapid_inr.train import EpochReport, train


def train_arm(cfg: DictConfig, run: Run, arm: Arm, test: HeldOut) -> list[EpochReport]:
    """Train a fresh backbone from an arm and test it on the clean test images; epochs and weights go to the run."""
    warn_skipped(run, arm.skipped)
    device, optimize = build_device(cfg), build_optimize(cfg)
    clean = resident_pipeline(
        test.loaded.images, test.loaded.labels, mean=arm.mean, std=arm.std, device=device, batch_size=256,
        dtype=pipeline_dtype(cfg),
    )  # fmt: skip
    model = build_backbone(build_backbone_config(cfg), n_classes=len(arm.class_names), image_size=arm.image_size, seed=cfg.seed)
    with progress_bar(f"train {arm.name}", optimize.epochs, unit="epochs") as bar:

        def on_epoch(report: EpochReport) -> None:
            run.log(arm=arm.name, **asdict(report))
            bar.advance(1)
            bar.note(f"{report.images_per_s:,.0f} images/s · loss {report.loss:.3f} · top-1 {report.top1_pct:.1f}%")

        reports = train(model, arm.pipeline, clean, optimize, device=device, autocast=build_autocast(cfg), on_epoch=on_epoch)
    with atomic(run.folder / f"{arm.name}.safetensors") as path:
        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)
    return reports


def warn_skipped(run: Run, skipped: tuple[str, ...]) -> None:
    for message in skipped:
        run.warn("image_skipped", message)


def draw_curves(run: Run, reports: Mapping[str, list[EpochReport]], *, title: str) -> None:
    """Draw the epochs of each arm into the run, or note that the drawing library is not installed."""
    curves = {name: [asdict(report) for report in epochs] for name, epochs in reports.items()}
    try:
        training_curves(run.picture("curves.png"), curves, title=title)
    except ImportError as error:
        run.warn("no_curves", str(error))
