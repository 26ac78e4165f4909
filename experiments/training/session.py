"""Prepare and run one training; leave its weights, checkpoints and curves in the run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import nn

from experiments.setup.build import build, build_augment, build_autocast, build_device, plain
from experiments.setup.distributed import is_main_process
from experiments.training.eval_sets import TestSet, is_segmentation, split_validation, test_pipeline, with_masks
from experiments.training.inputs import TrainingInput
from experiments.training.provenance import dataset_facts, digest
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.models.resnet import build_backbone
from rapid_inr.models.unet import build_unet, require_halvable
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.plots.figures import training_curves
from rapid_inr.plots.masks import mask_sheet
from rapid_inr.runlog.differences import flatten
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run
from rapid_inr.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from rapid_inr.training.loop import EvalSets, best_epoch, train
from rapid_inr.training.state import EpochReport, Learner
from rapid_inr.training.tasks import Task, classification, require_classes, segmentation

SHEET_IMAGES = 12
BAR_S = 0.1  # between updates of the progress bar, which would slow down small steps


@dataclass(frozen=True)
class Training:
    """A training that is ready to start: everything that can be refused has been checked.

    Args:
        pipeline: the images to train on.
        identity: what its checkpoints are recognised by.
        checkpoint: the one to resume from, and its file.
    """

    name: str
    task: Task
    model: nn.Module
    pipeline: BatchPipeline
    eval_sets: EvalSets
    identity: dict[str, Any]
    checkpoint: tuple[Checkpoint, Path] | None = None


def build_task(cfg: DictConfig, *, n_classes: int) -> Task:
    """Return the task that ``task`` names. Masks have one class more, the background."""
    return segmentation(n_classes + 1) if is_segmentation(cfg) else classification(n_classes)


def prepare_training(
    cfg: DictConfig, data: TrainingInput, test: TestSet, *, decoded: BatchPipeline | None = None, resume: str | None = None
) -> Training:
    """Prepare the training of a new network, before a run is opened.

    Args:
        test: the clean test images.
        decoded: the test images as INRs, to test on as well.
        resume: a checkpoint to resume from.

    Raises:
        UserError: if labels, batch size, ``task`` or ``optimizer.validation_split`` do not fit the images.
        CheckpointError, FileNotFoundError: if `resume` is not a checkpoint of this training.
    """
    if is_segmentation(cfg) and data.name == "dali_published":
        raise UserError("pipeline=dali_published moves a batch as one, and masks each by itself; expected another pipeline")
    task = build_task(cfg, n_classes=len(data.class_names))
    model = _build_model(cfg, task, image_size=data.image_size)
    whole = with_masks(data.pipeline, cfg, split="train")
    require_classes(whole.labels, task.n_classes)
    pipeline, validation = split_validation(whole, cfg.optimizer.validation_split, seed=cfg.seed)
    identity = _identity(cfg, data)
    checkpoint = None if resume is None else (read_checkpoint(resume, training=identity), Path(resume))
    eval_sets = EvalSets(test_pipeline(cfg, data, test), decoded, validation)
    return Training(data.name, task, model, pipeline, eval_sets, identity, checkpoint)


def _build_model(cfg: DictConfig, task: Task, *, image_size: tuple[int, int]) -> nn.Module:
    if is_segmentation(cfg):
        require_halvable(build(cfg.unet), image_size)
        return build_unet(build(cfg.unet), n_classes=task.n_classes, seed=cfg.seed)
    return build_backbone(build(cfg.backbone), n_classes=task.n_classes, image_size=image_size, seed=cfg.seed)


def _identity(cfg: DictConfig, data: TrainingInput) -> dict[str, Any]:
    """Return what a checkpoint must share with this training, under dotted names."""
    optimizer = asdict(build(cfg.optimizer))
    del optimizer["compile"], optimizer["graph"]  # the same weights, computed faster
    backbone, augment = build(cfg.backbone), build_augment(cfg)
    network = {"stem": backbone.resolved_stem(data.image_size), "width": backbone.width}
    return flatten({
        **({"unet": plain(cfg.unet)} if is_segmentation(cfg) else {"backbone": network}),
        "classes": len(data.class_names), "class_names": digest(list(data.class_names)), "pipeline": data.name,
        "images": len(data.pipeline), "labels": digest(data.pipeline.labels.tolist()), "image_size": list(data.image_size),
        "seed": cfg.seed, "autocast": build_autocast(cfg), "augment": None if augment is None else asdict(augment),
        "optimizer": optimizer, "dataset": dataset_facts(cfg), "made": data.made,
    })  # fmt: skip


def run_training(cfg: DictConfig, run: Run, training: Training) -> list[EpochReport]:
    """Train; write the reports, weights and checkpoints of each epoch to the run.

    At the end the network has the weights that were tested.
    """
    optimizer, task, reports, learners = build(cfg.optimizer), training.task, [], []
    per_epoch = training.pipeline.n_batches * training.pipeline.batch_size
    checkpoint = _restored(run, training, reports)
    n_images, n_done = optimizer.epochs * per_epoch, per_epoch * len(reports)
    with (
        progress_bar(f"train {training.name}", n_images, unit="images", done=n_done) as bar,
        _throttled(bar.advance) as on_batch,
    ):

        def on_epoch(report: EpochReport, learner: Learner) -> None:
            run.log(pipeline=training.name, **report.values())
            reports.append(report)
            learners[:] = [learner]
            score = report.scores[task.metric]
            scored = f"epoch {len(reports)}/{optimizer.epochs} · loss {report.loss:.3f} · {task.title} {score:.1f}%"
            bar.note(f"start and test included · {scored}")
            if is_main_process():
                save_epoch(run, training, reports, learner)

        train(
            training.model, training.pipeline, training.eval_sets, optimizer, task=task, device=build_device(cfg),
            autocast=build_autocast(cfg), resume=checkpoint, on_epoch=on_epoch, on_batch=on_batch,
        )  # fmt: skip
    training.model.load_state_dict(learners[0].weights())
    return reports


@contextmanager
def _throttled(advance: Callable[[int], None]) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts images, and calls `advance` now and then and at the end."""
    waiting, last = 0, time.perf_counter()

    def on_batch(n_images: int) -> None:
        nonlocal waiting, last
        waiting += n_images
        if time.perf_counter() - last > BAR_S:
            advance(waiting)
            waiting, last = 0, time.perf_counter()

    yield on_batch
    advance(waiting)


def _restored(run: Run, training: Training, reports: list[EpochReport]) -> Checkpoint | None:
    """Return the checkpoint to resume from, and log its epochs but the last, which the training reports again."""
    if training.checkpoint is None:
        return None
    checkpoint, path = training.checkpoint
    if training.eval_sets.validation is not None and is_main_process():
        bring_best(run, training.name, path)
    for values in checkpoint.reports[:-1]:
        reports.append(EpochReport.of(values))
        run.log(pipeline=training.name, **values)
    return checkpoint


def bring_best(run: Run, name: str, resume: Path) -> None:
    """Copy the weights of the best epoch from the checkpoint's folder: no later epoch may be better."""
    best = f"{name}_best.safetensors"
    if not resume.with_name(best).is_file():
        run.warn("no_best", f"{best} is not beside {resume}: it will be there once an epoch is better than those before")
    elif resume.with_name(best).resolve() != (run.folder / best).resolve():
        with atomic(run.folder / best) as path:
            shutil.copyfile(resume.with_name(best), path)


def save_epoch(run: Run, training: Training, reports: list[EpochReport], learner: Learner) -> None:
    """Write the weights, also as the best ones if this epoch is the best, and then the checkpoint."""
    name, files = training.name, [training.name]
    if training.eval_sets.validation is not None and best_epoch(reports, training.task.metric) is reports[-1]:
        files.append(f"{name}_best")
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in learner.weights().items()}
    for file in files:
        with atomic(run.folder / f"{file}.safetensors") as path:
            save_file(weights, path)
    write_checkpoint(run.folder / f"{name}_last.safetensors", learner.checkpoint(reports), training=training.identity)


def draw_curves(run: Run, reports: Mapping[str, Sequence[EpochReport]], *, title: str, task: Task) -> None:
    """Draw the curves of each training into the run; without matplotlib, warn."""
    curves = {name: [report.values() for report in epochs] for name, epochs in reports.items()}
    label = f"{task.title} on clean test images (%)"
    try:
        training_curves(run.picture("curves.png"), curves, title=title, score=(task.metric, label))
    except ImportError as error:
        run.warn("no_curves", str(error))


@torch.no_grad()
def draw_masks(run: Run, cfg: DictConfig, training: Training, test: TestSet) -> None:
    """Draw the masks that the network predicts for the first clean test images."""
    clean, model = training.eval_sets.test, training.model.eval()
    images, masks = next(iter(clean.epoch(0)))
    images = images[:SHEET_IMAGES]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=build_autocast(cfg)):
        predicted = model(images).argmax(1).cpu().numpy()
    true, names = masks[: len(images)].cpu().numpy(), [test.class_names[i] for i in test.loaded.labels[: len(images)]]
    shown = test.loaded.images[: len(images)].numpy()
    mask_sheet(run.picture("masks.png"), shown, true, predicted, names, title=f"{cfg.dataset.name}, from {training.name}")
