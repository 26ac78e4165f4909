"""Train a network from an input pipeline by SGD with momentum, in one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import Batch
from rapid_inr.training.checkpoint import Checkpoint
from rapid_inr.training.cuda_graph import Step, plain_step, replayed_step
from rapid_inr.training.schedule import OptimizerConfig, rate_factor, size_at
from rapid_inr.training.state import EpochReport, Learner
from rapid_inr.training.tasks import Task


class TrainingDiverged(UserError):
    """The loss is not finite; the message says in which epoch."""


@dataclass(frozen=True)
class EvalSets:
    """The images that each epoch is evaluated on: clean test images and, if given, decoded ones and a validation split."""

    test: BatchPipeline
    decoded: BatchPipeline | None = None
    validation: BatchPipeline | None = None


def train(
    model: nn.Module,
    pipeline: BatchPipeline,
    eval_sets: EvalSets,
    config: OptimizerConfig,
    *,
    task: Task,
    device: torch.device | str,
    autocast: bool,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[EpochReport, Learner], None] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[EpochReport]:
    """Train `model` in place and return a report for each epoch.

    If torch.distributed is initialized, every process calls this with its share of the same batches, and gradients are averaged.
    On GPUs, batch norms see the whole batch. On CPUs, each process sees its share, and the first one's statistics are evaluated.

    Args:
        pipeline: of the training images.
        task: how the network is scored.
        autocast: whether to compute in bfloat16.
        resume: a checkpoint of the same model, data and config; its reports come first in the result.
        on_epoch: called after each epoch with its report and the learner, from which a checkpoint can be made. When resuming, it
            is first called for the checkpoint's last epoch, so that the new run is complete from its start.
        on_batch: called after each step with the number of images in this process.

    Raises:
        TrainingDiverged: if the loss of an epoch is not finite.
        CheckpointError: if `resume` does not fit the model.
    """
    device = torch.device(device)
    learner = _learner(model, config, device)
    reports = [] if resume is None else learner.restore(resume)
    if reports and on_epoch is not None:
        on_epoch(reports[-1], learner)
    step = gradient_step(learner.model, config, device=device, autocast=autocast)
    rate = rate_factor(config, pipeline.n_batches * config.epochs)
    first = len(reports)
    for epoch in range(first, config.epochs):
        sized = pipeline if config.first_size is None else replace(pipeline, size=size_at(config, epoch, pipeline.image_size))
        if epoch == first or config.first_size is not None:
            sized.warm_up()
        began = _now(device)
        loss, n_images = _train_epoch(step, sized.epoch(epoch), learner, config, rate, on_batch)
        epoch_s = _now(device) - began
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {loss} in epoch {epoch}; a lower optimizer.lr may help")
        if distributed.is_initialized():
            _share_buffers(learner)
        scores = _evaluate_all(learner, eval_sets, task, device=device, autocast=autocast)
        reports.append(EpochReport(epoch, loss=loss, epoch_s=epoch_s, images_per_s=n_images / epoch_s, scores=scores))
        if on_epoch is not None:
            on_epoch(reports[-1], learner)
    return reports


def _learner(model: nn.Module, config: OptimizerConfig, device: torch.device) -> Learner:
    """Move a network to its device and return it with a new optimizer."""
    if distributed.is_initialized() and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        _parameter_groups(model, config.weight_decay), lr=config.lr, momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
    )  # fmt: skip
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} if config.ema else None
    return Learner(model, optimizer, average)


def gradient_step(model: nn.Module, config: OptimizerConfig, *, device: torch.device, autocast: bool) -> Step:
    """Return the step that computes a batch's gradients: over all processes, compiled or replayed, by the config."""

    def loss_of(logits: Tensor, batch: Batch) -> Tensor:
        return batch_loss(logits, batch, label_smoothing=config.label_smoothing)

    if distributed.is_initialized():
        model = nn.parallel.DistributedDataParallel(model)
    elif config.graph and device.type == "cuda" and not config.compile and config.first_size is None:
        return replayed_step(model, loss_of, autocast=autocast)
    return plain_step(torch.compile(model) if config.compile else model, loss_of, autocast=autocast)


def _train_epoch(
    step: Step, batches: Iterator[Batch], learner: Learner, config: OptimizerConfig, rate: Callable[[int], float],
    on_batch: Callable[[int], None] | None,
) -> tuple[float, int]:  # fmt: skip
    """Take a step for each batch; return the mean loss and the number of images over all processes."""
    learner.model.train()
    total_loss, n_images = 0.0, 0
    for batch in batches:
        for group in learner.optimizer.param_groups:
            group["lr"] = config.lr * rate(learner.steps)
        loss = step(batch)
        learner.optimizer.step()
        learner.steps += 1
        if learner.average is not None:
            learner.update_average(decay=min(config.ema, learner.steps / (learner.steps + 9)))  # young averages forget sooner
        total_loss += loss * len(batch.ids)  # stays on the device: adding up makes no step wait for it
        n_images += len(batch.ids)
        if on_batch is not None:
            on_batch(len(batch.ids))
    if n_images == 0:
        raise UserError("no image of the epoch could be read")
    return _mean_over_processes(total_loss, n_images)


def batch_loss(logits: Tensor, batch: Batch, *, label_smoothing: float) -> Tensor:
    """Return the mean cross entropy of a batch over images or pixels; the labels of a mixed image count by their shares."""
    if batch.keeps is None:
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.others)
    )
    return (batch.keeps * own + (1 - batch.keeps) * other).mean()


def _mean_over_processes(total: Tensor, n_images: int) -> tuple[float, int]:
    sums = torch.stack([total.double(), torch.full_like(total, n_images, dtype=torch.float64)])
    total, count = _sum_over_processes(sums).tolist()
    return total / count, int(count)


def _sum_over_processes(sums: Tensor) -> Tensor:
    if distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums


def _share_buffers(learner: Learner) -> None:
    """Copy the first process's buffers, such as batch norm statistics, to all, so that all evaluate the same network."""
    for name, buffer in learner.model.named_buffers():
        distributed.broadcast(buffer, src=0)
        if learner.average is not None and name in learner.average:
            distributed.broadcast(learner.average[name], src=0)


def _evaluate_all(learner: Learner, eval_sets: EvalSets, task: Task, *, device: torch.device, autocast: bool) -> dict[str, float]:
    """Return the score on each eval set; the model stays in evaluation mode."""
    learner.model.eval()
    metric = task.metric
    sets = {metric: eval_sets.test, f"decoded_{metric}": eval_sets.decoded, f"val_{metric}": eval_sets.validation}
    return {
        name: evaluate(learner.tested(), images, task, device=device, autocast=autocast)
        for name, images in sets.items()
        if images is not None
    }


@torch.no_grad()
def evaluate(
    model: Callable[[Tensor], Tensor], images: BatchPipeline, task: Task, *, device: torch.device | str, autocast: bool
) -> float:
    """Return the score of a model over all images and all processes, in percent.

    Args:
        model: in evaluation mode.
    """
    counts = torch.zeros(task.counts, dtype=torch.int64, device=device)
    for batch in images.epoch(0):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
            logits = model(batch.images)
        counts += task.count(logits, batch.labels)
    return task.score_pct(_sum_over_processes(counts))


def summary(reports: list[EpochReport], metric: str) -> dict[str, float]:
    """Return the metrics of a training: the last epoch's scores, the median epoch's speed, and the best epoch's score.

    The speed excludes the first epoch if there are more, since workers start and libraries choose kernels in it. Only the
    validation split chooses the best epoch, never the test images; of equal scores, the first wins.
    """
    by_time = sorted(reports[1:] or reports, key=lambda report: report.epoch_s)
    median, last = by_time[len(by_time) // 2], reports[-1]
    tested = {name: score for name, score in last.scores.items() if not name.startswith("val_")}
    metrics = {"loss": last.loss, "epochs": len(reports), "epoch_s": median.epoch_s, "images_per_s": median.images_per_s}
    if f"val_{metric}" in last.scores:
        best = best_epoch(reports, metric)
        metrics |= {
            "best_epoch": best.epoch, f"best_{metric}": best.scores[metric], f"val_{metric}": best.scores[f"val_{metric}"]
        }  # fmt: skip
    return tested | metrics


def best_epoch(reports: list[EpochReport], metric: str) -> EpochReport:
    """Return the epoch with the highest score on the validation split."""
    return max(reports, key=lambda report: report.scores[f"val_{metric}"])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
