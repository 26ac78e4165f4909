"""Train a backbone from a pipeline: SGD with momentum, an epoch that reads top to bottom, on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, distributed, nn
from torch.func import functional_call
from torch.nn import functional as F

from rapid_inr.checkpoint import Checkpoint
from rapid_inr.graphed import graphed
from rapid_inr.pipelines.batches import Batch, Pipeline
from rapid_inr.pipelines.pipeline import BatchPipeline
from rapid_inr.recipe import OptimizeConfig, rate_factor, size_at


class TrainingDiverged(Exception):
    """The loss is not finite; the message says in which epoch."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch.

    Args:
        loss: of training, nats.
        top1_pct: accuracy on the clean test images.
        epoch_s: seconds of training alone.
        images_per_s: of training alone, over all processes.
        decoded_top1_pct: accuracy on decoded test images, where there are some.
        held_out_top1_pct: accuracy on training images held out, where there are some.
    """

    epoch: int
    loss: float
    top1_pct: float
    epoch_s: float
    images_per_s: float
    decoded_top1_pct: float | None = None
    held_out_top1_pct: float | None = None


@dataclass(frozen=True)
class Judges:
    """The images that an epoch is judged by, in order: clean test images, and where given decoded and held-out ones."""

    clean: Pipeline
    decoded: Pipeline | None = None
    held_out: Pipeline | None = None


@dataclass
class Learner:
    """A network that learns: its weights, their momenta, their running average."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    steps: int = 0

    @cached_property
    def followed(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Averages, the weights that they move towards, and the counters that are copied: listed once, not in every step."""
        weights = self.model.state_dict()
        moving = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        counters = [(self.average[name], weights[name]) for name in weights.keys() - set(moving)]
        return [self.average[name] for name in moving], [weights[name] for name in moving], counters

    def tested(self) -> Callable[[Tensor], Tensor]:
        """Return the network that is judged: with averaged weights, where there are."""
        if self.average is None:
            return self.model
        return lambda images: functional_call(self.model, self.average, (images,))

    def weights(self) -> dict[str, Tensor]:
        """Return the weights and buffers that are judged."""
        return self.model.state_dict() if self.average is None else self.average

    def checkpoint(self, reports: list[EpochReport]) -> Checkpoint:
        names = {id(p): name for name, p in self.model.named_parameters()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{names[id(parameter)]}"] = state["momentum_buffer"]
        for name, tensor in (self.average or {}).items():
            tensors[f"average.{name}"] = tensor
        return Checkpoint(tensors, [asdict(report) for report in reports], self.steps)

    def restore(self, checkpoint: Checkpoint) -> None:
        self.steps = checkpoint.steps
        self.model.load_state_dict(checkpoint.part("model"))
        momenta = checkpoint.part("momentum")
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momenta[name])
        if self.average is not None:
            for name, tensor in checkpoint.part("average").items():
                self.average[name].copy_(tensor)


def train(
    model: nn.Module,
    pipeline: BatchPipeline,
    judges: Judges,
    config: OptimizeConfig,
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
    device, together = torch.device(device), distributed.is_initialized()
    if together and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        _parameter_groups(model, config.weight_decay), lr=config.lr, momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
    )  # fmt: skip
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} if config.ema else None
    learner, reports = Learner(model, optimizer, average), []
    if resume is not None:
        learner.restore(resume)
        reports = [EpochReport(**report) for report in resume.reports]
    forward = nn.parallel.DistributedDataParallel(model) if together else model
    if config.compile:
        forward = torch.compile(forward)
    elif config.graph and device.type == "cuda" and not together and config.first_size is None:
        shape = (pipeline.batch_size, 3, *(pipeline.size or pipeline.image_size))
        forward = graphed(model.train(), shape, device=device, autocast=autocast)
    rate = rate_factor(config, pipeline.n_batches * config.epochs)
    for epoch in range(len(reports), config.epochs):
        feed = pipeline if config.first_size is None else replace(pipeline, size=size_at(config, epoch, pipeline.image_size))
        began = _now(device)
        loss, n_images = _train_epoch(forward, feed.epoch(epoch), learner, config, rate, autocast=autocast)
        epoch_s = _now(device) - began
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {loss} in epoch {epoch}; a lower optimize.lr may help")
        if together:
            _share_buffers(learner)
        marks = _judge(learner, judges, device=device, autocast=autocast)
        reports.append(EpochReport(epoch, loss=loss, epoch_s=epoch_s, images_per_s=n_images / epoch_s, **marks))
        if on_epoch is not None:
            on_epoch(reports[-1], learner)
    return reports


def _train_epoch(
    forward: Callable[[Tensor], Tensor],
    batches: Iterator[Batch],
    learner: Learner,
    config: OptimizeConfig,
    rate: Callable[[int], float],
    *,
    autocast: bool,
) -> tuple[float, int]:
    """Take a step for each batch and return the mean loss over images, and their number, over all processes."""
    learner.model.train()
    total_loss, n_images = 0.0, 0
    for batch in batches:
        for group in learner.optimizer.param_groups:
            group["lr"] = config.lr * rate(learner.steps)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=autocast):
            loss = batch_loss(forward(batch.images), batch, label_smoothing=config.label_smoothing)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
        learner.steps += 1
        if learner.average is not None:
            _follow(learner, decay=min(config.ema, learner.steps / (learner.steps + 9)))  # young averages forget sooner
        total_loss += loss.detach() * len(batch.ids)  # stays on the device: adding up makes no step wait for it
        n_images += len(batch.ids)
    if n_images == 0:
        raise ValueError("no image of the epoch could be read")
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


@torch.no_grad()
def _follow(learner: Learner, *, decay: float) -> None:
    averages, weights, counters = learner.followed
    torch._foreach_lerp_(averages, weights, 1 - decay)
    for counter, latest in counters:
        counter.copy_(latest)


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


def _judge(learner: Learner, judges: Judges, *, device: torch.device, autocast: bool) -> dict[str, float]:
    """Return the accuracy by each of the judges there are; the model is left in evaluation mode."""
    learner.model.eval()
    names = {"top1_pct": judges.clean, "decoded_top1_pct": judges.decoded, "held_out_top1_pct": judges.held_out}
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
        raise ValueError(f"labels reach from {least} to {most}, the network has classes 0..{n_classes - 1}")


def summary(reports: list[EpochReport]) -> Mapping[str, float]:
    """Return the metrics of a training: those of the last epoch, the median epoch's speed, and the best epoch's accuracy.

    The best epoch is that of the highest accuracy on held-out training images, the first of equals: the test images never choose.
    """
    by_time = sorted(reports, key=lambda report: report.epoch_s)
    median, last = by_time[len(by_time) // 2], reports[-1]
    metrics = {
        "top1_pct": last.top1_pct, "loss": last.loss, "epochs": len(reports),
        "epoch_s": median.epoch_s, "images_per_s": median.images_per_s,
    }  # fmt: skip
    if last.decoded_top1_pct is not None:
        metrics["decoded_top1_pct"] = last.decoded_top1_pct
    if last.held_out_top1_pct is not None:
        best = best_epoch(reports)
        metrics |= {"best_epoch": best.epoch, "best_top1_pct": best.top1_pct, "held_out_top1_pct": best.held_out_top1_pct}
    return metrics


def best_epoch(reports: list[EpochReport]) -> EpochReport:
    """Return the epoch that the held-out images chose."""
    return max(reports, key=lambda report: report.held_out_top1_pct)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
