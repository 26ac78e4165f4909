"""`python -m experiments.segment`: a small U-Net on masks, its images raw or decoded from INRs, moved like their masks."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from experiments.setup.build import build_autocast, build_device, build_optimizer, build_source, build_unet_config
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from experiments.training.baseline import hold_against, read_baseline
from experiments.training.input_pipelines import Arm, require_inputs
from experiments.training.session import clean_pipeline, decoded_pipeline, draw_curves, open_arm_or_say, warn_skipped
from experiments.training.test_set import TestSet, load_test_set, require_match
from rapid_inr.errors import UserError
from rapid_inr.models.unet import build_unet, require_halvable
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.plots.masks import mask_sheet
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run
from rapid_inr.training.segmentation import SegmentReport, require_segmentable, summary, train_segmentation

MIOU = ("miou_pct", "mean IoU on clean test images (%)")
SHEET_IMAGES = 12


def load_masks(cfg: DictConfig, *, split: str) -> Tensor:
    """Return the masks of ``cfg.dataset``, uint8 [N, height, width], 0 for the background and class + 1 elsewhere."""
    source = build_source(cfg, split=split)
    if source.read_mask is None:
        raise UserError(f"dataset={source.name} has no masks to learn from; dataset=shapes has")
    return torch.from_numpy(np.stack([source.read_mask(image_id) for image_id in source.ids.tolist()]))


def with_masks(pipeline: BatchPipeline, masks: Tensor) -> BatchPipeline:
    return replace(pipeline, labels=masks.to(pipeline.device))


def run_segment(cfg: DictConfig) -> None:
    require_inputs(cfg)
    if cfg.pipeline.name == "dali_published":
        raise UserError("pipeline=dali_published moves a batch by one draw, and masks by their own; expected another pipeline")
    baseline_pct = read_baseline(cfg, verb="segment", metric="miou_pct")
    masks, test_masks = load_masks(cfg, split="train"), load_masks(cfg, split="test")
    test, arm = load_test_set(cfg), open_arm_or_say(cfg, "segment")
    require_match(test, class_names=arm.class_names, image_size=arm.image_size)
    clean, decoded = clean_pipeline(cfg, arm, test), decoded_pipeline(cfg, arm)
    tests = {"clean": with_masks(clean, test_masks), "decoded": None if decoded is None else with_masks(decoded, test_masks)}
    train, n_classes = with_masks(arm.pipeline, masks), len(arm.class_names) + 1
    require_segmentable(train, build_optimizer(cfg), n_classes=n_classes)
    require_halvable(build_unet_config(cfg), arm.image_size)
    model = build_unet(build_unet_config(cfg), n_classes=n_classes, seed=cfg.seed)
    with start_run(cfg, "segment") as run:
        warn_skipped(run, (*test.loaded.skipped, *arm.skipped))
        run.metrics |= arm.metrics | {"images": len(train), "classes": n_classes}
        reports = train_in(run, cfg, model, train, tests, n_classes=n_classes)
        run.metrics |= summary(reports)
        hold_against(run, run.metrics["miou_pct"], baseline_pct, what="mIoU")
        draw_curves(run, {arm.name: reports}, title=f"{cfg.dataset.name}, {arm.name}", judged=MIOU)
        write_masks(run, cfg, model, test, tests["clean"])
    say(run, arm)


def train_in(
    run: Run, cfg: DictConfig, model: nn.Module, train: BatchPipeline, tests: dict[str, BatchPipeline | None], *, n_classes: int
) -> list[SegmentReport]:
    """Train as configured; each epoch goes to the run."""
    config = build_optimizer(cfg)
    with progress_bar("segment", config.epochs, unit="epochs") as bar:

        def on_epoch(report: SegmentReport) -> None:
            run.log(**{name: value for name, value in asdict(report).items() if value is not None})
            bar.advance(1)
            bar.note(f"{report.images_per_s:,.0f} images/s · loss {report.loss:.3f} · mIoU {report.miou_pct:.1f}%")

        return train_segmentation(
            model, train, config, **tests, n_classes=n_classes, device=build_device(cfg), autocast=build_autocast(cfg),
            on_epoch=on_epoch,
        )  # fmt: skip


@torch.no_grad()
def write_masks(run: Run, cfg: DictConfig, model: nn.Module, test: TestSet, clean: BatchPipeline) -> None:
    """Draw what the network, in evaluation mode, makes of the first clean test images."""
    images = next(iter(clean.epoch(0))).images[:SHEET_IMAGES]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=build_autocast(cfg)):
        predicted = model(images).argmax(1).cpu().numpy()
    true, names = clean.labels[: len(images)].cpu().numpy(), [test.class_names[i] for i in test.loaded.labels[: len(images)]]
    shown = test.loaded.images[: len(images)].numpy()
    mask_sheet(run.picture("masks.png"), shown, true, predicted, names, title=f"{cfg.dataset.name}, from {cfg.pipeline.name}")


def say(run: Run, arm: Arm) -> None:
    m = run.metrics
    more = f" ({m['decoded_miou_pct']:.2f}% on decoded images)" if "decoded_miou_pct" in m else ""
    print(
        f"{arm.name}: mIoU {m['miou_pct']:.2f}%{more} after {m['epochs']} epochs, {m['images_per_s']:,.0f} images/s, "
        f"{m['device_bytes']:,} bytes on the device; run in {run.folder}"
    )


if __name__ == "__main__":
    main("segment", run_segment)
