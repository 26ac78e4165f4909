"""Dynamic pruning: zero the smallest hidden weights round by round, each image as far as a rule on its own PSNR allows.

A round raises the ratio of pruned hidden weights by a step, smallest magnitude first (iterative L1, unstructured), trains the
rest under the mask, and measures. An image stops at the last round that its rule accepted, with the weights of that round.
Source: Rapid-INR (arXiv 2306.16699), of which only the outline is known; the rules are the readings that its summary leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RULES = ("none", "fixed", "max_drop", "floor", "ceiling_first")
SCOPES = ("network", "layer")

Refine = Callable[[Tensor, Tensor, Tensor], Tensor]  # rows [b, S], masks [b, K], places [b] among all rows -> trained rows
Measure = Callable[[Tensor, Tensor], Tensor]  # rows [b, S], places [b] -> PSNR in dB, float64 [b]


@dataclass(frozen=True)
class PruneConfig:
    """How far each image is pruned, and in which steps.

    Args:
        rule: ``none``; ``fixed`` (every image to `max_ratio`); ``max_drop`` (until it falls more than `max_drop_db` below its
            dense self); ``floor`` (until it falls below `floor_db`; an image already below is spared); ``ceiling_first`` (the
            literal reading of the paper's summary: the poorer an image, the harder it is pruned, by rank from `max_ratio` to 0).
        scope: smallest weights of the whole ``network``, or of each ``layer``.
        step: ratio added a round, in (0, 1].
        max_ratio: where every rule ends, in [0, 1).
        finetune_steps: optimiser steps after each round.
        lr_scale: their rate over the rate of the fit.

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
            "max_drop_db": (self.max_drop_db >= 0, "at least 0"),
            "finetune_steps": (self.finetune_steps >= 0, "at least 0"),
            "lr_scale": (self.lr_scale > 0, "positive"),
        }
        for name, (ok, expected) in checks.items():
            if not ok:
                raise ValueError(f"prune.{name} is {getattr(self, name)!r}, expected {expected}")


@dataclass(frozen=True)
class PruneResult:
    """Where each image stopped.

    Args:
        rows: float32 [B, S], pruned weights zero.
        masks: bool [B, K], true where a hidden weight is kept.
        ratio: float64 [B], pruned hidden weights over all.
        psnr_db: float64 [B] of `rows`.
    """

    rows: Tensor
    masks: Tensor
    ratio: Tensor
    psnr_db: Tensor


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
    """Prune B images, each to the ratio its rule allows.

    Args:
        rows: float32 [B, S], fitted.
        hidden: takes rows [b, S] to their hidden weights [b, K], layer after layer.
        dense_psnr_db: float64 [B], of `rows`.
        n_layers: hidden layers among the K weights, for ``scope=layer``.
        refine: trains rows under masks.
        measure: PSNR of rows.
    """
    rows, psnr = rows.clone(), dense_psnr_db.clone()
    masks = torch.ones_like(hidden(rows), dtype=torch.bool)
    target, least = _targets(dense_psnr_db, config)
    open_images = torch.full((len(rows),), masks.shape[1] > 0)  # a single sine layer has nothing to prune
    for ratio in _ratios(config):
        open_images &= target >= ratio - 1e-9
        places = open_images.nonzero().flatten()
        if len(places) == 0:
            break
        kept = keep_largest(hidden(rows[places]), masks[places], ratio, n_layers=n_layers if config.scope == "layer" else 1)
        trained = refine(rows[places], kept, places)
        found = measure(trained, places)
        accepted = found >= least[places]
        open_images[places[~accepted]] = False
        won = places[accepted]
        rows[won], masks[won], psnr[won] = trained[accepted], kept[accepted], found[accepted]
    ratios = 1 - masks.double().mean(1) if masks.shape[1] else torch.zeros(len(rows), dtype=torch.float64)
    return PruneResult(rows, masks, ratios, psnr)


def _ratios(config: PruneConfig) -> list[float]:
    count = math.ceil(config.max_ratio / config.step - 1e-9)
    return [min((i + 1) * config.step, config.max_ratio) for i in range(count)] if config.rule != "none" else []


def _targets(dense_psnr_db: Tensor, config: PruneConfig) -> tuple[Tensor, Tensor]:
    """Return for each image the ratio it may reach at most and the PSNR it may fall to, in dB."""
    target = torch.full_like(dense_psnr_db, config.max_ratio)
    least = torch.full_like(dense_psnr_db, -torch.inf)
    if config.rule == "max_drop":
        least = dense_psnr_db - config.max_drop_db
    elif config.rule == "floor":
        least = torch.full_like(dense_psnr_db, config.floor_db)
        target[dense_psnr_db < config.floor_db] = 0
    elif config.rule == "ceiling_first":
        rank = dense_psnr_db.argsort().argsort()  # 0 is the poorest image
        target = config.max_ratio * (1 - rank / max(1, len(rank) - 1))
    return target, least


def keep_largest(weights: Tensor, masks: Tensor, ratio: float, *, n_layers: int = 1) -> Tensor:
    """Return masks that prune a fraction of the weights, those that are pruned already and then the smallest.

    Args:
        weights: float32 [b, K].
        masks: bool [b, K], true where a weight is still there.
        ratio: of all K weights, or of those of each of `n_layers` equal parts.

    Returns:
        bool [b, K]; ties go to the weight that comes first.
    """
    size = weights.abs().masked_fill(~masks, -1.0).unflatten(1, (n_layers, -1))  # [b, layers, k]
    n_pruned = round(ratio * size.shape[2])
    order = size.argsort(dim=2, stable=True)
    kept = torch.ones_like(size, dtype=torch.bool)
    return kept.scatter_(2, order[..., :n_pruned], False).flatten(1)
