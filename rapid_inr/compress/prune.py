"""Dynamic pruning: zero the smallest hidden weights round by round, for each image as far as a rule on its PSNR allows.

A round prunes one more step of the hidden weights, smallest magnitude first (iterative L1, unstructured), trains the rest under
the mask, and measures the PSNR. An image keeps the weights of the last round that its rule accepted. Source: Rapid-INR (arXiv
2306.16699), which gives only an outline; the rules are the readings that it allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import MAX_PSNR_DB

RULES = ("none", "fixed", "max_drop", "floor", "ceiling_first")
SCOPES = ("network", "layer")
MAX_LR_SCALE = 100.0  # far above any that trains

Refine = Callable[[Tensor, Tensor, Tensor], Tensor]  # rows [b, S], masks [b, K], positions [b] among all rows -> trained rows
Measure = Callable[[Tensor, Tensor], Tensor]  # rows [b, S], positions [b] -> PSNR in dB, float64 [b]


@dataclass
class PruneConfig:
    """How far each image is pruned, and in which steps.

    Args:
        rule: ``none``; ``fixed`` (all images to `max_ratio`); ``max_drop`` (until the PSNR falls by more than `max_drop_db`);
            ``floor`` (until the PSNR falls below `floor_db`; images already below are not pruned); ``ceiling_first`` (the literal
            reading of the paper's summary: by rank of PSNR among the images of one size in a shard, from `max_ratio` for the
            poorest to 0 for the best; an image that is the only one of its size is not pruned).
        scope: prune the smallest weights of the whole ``network`` or of each ``layer``.
        step: ratio added a round, in (0, 1].
        max_ratio: largest ratio of every rule, in [0, 1).
        max_drop_db: decibels that an image may lose with ``rule=max_drop``.
        floor_db: PSNR that an image keeps with ``rule=floor``, below 100.
        finetune_steps: optimiser steps after each round.
        lr_scale: their learning rate as a multiple of the fit's.

    Raises:
        ValueError: if a value is out of range.
    """

    rule: str = "none"
    scope: str = "network"
    step: float = 0.1
    max_ratio: float = 0.7
    max_drop_db: float = 1.0
    floor_db: float = 30.0
    finetune_steps: int = 100
    lr_scale: float = 0.2

    def __post_init__(self) -> None:
        checks = {
            "rule": (self.rule in RULES, f"one of {', '.join(RULES)}"),
            "scope": (self.scope in SCOPES, f"one of {', '.join(SCOPES)}"),
            "step": (0 < self.step <= 1, "in (0, 1]"),
            "max_ratio": (0 <= self.max_ratio < 1, "in [0, 1)"),
            "floor_db": (0 <= self.floor_db < MAX_PSNR_DB, f"at least 0 and below {MAX_PSNR_DB:g}, which no image exceeds"),
            "max_drop_db": (0 <= self.max_drop_db < math.inf, "at least 0, and finite"),
            "finetune_steps": (self.finetune_steps >= 0, "at least 0"),
            "lr_scale": (0 < self.lr_scale <= MAX_LR_SCALE, f"in (0, {MAX_LR_SCALE}]"),
        }
        for name, (ok, expected) in checks.items():
            if not ok:
                raise UserError(f"prune.{name} is {getattr(self, name)!r}, expected {expected}")

    def parts(self, n_layers: int) -> int:
        """Return the number of equal parts of the hidden weights that are each pruned to the same ratio."""
        return max(1, n_layers) if self.scope == "layer" else 1


@dataclass(frozen=True)
class PruneResult:
    """The rows of each image after its last accepted round.

    Args:
        rows: float32 [B, S], zero at pruned weights.
        masks: bool [B, K], true where a hidden weight is kept.
        psnr_db: float64 [B] of `rows`.
    """

    rows: Tensor
    masks: Tensor
    psnr_db: Tensor

    @classmethod
    def dense(cls, rows: Tensor, hidden: Tensor, psnr_db: Tensor) -> PruneResult:
        return cls(rows, torch.ones_like(hidden, dtype=torch.bool), psnr_db)

    def replaced(self, positions: Tensor, rows: Tensor, masks: Tensor, psnr_db: Tensor) -> PruneResult:
        """Return the result with other rows at some positions."""
        changes = {"rows": rows, "masks": masks, "psnr_db": psnr_db}
        return PruneResult(**{name: getattr(self, name).index_copy(0, positions, new) for name, new in changes.items()})

    @property
    def ratio(self) -> Tensor:
        """The fraction of hidden weights that is pruned, float64 [B]; 0 without hidden weights."""
        return prune_ratio(self.masks)


def prune_ratio(masks: Tensor) -> Tensor:
    """Return the pruned fraction of each mask, bool [B, K]: float64 [B], 0 if K is 0."""
    return 1 - masks.double().mean(1) if masks.shape[1] else torch.zeros(len(masks), dtype=torch.float64)


def prune(
    rows: Tensor,
    hidden: Callable[[Tensor], Tensor],
    dense_psnr_db: Tensor,
    config: PruneConfig,
    *,
    n_layers: int,
    refine: Refine,
    measure: Measure,
) -> PruneResult:
    """Prune B images, each to the ratio that the rule allows.

    Args:
        rows: float32 [B, S], fitted.
        hidden: rows [b, S] -> hidden weights [b, K], layer after layer.
        dense_psnr_db: float64 [B], of `rows`.
        n_layers: hidden layers among the K weights, for ``scope=layer``.
        refine: trains rows under masks.
        measure: measures the PSNR of rows.
    """
    result = PruneResult.dense(rows, hidden(rows), dense_psnr_db)
    target, least = _targets(dense_psnr_db, config)
    open_images = torch.full((len(rows),), result.masks.shape[1] > 0)  # a single sine layer has nothing to prune
    for ratio in prune_ratios(config):
        open_images = open_images & (target >= ratio - 1e-9)
        positions = open_images.nonzero().flatten()
        if len(positions) == 0:
            break
        masks = keep_largest(hidden(result.rows[positions]), result.masks[positions], ratio, parts=config.parts(n_layers))
        trained = refine(result.rows[positions], masks, positions)
        psnr_db = measure(trained, positions)
        accepted = psnr_db >= least[positions]
        open_images[positions[~accepted]] = False
        result = result.replaced(positions[accepted], trained[accepted], masks[accepted], psnr_db[accepted])
    return result


def prune_ratios(config: PruneConfig) -> list[float]:
    """Return the pruned ratio after each round."""
    count = math.ceil(config.max_ratio / config.step - 1e-9)
    return [min((i + 1) * config.step, config.max_ratio) for i in range(count)] if config.rule != "none" else []


def _targets(dense_psnr_db: Tensor, config: PruneConfig) -> tuple[Tensor, Tensor]:
    """Return the largest ratio and the least PSNR, in dB, that each image may reach."""
    target = torch.full_like(dense_psnr_db, config.max_ratio)
    least = torch.full_like(dense_psnr_db, -torch.inf)
    if config.rule == "max_drop":
        least = dense_psnr_db - config.max_drop_db
    elif config.rule == "floor":
        least = torch.full_like(dense_psnr_db, config.floor_db)
        target[dense_psnr_db < config.floor_db] = 0
    elif config.rule == "ceiling_first":
        rank = dense_psnr_db.argsort().argsort()  # 0 is the poorest image
        target = config.max_ratio * (1 - rank / (len(rank) - 1)) if len(rank) > 1 else torch.zeros_like(dense_psnr_db)
    return target, least


def keep_largest(weights: Tensor, masks: Tensor, ratio: float, *, parts: int = 1) -> Tensor:
    """Return masks that prune a fraction of the weights: those already pruned, then the smallest.

    Args:
        weights: float32 [b, K].
        masks: bool [b, K], true where a weight is not pruned yet.
        ratio: fraction of each of the equal `parts` of the K weights.

    Returns:
        bool [b, K]; of equal weights, the first is pruned first.
    """
    size = weights.abs().masked_fill(~masks, -1.0).unflatten(1, (parts, -1))  # [b, parts, k]
    n_pruned = round(ratio * size.shape[2])
    order = size.argsort(dim=2, stable=True)
    kept = torch.ones_like(size, dtype=torch.bool)
    return kept.scatter_(2, order[..., :n_pruned], False).flatten(1)
