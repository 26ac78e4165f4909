"""How a network is trained: the config, the learning rate at each step, the image size in each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rapid_inr.errors import UserError

SCHEDULES = ("cosine", "linear")
MAX_LR = 100  # far above any rate that trains
_SIZE_STEP = 4  # progressive sizes are multiples of this, which suits the strides of a backbone


@dataclass(frozen=True)
class OptimizerConfig:
    """How a network is trained.

    Args:
        epochs: passes over the training set, at least 1.
        batch_size: images a step over all processes, at least 1.
        lr: peak learning rate of SGD, reached after `warmup` and decayed to 0 by `schedule`.
        momentum: of SGD.
        nesterov: whether with Nesterov's correction.
        weight_decay: of weights with two or more dimensions; norms and biases have none.
        label_smoothing: in [0, 1).
        warmup: fraction of all steps over which the rate rises linearly, in [0, 1).
        schedule: ``cosine`` (half a period) or ``linear``.
        ema: decay a step of the weights' EMA, in [0, 1); if above 0, the EMA is evaluated and saved instead of the last weights.
        compile: whether to compile the network by torch.compile.
        graph: whether a GPU replays steps as a CUDA graph; ignored with several processes, `compile` or `first_size`.
        validation_split: fraction of the training images, in [0, 1), kept out to choose the best epoch; 0 for none.
        first_size: longer side of the images in the first epoch, for progressive resizing: it grows linearly to full size. None
            for full size throughout.
        full_size_from: fraction of the epochs after which images have full size, in (0, 1].

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
    schedule: str = "cosine"
    ema: float = 0.0
    compile: bool = False
    graph: bool = True
    validation_split: float = 0.0
    first_size: int | None = None
    full_size_from: float = 0.7

    def __post_init__(self) -> None:
        fraction = "in [0, 1)"
        checks = {
            "epochs": (self.epochs >= 1, "at least 1"), "batch_size": (self.batch_size >= 1, "at least 1"),
            "lr": (0 < self.lr <= MAX_LR, f"in (0, {MAX_LR}]"), "momentum": (0 <= self.momentum < 1, fraction),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0 and finite"),
            "label_smoothing": (0 <= self.label_smoothing < 1, fraction), "warmup": (0 <= self.warmup < 1, fraction),
            "schedule": (self.schedule in SCHEDULES, " or ".join(SCHEDULES)), "ema": (0 <= self.ema < 1, fraction),
            "validation_split": (0 <= self.validation_split < 1, fraction),
            "first_size": (self.first_size is None or self.first_size >= 1, "at least 1, or null"),
            "full_size_from": (0 < self.full_size_from <= 1, "in (0, 1]"),
        }  # fmt: skip
        for name, (ok, expected) in checks.items():
            if not ok:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}, expected {expected}")


def rate_factor(config: OptimizerConfig, total: int) -> Callable[[int], float]:
    """Return the function from a step, 0..total - 1, to the factor of the peak learning rate."""
    rise = config.warmup * total

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        done = (step - rise) / max(1, total - rise)
        return 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done

    return factor


def size_at(config: OptimizerConfig, epoch: int, full: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of the training images in an epoch."""
    longer, resizing = max(full), config.full_size_from * config.epochs
    if config.first_size is None or config.first_size >= longer or epoch >= resizing:
        return full
    side = config.first_size + (longer - config.first_size) * epoch / resizing
    scale = min(1, round(side / _SIZE_STEP) * _SIZE_STEP / longer) or 1 / longer
    return tuple(max(1, round(length * scale)) for length in full)
