"""Train a network that names the class of each pixel: images from any pipeline, their masks moved by the same draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rapid_inr.augment.policy import draw
from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import confusion, miou_pct
from rapid_inr.pipelines.pipeline import BatchPipeline
from rapid_inr.training.loop import TrainingDiverged
from rapid_inr.training.schedule import OptimizerConfig, rate_factor


@dataclass(frozen=True)
class SegmentReport:
    """One epoch.

    Args:
        loss: of training, nats a pixel.
        miou_pct: on the clean test images.
        epoch_s: seconds of training alone.
        images_per_s: of training alone.
        decoded_miou_pct: on decoded test images, where there are some.
    """

    epoch: int
    loss: float
    miou_pct: float
    epoch_s: float
    images_per_s: float
    decoded_miou_pct: float | None = None


def require_segmentable(pipeline: BatchPipeline, config: OptimizerConfig, *, n_classes: int) -> None:
    """Refuse what cannot be trained: labels that are no masks of the images, a mixture of images, options of classification.

    Raises:
        ValueError: at the first of these.
    """
    masks, augment = pipeline.labels, pipeline.augment
    if masks.shape[1:] != pipeline.image_size:
        raise UserError(f"masks are {tuple(masks.shape[1:])}, the images {pipeline.image_size}")
    if int(masks.max()) >= n_classes:
        raise UserError(f"masks hold class {int(masks.max())}, the network has classes 0..{n_classes - 1}")
    if augment is not None and augment.mix != "none":
        raise UserError(f"augment.mix is {augment.mix}, expected none: a mixture of images has no mask")
    for name in ("ema", "validation_split", "first_size", "compile"):
        if getattr(config, name):
            raise UserError(f"optimizer.{name} is {getattr(config, name)}, which segmentation does not have")


def masked_batches(pipeline: BatchPipeline, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch as images and masks: what moved an image's pixels has moved those of its mask.

    Args:
        pipeline: its labels are the masks, [N, height, width].

    Returns:
        Floating [B, 3, height, width] and int64 [B, height, width] of each batch. What lies outside the image is background
        where ``augment.padding`` is ``zero``, else the mask's own reflection or edge.
    """
    device, augment, size = pipeline.device, pipeline.augment, pipeline.image_size
    places = {"image_size": size, "size": pipeline.size or size, "black": torch.zeros(1, device=device)}
    draws, outside = None, "clamp"
    if augment is not None:  # the pipeline's own draws, which follow from seed and epoch alone
        draws = draw(len(pipeline.labels), augment, seed=pipeline.seed, epoch=epoch, image_size=size).to(device)
        outside = augment.padding
    geometry = Geometry.of(draws, outside=outside, **places)
    for batch in pipeline.epoch(epoch):
        masks = geometry.apply(batch.labels[:, None].float(), batch.ids.to(device), mode="nearest")
        yield batch.images, masks[:, 0].long()


def train_segmentation(
    model: nn.Module,
    pipeline: BatchPipeline,
    config: OptimizerConfig,
    *,
    clean: BatchPipeline,
    decoded: BatchPipeline | None = None,
    n_classes: int,
    device: torch.device | str,
    autocast: bool,
    on_epoch: Callable[[SegmentReport], None] | None = None,
) -> list[SegmentReport]:
    """Train `model` in place and return a report for each epoch.

    Args:
        pipeline: of the training images, with masks as labels; likewise the next two.
        clean: the test images as they are.
        decoded: the test images as INRs.
        n_classes: of pixels, the background among them.
        autocast: whether to compute in bfloat16.

    Raises:
        ValueError: as `require_segmentable`.
        TrainingDiverged: if the loss of an epoch is not finite.
    """
    for images in (pipeline, clean, *(() if decoded is None else (decoded,))):
        require_segmentable(images, config, n_classes=n_classes)
    device = torch.device(device)
    model.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(model, config)
    rate = rate_factor(config, pipeline.n_batches * config.epochs)
    reports: list[SegmentReport] = []
    for epoch in range(config.epochs):
        began = _now(device)
        loss, n_images = _train_epoch(model, optimizer, pipeline, epoch, config, rate, autocast=autocast)
        epoch_s = _now(device) - began
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {loss} in epoch {epoch}; a lower optimizer.lr may help")
        eval_sets = {"miou_pct": clean} | ({} if decoded is None else {"decoded_miou_pct": decoded})
        marks = {name: evaluate(model, images, n_classes=n_classes, autocast=autocast) for name, images in eval_sets.items()}
        reports.append(SegmentReport(epoch, loss=loss, epoch_s=epoch_s, images_per_s=n_images / epoch_s, **marks))
        if on_epoch is not None:
            on_epoch(reports[-1])
    return reports


def _optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pipeline: BatchPipeline,
    epoch: int,
    config: OptimizerConfig,
    rate: Callable[[int], float],
    *,
    autocast: bool,
) -> tuple[float, int]:
    """Take a step for each batch and return the mean loss over images, and their number."""
    model.train()
    total, n_images, first = torch.zeros((), device=pipeline.device), 0, epoch * pipeline.n_batches
    for step, (images, masks) in enumerate(masked_batches(pipeline, epoch), start=first):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate(step)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images).float(), masks, label_smoothing=config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(images)  # stays on the device: adding up makes no step wait for it
        n_images += len(images)
    if n_images == 0:
        raise UserError("no image of the epoch could be read")
    return total.item() / n_images, n_images


@torch.no_grad()
def evaluate(model: nn.Module, test: BatchPipeline, *, n_classes: int, autocast: bool) -> float:
    """Return the mIoU in percent on test images, over the pixels of all of them; the model is left in evaluation mode."""
    model.eval()
    counts = torch.zeros(n_classes, n_classes, dtype=torch.int64, device=test.device)
    for images, masks in masked_batches(test, 0):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            logits = model(images)
        counts += confusion(logits.argmax(1), masks, n_classes=n_classes)
    return miou_pct(counts)


def summary(reports: list[SegmentReport]) -> dict[str, float]:
    """Return the metrics of a training: those of the last epoch, and the median epoch's speed without the first."""
    by_time = sorted(reports[1:] or reports, key=lambda report: report.epoch_s)
    last, median = reports[-1], by_time[len(by_time) // 2]
    metrics = {"epochs": len(reports), "epoch_s": median.epoch_s, "images_per_s": median.images_per_s}
    marks = {name: value for name, value in asdict(last).items() if name.endswith(("miou_pct", "loss")) and value is not None}
    return marks | metrics


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
