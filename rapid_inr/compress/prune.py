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

from kernels.rows import packed_bytes
from rapid_inr.compress.budget import allocate
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import MAX_PSNR_DB

RULES = ("none", "fixed", "max_drop", "floor", "budget", "ceiling_first")
MASKS = ("own", "shared")
SCOPES = ("network", "layer")

Refine = Callable[[Tensor, Tensor, Tensor], Tensor]  # rows [b, S], masks [b, K], places [b] among all rows -> trained rows
Measure = Callable[[Tensor, Tensor], Tensor]  # rows [b, S], places [b] -> PSNR in dB, float64 [b]


@dataclass(frozen=True)
class PruneConfig:
    """How far each image is pruned, and in which steps.

    Args:
        rule: ``none``; ``fixed`` (every image to `max_ratio`); ``max_drop`` (until it falls more than `max_drop_db` below its
            dense self); ``floor`` (until it falls below `floor_db`; an image already below is spared); ``budget`` (the ratios
            with the highest mean PSNR at which the whole store takes at most `budget_bytes`); ``ceiling_first`` (the literal
            reading of the paper's summary: the poorer an image, the harder it is pruned, by rank from `max_ratio` to 0
            among the images of one size that are encoded together; an image that is alone there is spared).
        mask: ``own`` (each image chooses its weights) or ``shared`` (all images keep the same, found on the first
            `sample_images`, whose mean PSNR the rule then watches; every image is fitted under it from the start).
        scope: smallest weights of the whole ``network``, or of each ``layer``.
        step: ratio added a round, in (0, 1].
        max_ratio: where every rule ends, in [0, 1).
        budget_bytes: of the whole store, for ``rule=budget``.
        sample_images: on which a shared mask is found.
        finetune_steps: optimiser steps after each round.
        lr_scale: their rate over the rate of the fit.

    Raises:
        ValueError: if a value is out of range.
    """

    rule: str = "none"
    mask: str = "own"
    scope: str = "network"
    step: float = 0.1
    max_ratio: float = 0.7
    max_drop_db: float = 1.0
    floor_db: float = 30.0
    budget_bytes: int | None = None
    sample_images: int = 256
    finetune_steps: int = 100
    lr_scale: float = 0.2

    def __post_init__(self) -> None:
        alone = self.rule == "ceiling_first"
        checks = {
            "rule": (self.rule in RULES, f"one of {', '.join(RULES)}"),
            "mask": (self.mask in MASKS and not (alone and self.mask == "shared"), "own" if alone else "own or shared"),
            "scope": (self.scope in SCOPES, f"one of {', '.join(SCOPES)}"),
            "step": (0 < self.step <= 1, "in (0, 1]"),
            "max_ratio": (0 <= self.max_ratio < 1, "in [0, 1)"),
            "floor_db": (self.floor_db < MAX_PSNR_DB, f"below {MAX_PSNR_DB:g}, which no image exceeds"),
            "max_drop_db": (self.max_drop_db >= 0, "at least 0"),
            "budget_bytes": ((self.budget_bytes or 0) >= 1 if self.rule == "budget" else True, "the bytes of the whole store"),
            "sample_images": (self.sample_images >= 1, "at least 1"),
            "finetune_steps": (self.finetune_steps >= 0, "at least 0"),
            "lr_scale": (self.lr_scale > 0, "positive"),
        }
        for name, (ok, expected) in checks.items():
            if not ok:
                raise UserError(f"prune.{name} is {getattr(self, name)!r}, expected {expected}")

    def parts(self, n_layers: int) -> int:
        """Return in how many equal parts the hidden weights of `n_layers` layers are pruned, each to the same ratio."""
        return max(1, n_layers) if self.scope == "layer" else 1


@dataclass(frozen=True)
class PruneResult:
    """Where each image stopped.

    Args:
        rows: float32 [B, S], pruned weights zero.
        masks: bool [B, K], true where a hidden weight is kept.
        psnr_db: float64 [B] of `rows`.
    """

    rows: Tensor
    masks: Tensor
    psnr_db: Tensor

    @classmethod
    def dense(cls, rows: Tensor, hidden: Tensor, psnr_db: Tensor) -> PruneResult:
        return cls(rows, torch.ones_like(hidden, dtype=torch.bool), psnr_db)

    def replaced(self, places: Tensor, rows: Tensor, masks: Tensor, psnr_db: Tensor) -> PruneResult:
        """Return the result with other rows at some places."""
        changes = {"rows": rows, "masks": masks, "psnr_db": psnr_db}
        return PruneResult(**{name: getattr(self, name).index_copy(0, places, new) for name, new in changes.items()})

    @property
    def ratio(self) -> Tensor:
        """Pruned hidden weights over all, float64 [B]; 0 where there are none."""
        return prune_ratio(self.masks)


def prune_ratio(masks: Tensor) -> Tensor:
    """Return the part of each mask, bool [B, K], that is pruned: float64 [B], 0 where there is nothing to prune."""
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
    bits: int = 8,
    hidden_bytes: int | None = None,
) -> PruneResult:
    """Prune B images, each to the ratio its rule allows.

    Args:
        rows: float32 [B, S], fitted.
        hidden: takes rows [b, S] to their hidden weights [b, K], layer after layer.
        dense_psnr_db: float64 [B], of `rows`.
        n_layers: hidden layers among the K weights, for ``scope=layer``.
        refine: trains rows under masks.
        measure: PSNR of rows.
        bits: of a code, for ``rule=budget``.
        hidden_bytes: what the codes and masks of the B images may take together, for ``rule=budget``.

    Raises:
        ValueError: if `hidden_bytes` are fewer than the images take at `max_ratio`.
    """
    states = [PruneResult.dense(rows, hidden(rows), dense_psnr_db)]
    target, least = _targets(dense_psnr_db, config)
    open_images = torch.full((len(rows),), states[0].masks.shape[1] > 0)  # a single sine layer has nothing to prune
    for ratio in prune_ratios(config):
        open_images = open_images & (target >= ratio - 1e-9)
        places = open_images.nonzero().flatten()
        if len(places) == 0:
            break
        last = states[-1]
        masks = keep_largest(hidden(last.rows[places]), last.masks[places], ratio, parts=config.parts(n_layers))
        trained = refine(last.rows[places], masks, places)
        found = measure(trained, places)
        accepted = found >= least[places]
        open_images[places[~accepted]] = False
        state = last.replaced(places[accepted], trained[accepted], masks[accepted], found[accepted])
        states = [*states, state] if config.rule == "budget" else [state]  # bytes are shared out once all rounds are known
    return states[-1] if hidden_bytes is None else _within(states, bits=bits, hidden_bytes=hidden_bytes)


def _within(states: list[PruneResult], *, bits: int, hidden_bytes: int) -> PruneResult:
    """Choose a round for each image so that their codes and masks fit, with the highest mean PSNR."""
    n_images, n_weights = states[0].masks.shape
    if n_images * packed_bytes(n_weights, bits) <= hidden_bytes:
        return states[0]  # all dense, and no masks to pay for
    cost = torch.tensor([pruned_bytes(int(state.masks[0].sum()), n_weights, bits) for state in states])
    chosen = allocate(torch.stack([state.psnr_db for state in states]), cost, hidden_bytes)
    images = torch.arange(n_images)

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(state, name) for state in states])[chosen, images]

    return PruneResult(pick("rows"), pick("masks"), pick("psnr_db"))


def pruned_bytes(n_kept: int, n_weights: int, bits: int) -> int:
    """Return what the codes and the mask of an image take."""
    return packed_bytes(n_weights, 1) + packed_bytes(n_kept, bits)


def find_shared_mask(
    rows: Tensor,
    hidden: Callable[[Tensor], Tensor],
    dense_psnr_db: Tensor,
    config: PruneConfig,
    *,
    n_layers: int,
    refine: Callable[[Tensor, Tensor], Tensor],
    measure: Callable[[Tensor], Tensor],
) -> Tensor:
    """Find one mask for all images, by the mean magnitude of each weight over a sample, round by round as `prune`.

    Args:
        rows: float32 [B, S], the sample, fitted.
        refine: trains rows [B, S] under a mask [1, K].
        measure: mean PSNR in dB of rows [B, S].

    Returns:
        bool [1, K], the last mask under which the mean PSNR of the sample satisfied the rule.
    """
    mask = torch.ones_like(hidden(rows[:1]), dtype=torch.bool)
    _, least = _targets(dense_psnr_db.mean(0, keepdim=True), config)
    for ratio in prune_ratios(config) if mask.numel() else ():
        magnitude = hidden(rows).abs().mean(0, keepdim=True)
        kept = keep_largest(magnitude, mask, ratio, parts=config.parts(n_layers))
        rows = refine(rows, kept)
        if measure(rows) < least:
            break
        mask = kept
    return mask


def prune_ratios(config: PruneConfig) -> list[float]:
    """Return the ratio that each round prunes to."""
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
        target = config.max_ratio * (1 - rank / (len(rank) - 1)) if len(rank) > 1 else torch.zeros_like(dense_psnr_db)
    return target, least


def kept_weights(n_weights: int, ratio: float, *, parts: int = 1) -> int:
    """Return how many weights `keep_largest` keeps: it rounds in each part."""
    return n_weights - parts * round(ratio * (n_weights // parts))


def keep_largest(weights: Tensor, masks: Tensor, ratio: float, *, parts: int = 1) -> Tensor:
    """Return masks that prune a fraction of the weights, those that are pruned already and then the smallest.

    Args:
        weights: float32 [b, K].
        masks: bool [b, K], true where a weight is still there.
        ratio: of all K weights, or of those of each of some equal `parts`.

    Returns:
        bool [b, K]; ties go to the weight that comes first.
    """
    size = weights.abs().masked_fill(~masks, -1.0).unflatten(1, (parts, -1))  # [b, parts, k]
    n_pruned = size.shape[2] - kept_weights(size.shape[2], ratio)
    order = size.argsort(dim=2, stable=True)
    kept = torch.ones_like(size, dtype=torch.bool)
    return kept.scatter_(2, order[..., :n_pruned], False).flatten(1)
