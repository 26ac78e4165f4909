"""Train a backbone from a pipeline: SGD with momentum and a cosine schedule, an epoch that reads top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rapid_inr.pipelines.batches import Batch, Pipeline


class TrainingDiverged(Exception):
    """The loss is not finite; the message says in which epoch."""


@dataclass(frozen=True)
class OptimizeConfig:
    """How a backbone is trained.

    Args:
        epochs: passes over the training set, at least 1.
        batch_size: images a step, at least 1; for whoever builds the pipeline, which alone knows its batches.
        lr: peak learning rate of SGD, reached after `warmup` and decayed by a half cosine to 0.
        momentum: of SGD, with Nesterov's correction if `nesterov`.
        weight_decay: on weights of two or more dimensions; norms and biases have none.
        label_smoothing: in [0, 1).
        warmup: fraction of all steps over which the rate rises linearly, in [0, 1).

    Raises:
        ValueError: if a value is out of range.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    warmup: float = 0.1

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1, "batch_size": self.batch_size >= 1, "lr": self.lr > 0,
            "momentum": 0 <= self.momentum < 1, "weight_decay": self.weight_decay >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1, "warmup": 0 <= self.warmup < 1,
        }  # fmt: skip
        for name, ok in checks.items():
            if not ok:
                raise ValueError(f"optimize.{name} is {getattr(self, name)}, which is out of range")


@dataclass(frozen=True)
class EpochReport:
    """One epoch: training loss (nats), top-1 accuracy on the test set, seconds and images per second of training alone."""

    epoch: int
    loss: float
    top1_pct: float
    epoch_s: float
    images_per_s: float


def train(
    model: nn.Module,
    pipeline: Pipeline,
    test: Pipeline,
    config: OptimizeConfig,
    *,
    device: torch.device | str,
    autocast: bool,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> list[EpochReport]:
    """Train `model` in place and return a report for each epoch; the result is that of the last one, never the best.

    Args:
        pipeline: yields the training batches.
        test: yields the test images, in order.
        autocast: whether to compute in bfloat16.

    Raises:
        TrainingDiverged: if the loss of an epoch is not finite.
    """
    device = torch.device(device)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        _parameter_groups(model, config.weight_decay), lr=config.lr, momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(config, pipeline.n_batches * config.epochs))
    reports = []
    for epoch in range(config.epochs):
        began = _now(device)
        loss, n_images = _train_epoch(model, pipeline.epoch(epoch), optimizer, schedule, config, autocast=autocast)
        epoch_s = _now(device) - began
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {loss} in epoch {epoch}; a lower optimize.lr may help")
        top1 = top1_pct(model, test, device=device, autocast=autocast)
        reports.append(EpochReport(epoch, loss=loss, top1_pct=top1, epoch_s=epoch_s, images_per_s=n_images / epoch_s))
        if on_epoch is not None:
            on_epoch(reports[-1])
    return reports


def _train_epoch(
    model: nn.Module,
    batches: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: OptimizeConfig,
    *,
    autocast: bool,
) -> tuple[float, int]:
    """Take a step for each batch and return the mean loss over images, and their number."""
    model.train()
    total_loss, n_images = 0.0, 0
    for batch in batches:
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(batch.images), batch.labels, label_smoothing=config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total_loss += loss.detach() * len(batch.ids)  # stays on the device: adding up makes no step wait for it
        n_images += len(batch.ids)
    return float(total_loss) / n_images, n_images


@torch.no_grad()
def top1_pct(model: nn.Module, test: Pipeline, *, device: torch.device | str, autocast: bool) -> float:
    """Return the percentage of images whose largest logit is their label's; the model is left in evaluation mode."""
    model.eval()
    correct, n_images = torch.zeros((), dtype=torch.int64, device=device), 0
    for batch in test.epoch(0):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
            logits: Tensor = model(batch.images)
        correct += (logits.argmax(1) == batch.labels).sum()
        n_images += len(batch.ids)
    return 100 * correct.item() / n_images


def summary(reports: list[EpochReport]) -> dict[str, float]:
    """Return the metrics of a training: those of the last epoch, and the median epoch's seconds and images per second."""
    by_time = sorted(reports, key=lambda report: report.epoch_s)
    median = by_time[len(by_time) // 2]
    last = asdict(reports[-1])
    return {
        "top1_pct": last["top1_pct"], "loss": last["loss"], "epochs": len(reports),
        "epoch_s": median.epoch_s, "images_per_s": median.images_per_s,
    }  # fmt: skip


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _schedule(config: OptimizeConfig, total: int) -> Callable[[int], float]:
    rise = config.warmup * total

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    return factor
