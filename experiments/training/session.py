"""Training an arm as configured, and what it leaves in the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import nn

from experiments.setup.build import (
    build_augment,
    build_autocast,
    build_backbone_config,
    build_device,
    build_optimizer,
    build_source,
)
from experiments.setup.processes import is_main_process, place
from experiments.setup.run_folder import start_run
from experiments.training.input_pipelines import Arm, decode_size, open_arm, pipeline_dtype
from experiments.training.provenance import dataset_facts, digest, missing_images, require_made_from, rows_of
from experiments.training.test_set import TestSet
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.models.resnet import build_backbone
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import DeviceTooSmall
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.plots.figures import TOP1, training_curves
from rapid_inr.runlog.named_warnings import STORE_DOES_NOT_FIT
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import StoreTooLarge
from rapid_inr.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from rapid_inr.training.loop import EvalSets, best_epoch, require_classes, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.state import EpochReport, Learner

TEST_BATCH, TEST_PIXELS = 1024, {"cpu": 2**18, "cuda": 2**23}  # images that are judged at once, at most, and their pixels
_STREAM = 3  # keeps the choice of held-out images apart from the other draws of the same seed


def open_arm_or_say(cfg: DictConfig, verb: str) -> Arm:
    """Open the arm that ``pipeline`` names; of a store that the GPU has no memory for, leave a run that says so by its name."""
    try:
        return open_arm(cfg)
    except (DeviceTooSmall, StoreTooLarge) as error:
        if cfg.pipeline.name == "inr":
            with start_run(cfg, verb) as run:
                run.warn(STORE_DOES_NOT_FIT, str(error))
                raise
        raise


@dataclass(frozen=True)
class Training:
    """A training that can begin: all that could be refused has been looked at.

    Args:
        pipeline: of the images that are trained on.
        facts: by which its checkpoints are known.
        checkpoint: to go on from, and the file that it was read from.
    """

    arm: Arm
    model: nn.Module
    pipeline: BatchPipeline
    eval_sets: EvalSets
    facts: dict[str, Any]
    checkpoint: tuple[Checkpoint, Path] | None = None


def prepare_training(
    cfg: DictConfig, arm: Arm, test: TestSet, *, decoded: BatchPipeline | None = None, resume: str | None = None
) -> Training:
    """Get a fresh backbone ready to be trained from an arm, before there is a run.

    Args:
        test: the clean test images.
        decoded: the test images as INRs, to be tested on too.
        resume: a checkpoint to go on from.

    Raises:
        ValueError: if labels, batch size or ``optimizer.validation_split`` do not fit the images.
        CheckpointError, FileNotFoundError: if `resume` is no checkpoint of this training.
    """
    optimizer = build_optimizer(cfg)
    model = build_backbone(build_backbone_config(cfg), n_classes=len(arm.class_names), image_size=arm.image_size, seed=cfg.seed)
    require_classes(arm.pipeline.labels, len(arm.class_names))
    pipeline, validation = split_validation(arm.pipeline, optimizer.validation_split, seed=cfg.seed)
    known = facts(cfg, arm, optimizer)
    checkpoint = None if resume is None else (read_checkpoint(resume, training=known), Path(resume))
    return Training(arm, model, pipeline, EvalSets(clean_pipeline(cfg, arm, test), decoded, validation), known, checkpoint)


def train_arm(cfg: DictConfig, run: Run, training: Training) -> list[EpochReport]:
    """Train what was prepared; epochs and weights go to the run."""
    arm, optimizer = training.arm, build_optimizer(cfg)
    warn_skipped(run, arm.skipped)
    checkpoint, reports = None, []
    if training.checkpoint is not None:
        checkpoint, path = training.checkpoint
        reports = [EpochReport(**report) for report in checkpoint.reports]
        bring_best(run, arm.name, path, validation=training.eval_sets.validation is not None)
    with progress_bar(f"train {arm.name}", optimizer.epochs, unit="epochs") as bar:
        bar.advance(len(reports))

        def on_epoch(report: EpochReport, learner: Learner) -> None:
            told = {name: value for name, value in asdict(report).items() if value is not None}
            run.log(arm=arm.name, **told)
            bar.advance(1)
            bar.note(f"{report.images_per_s:,.0f} images/s · loss {report.loss:.3f} · top-1 {report.top1_pct:.1f}%")
            reports.append(report)
            if is_main_process():
                keep(run, arm.name, reports, learner, training=training.facts)

        train(
            training.model, training.pipeline, training.eval_sets, optimizer, device=build_device(cfg),
            autocast=build_autocast(cfg), resume=checkpoint, on_epoch=on_epoch,
        )  # fmt: skip
    if arm.faults is not None:
        warn_skipped(run, tuple(arm.faults.messages))
    return reports


def facts(cfg: DictConfig, arm: Arm, optimizer: OptimizerConfig) -> dict[str, Any]:
    """Return by what a checkpoint is known to be of this training."""
    backbone = build_backbone_config(cfg)
    decided = asdict(optimizer)
    del decided["compile"], decided["graph"]  # the same weights, computed faster
    augment = build_augment(cfg)
    return {
        "backbone.stem": backbone.resolved_stem(arm.image_size), "backbone.width": backbone.width,
        "classes": len(arm.class_names), "class_names": digest(list(arm.class_names)), "pipeline": arm.name,
        "images": len(arm.pipeline), "labels": digest(arm.pipeline.labels.tolist()), "image_size": list(arm.image_size),
        "seed": cfg.seed, "autocast": build_autocast(cfg), "augment": None if augment is None else asdict(augment),
        **{f"optimizer.{key}": value for key, value in decided.items()},
        **_by_path("dataset", dataset_facts(cfg)), **_by_path("made", arm.made),
    }  # fmt: skip


def _by_path(name: str, value: Any) -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names, so that a difference is told by the first of them."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {path: leaf for key, below in value.items() for path, leaf in _by_path(f"{name}.{key}", below).items()}


def bring_best(run: Run, name: str, resume: Path, *, validation: bool) -> None:
    """Copy the weights of the best epoch so far from beside a checkpoint, since no later epoch may be better."""
    best = f"{name}_best.safetensors"
    if not validation or not is_main_process():
        return
    if not resume.with_name(best).is_file():
        run.warn("no_best", f"{best} is not beside {resume}: it will be there once an epoch is better than those before")
        return
    with atomic(run.folder / best) as path:
        shutil.copyfile(resume.with_name(best), path)


def keep(run: Run, name: str, reports: list[EpochReport], learner: Learner, *, training: Mapping[str, Any]) -> None:
    """Write the weights so far, those of the best epoch if this is it, and last what can be gone on from."""
    names = [name] if reports[-1].val_top1_pct is None or best_epoch(reports) is not reports[-1] else [name, f"{name}_best"]
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in learner.weights().items()}
    for file in names:
        with atomic(run.folder / f"{file}.safetensors") as path:
            save_file(weights, path)
    checkpoint: Checkpoint = learner.checkpoint(reports)
    write_checkpoint(run.folder / f"{name}_last.safetensors", checkpoint, training=training)


def test_batch(image_size: tuple[int, int], device: torch.device) -> int:
    """Return how many images of (height, width) to judge at once."""
    return max(1, min(TEST_BATCH, TEST_PIXELS[device.type] // (image_size[0] * image_size[1])))


def split_validation(pipeline: BatchPipeline, share: float, *, seed: int) -> tuple[BatchPipeline, BatchPipeline | None]:
    """Return the pipeline of the images that are trained on, and that of those held out, as they are and in order."""
    if share == 0:
        return pipeline, None
    count = max(1, round(share * len(pipeline)))
    if len(pipeline) - count < pipeline.batch_size:
        raise UserError(
            f"optimizer.validation_split is {share:g}, which leaves {len(pipeline) - count} of {len(pipeline)} images, fewer than "
            f"optimizer.batch_size={pipeline.batch_size}"
        )
    order = torch.from_numpy(np.random.default_rng((seed, _STREAM)).permutation(len(pipeline)))
    validation = replace(
        pipeline,
        subset=order[:count].sort().values,
        seed=None,
        augment=None,
        batch_size=test_batch(pipeline.image_size, pipeline.device),
    )
    return replace(pipeline, subset=order[count:].sort().values), validation


def clean_pipeline(cfg: DictConfig, arm: Arm, test: TestSet) -> BatchPipeline:
    """Return the clean test images, normalised as the arm's are."""
    device = build_device(cfg)
    return resident_pipeline(
        test.loaded.images, test.loaded.labels, mean=arm.mean, std=arm.std, device=device,
        batch_size=test_batch(arm.image_size, device), dtype=pipeline_dtype(cfg), **place(),
    )  # fmt: skip


def decoded_pipeline(cfg: DictConfig, arm: Arm) -> BatchPipeline | None:
    """Return the test images as INRs, normalised as the arm's are; None where no store holds them.

    They are those of ``test_store``, which must then hold all of them, or of ``store`` where that does.
    """
    if cfg.test_store is None and cfg.store is None:
        return None
    store, source = read_store(cfg.test_store or cfg.store), build_source(cfg, split="test")
    chosen = {"on_corrupt": cfg.dataset.on_corrupt, "split": "test"}
    if cfg.test_store is None and missing_images(store, source, **chosen):
        return None
    require_made_from(store, cfg)
    store = rows_of(store, source, **chosen)
    store = replace(store, header=replace(store.header, mean=arm.mean, std=arm.std))  # those of a test store are of test images
    if decode_size(cfg, store) != tuple(arm.image_size):
        raise UserError(f"the decoded test images are {decode_size(cfg, store)}, the training images {tuple(arm.image_size)}")
    device = build_device(cfg)
    return inr_pipeline(
        store.to(device), size=arm.image_size, batch_size=test_batch(arm.image_size, device), dtype=pipeline_dtype(cfg), **place()
    )


def warn_skipped(run: Run, skipped: tuple[str, ...]) -> None:
    for message in skipped:
        run.warn("image_skipped", message)


def draw_curves(run: Run, reports: Mapping[str, Sequence[Any]], *, title: str, judged: tuple[str, str] = TOP1) -> None:
    """Draw the epochs of each arm into the run, or note that the drawing library is not installed."""
    curves = {name: [asdict(report) for report in epochs] for name, epochs in reports.items()}
    try:
        training_curves(run.picture("curves.png"), curves, title=title, judged=judged)
    except ImportError as error:
        run.warn("no_curves", str(error))
