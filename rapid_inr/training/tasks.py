"""The tasks of a network: classification and segmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import confusion, miou_pct


@dataclass(frozen=True)
class Task:
    """How a network's logits are scored; the loss of both tasks is cross entropy.

    Args:
        metric: name of the score in reports and records, in percent.
        title: name of the score in tables and figures.
        n_classes: classes of the network.
        counts: shape of the counts.
        count: (logits, labels) of a batch -> int64 counts, which are summed over batches and processes.
        score_pct: summed counts -> score, in percent.
    """

    metric: str
    title: str
    n_classes: int
    counts: tuple[int, ...]
    count: Callable[[Tensor, Tensor], Tensor]
    score_pct: Callable[[Tensor], float]


def classification(n_classes: int) -> Task:
    """Return the task of classifying images, with logits [B, n_classes] and top-1 accuracy as its score."""
    return Task("top1_pct", "top-1", n_classes, (2,), _correct_and_all, lambda counts: 100 * counts[0].item() / counts[1].item())


def segmentation(n_classes: int) -> Task:
    """Return the task of classifying pixels, with logits [B, n_classes, height, width] and mean IoU as its score.

    Args:
        n_classes: classes of pixels, including the background.
    """

    def count(logits: Tensor, masks: Tensor) -> Tensor:
        return confusion(logits.argmax(1), masks, n_classes=n_classes)

    return Task("miou_pct", "mIoU", n_classes, (n_classes, n_classes), count, miou_pct)


def _correct_and_all(logits: Tensor, labels: Tensor) -> Tensor:
    correct = (logits.argmax(1) == labels).sum()
    return torch.stack([correct, torch.full_like(correct, len(labels))])


def require_classes(labels: Tensor, n_classes: int) -> None:
    """Check that labels, or masks, are classes of the network.

    Raises:
        UserError: if a label is not in 0..n_classes - 1.
    """
    least, most = int(labels.min()), int(labels.max())
    if not 0 <= least <= most < n_classes:
        raise UserError(f"labels reach from {least} to {most}, the network has classes 0..{n_classes - 1}")
