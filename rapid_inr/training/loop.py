"""Train a backbone from a pipeline: SGD with momentum, an epoch that reads top to bottom, on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from rapid_inr.errors import UserError
from rapid_inr.pipelines.batches import Batch, Pipeline
from rapid_inr.pipelines.pipeline import BatchPipeline
from rapid_inr.training.checkpoint import Checkpoint
from rapid_inr.training.cuda_graph import Step, plain_step, replayed_step
from rapid_inr.training.schedule import OptimizerConfig, rate_factor, size_at
from rapid_inr.training.state import EpochReport, Learner


class TrainingDiverged(UserError):
    """The loss is not finite; the message says in which epoch."""


@dataclass(frozen=True)
class EvalSets:
    """The images that an epoch is judged by, in order: clean test images, and where given decoded and held-out ones."""

    clean: Pipeline
    decoded: Pipeline | None = None
    validation: Pipeline | None = None


def train(
    model: nn.Module,
    pipeline: BatchPipeline,
    eval_sets: EvalSets,
    config: OptimizerConfig,
    *,
    device: torch.device | str,
    autocast: bool,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[EpochReport, Learner], None] | None = None,
) -> list[EpochReport]:
    """Train `model` in place and return a report for each epoch.

    Where torch.distributed has been initialized, every process calls this with its own share of the same batches, and their
    gradients are averaged. On GPUs batch norms then see the whole batch; on CPUs each its share, and the first one's statistics
    are those that are judged.

    Args:
        pipeline: yields the training batches.
        autocast: whether to compute in bfloat16.
        resume: a training to go on with, of the same model, data and config; its reports are the first ones returned.
        on_epoch: called after each epoch, with what a checkpoint is made of.

    Raises:
        TrainingDiverged: if the loss of an epoch is not finite.
    """
    device = torch.device(device)
    learner = _learner(model, config, device)
    reports = [] if resume is None else learner.restore(resume)
    step = gradient_step(learner.model, config, device=device, autocast=autocast)
    rate = rate_factor(config, pipeline.n_batches * config.epochs)
    for epoch in range(len(reports), config.epochs):
        feed = pipeline if config.first_size is None else replace(pipeline, size=size_at(config, epoch, pipeline.image_size))
        began = _now(device)
        loss, n_images = _train_epoch(step, feed.epoch(epoch), learner, config, rate)
        epoch_s = _now(device) - began
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {loss} in epoch {epoch}; a lower optimizer.lr may help")
        if distributed.is_initialized():
            _share_buffers(learner)
        marks = _evaluate(learner, eval_sets, device=device, autocast=autocast)
        reports.append(EpochReport(epoch, loss=loss, epoch_s=epoch_s, images_per_s=n_images / epoch_s, **marks))
        if on_epoch is not None:
            on_epoch(reports[-1], learner)
    return reports


def _learner(model: nn.Module, config: OptimizerConfig, device: torch.device) -> Learner:
    """Put a network on its device and return it with an optimizer that has taken no step."""
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
    """Return what computes the gradients of a batch: shared among processes, compiled, or replayed, as asked and possible."""

    def loss_of(logits: Tensor, batch: Batch) -> Tensor:
        return batch_loss(logits, batch, label_smoothing=config.label_smoothing)

    if distributed.is_initialized():
        model = nn.parallel.DistributedDataParallel(model)
    elif config.graph and device.type == "cuda" and not config.compile and config.first_size is None:
        return replayed_step(model, loss_of, autocast=autocast)
    return plain_step(torch.compile(model) if config.compile else model, loss_of, autocast=autocast)


def _train_epoch(
    step: Step, batches: Iterator[Batch], learner: Learner, config: OptimizerConfig, rate: Callable[[int], float]
) -> tuple[float, int]:
    """Take a step for each batch and return the mean loss over images, and their number, over all processes."""
    learner.model.train()
    total_loss, n_images = 0.0, 0
    for batch in batches:
        for group in learner.optimizer.param_groups:
            group["lr"] = config.lr * rate(learner.steps)
        loss = step(batch)
        learner.optimizer.step()
        learner.steps += 1
        if learner.average is not None:
            learner.follow(decay=min(config.ema, learner.steps / (learner.steps + 9)))  # young averages forget sooner
        total_loss += loss * len(batch.ids)  # stays on the device: adding up makes no step wait for it
        n_images += len(batch.ids)
    if n_images == 0:
        raise UserError("no image of the epoch could be read")
    return _mean_over_processes(total_loss, n_images)


def batch_loss(logits: Tensor, batch: Batch, *, label_smoothing: float) -> Tensor:
    """Return the mean cross entropy of a batch; where neighbours were mixed, each image has both labels by their shares."""
    if batch.keeps is None:
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in (batch.labels, batch.others)
    )
    return (batch.keeps * own + (1 - batch.keeps) * other).mean()


def _mean_over_processes(total: Tensor, n_images: int) -> tuple[float, int]:
    sums = torch.stack([total.double(), torch.full_like(total, n_images, dtype=torch.float64)])
    if distributed.is_initialized():
        distributed.all_reduce(sums)
    total, count = sums.tolist()
    return total / count, int(count)


def _share_buffers(learner: Learner) -> None:
    """Give every process the first one's buffers, such as the statistics of batch norms, so that all judge one network."""
    for name, buffer in learner.model.named_buffers():
        distributed.broadcast(buffer, src=0)
        if learner.average is not None and name in learner.average:
            distributed.broadcast(learner.average[name], src=0)


def _evaluate(learner: Learner, eval_sets: EvalSets, *, device: torch.device, autocast: bool) -> dict[str, float]:
    """Return the accuracy by each of the eval_sets there are; the model is left in evaluation mode."""
    learner.model.eval()
    names = {"top1_pct": eval_sets.clean, "decoded_top1_pct": eval_sets.decoded, "val_top1_pct": eval_sets.validation}
    return {
        name: top1_pct(learner.tested(), images, device=device, autocast=autocast)
        for name, images in names.items()
        if images is not None
    }


@torch.no_grad()
def top1_pct(model: Callable[[Tensor], Tensor], test: Pipeline, *, device: torch.device | str, autocast: bool) -> float:
    """Return the percentage of images, over all processes, whose largest logit is their label's.

    Args:
        model: in evaluation mode.
    """
    correct, n_images = torch.zeros((), dtype=torch.int64, device=device), 0
    for batch in test.epoch(0):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
            logits = model(batch.images)
        correct += (logits.argmax(1) == batch.labels).sum()
        n_images += len(batch.ids)
    return 100 * _mean_over_processes(correct, n_images)[0]


def require_classes(labels: Tensor, n_classes: int) -> None:
    """Raise ValueError unless each label is that of one of the network's classes."""
    least, most = int(labels.min()), int(labels.max())
    if not 0 <= least <= most < n_classes:
        raise UserError(f"labels reach from {least} to {most}, the network has classes 0..{n_classes - 1}")


def summary(reports: list[EpochReport]) -> Mapping[str, float]:
    """Return the metrics of a training: those of the last epoch, the median epoch's speed, and the best epoch's accuracy.

    The speed is without the first epoch where there are others: workers start in it, and libraries choose their kernels. The best
    epoch is that of the highest accuracy on held-out training images, the first of equals: the test images never choose.
    """
    by_time = sorted(reports[1:] or reports, key=lambda report: report.epoch_s)
    median, last = by_time[len(by_time) // 2], reports[-1]
    metrics = {
        "top1_pct": last.top1_pct, "loss": last.loss, "epochs": len(reports),
        "epoch_s": median.epoch_s, "images_per_s": median.images_per_s,
    }  # fmt: skip
    if last.decoded_top1_pct is not None:
        metrics["decoded_top1_pct"] = last.decoded_top1_pct
    if last.val_top1_pct is not None:
        best = best_epoch(reports)
        metrics |= {"best_epoch": best.epoch, "best_top1_pct": best.top1_pct, "val_top1_pct": best.val_top1_pct}
    return metrics


def best_epoch(reports: list[EpochReport]) -> EpochReport:
    """Return the epoch that the held-out images chose."""
    return max(reports, key=lambda report: report.val_top1_pct)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
