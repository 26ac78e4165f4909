"""Decide, before a dataset is encoded, what all its images share: a mask, scales, and how many bytes each may take.

Everything is decided from the first images of the source, so every shard, and every job that encodes a part, comes to the same.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kernels.rows import packed_bytes
from kernels.spec import SirenSpec, n_ends
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.prune import PruneConfig, find_shared_mask, kept_weights, pruned_bytes
from rapid_inr.compress.qat import Calibration, finetune
from rapid_inr.compress.quantize import QuantizeConfig, Quantized, choose_scales, hidden_matrices, split_rows
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource, limit
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig, FitResult, fit, measure_psnr

HEADER_BYTES = 4096  # of a file, class names and tensors that all images share not counted: more than it takes


def calibrate(
    source: ImageSource,
    spec: SirenSpec,
    fit_config: FitConfig,
    *,
    prune_config: PruneConfig,
    quantize_config: QuantizeConfig,
    device: torch.device | str = "cpu",
    on_corrupt: str = "fail",
) -> Calibration:
    """Find what the configs want shared; where they want nothing, no image is read.

    Raises:
        ValueError: if a budget is below the smallest store, or goes with weights that are not integers.
        CorruptImage: at an unreadable image of the sample, where `on_corrupt` is ``fail``.
    """
    device = torch.device(device)
    budget = prune_config.rule == "budget"
    shares_mask = prune_config.rule != "none" and prune_config.mask == "shared"
    shares_scales = quantize_config.is_integer and quantize_config.granularity == "dataset"
    if not (budget or shares_mask or shares_scales):
        return Calibration()
    hidden_bytes, mask, scales = None, None, None
    if budget:
        hidden_bytes = _hidden_budget(source, spec, quantize_config, prune_config, on_corrupt=on_corrupt)
        if shares_mask:
            prune_config = _to_ratio(prune_config, spec, quantize_config, hidden_bytes)
    if shares_mask or shares_scales:
        ids, images = _sample(source, prune_config.sample_images, on_corrupt=on_corrupt)
        result = fit(images, ids, spec, fit_config, device=device)
    if shares_mask:
        mask = _shared_mask(result, images, spec, fit_config, prune_config, device)
    if shares_scales:
        rows = result.weights if mask is None else fit(images, ids, spec, fit_config, device=device, mask=mask).weights
        hidden, _ = split_rows(fold_biases(rows, spec), spec)
        scales = choose_scales(hidden_matrices(hidden, spec), quantize_config)
    return Calibration(mask, scales, hidden_bytes)


def _sample(source: ImageSource, n_images: int, *, on_corrupt: str) -> tuple[Tensor, Tensor]:
    """Return ids and images of the commonest size among the first `n_images`."""
    chunk = next(read_chunks(limit(source, n_images), n_images, on_corrupt=on_corrupt))
    if not chunk.images:
        raise UserError(f"{source.name}: none of the first {n_images} images could be read; the first: {chunk.skipped[0]}")
    sizes = np.array([image.shape[:2] for image in chunk.images])
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    members = np.flatnonzero((sizes == kinds[counts.argmax()]).all(1))
    images = torch.from_numpy(np.stack([chunk.images[i] for i in members]))
    return torch.from_numpy(chunk.ids[members]), images


def _hidden_budget(
    source: ImageSource, spec: SirenSpec, quantize: QuantizeConfig, prune: PruneConfig, *, on_corrupt: str
) -> float:
    """Return the bytes that codes and mask of an image may take on average: the budget less all that does not depend on them."""
    if not quantize.is_integer:
        raise UserError(
            f"prune.rule is 'budget' with quantize.bits={quantize.bits}, expected 2 to 8 bits: only codes are left out"
        )
    _, *per_row = quantize.scales_shape(len(source), spec)
    scales = (int(np.prod(per_row)) if quantize.granularity != "dataset" else 0) + (4 if quantize.ends_bits == 8 else 0)
    label = 0 if source.labels is None else 1 if len(source.class_names) <= 256 else 4
    source_id = 0 if on_corrupt == "fail" and np.array_equal(source.ids, np.arange(len(source))) else 4
    each = n_ends(spec) * quantize.ends_bits // 8 + scales * quantize.scales_dtype.itemsize + label + source_id
    each += 0 if source.one_size else 8
    shared = HEADER_BYTES + len(json.dumps(json.dumps(source.class_names))) + spec.n_hidden_weights // 8 + 1
    left = (prune.budget_bytes - shared) / len(source) - each
    n_kept = kept_weights(spec.n_hidden_weights, prune.max_ratio, parts=prune.parts(spec.depth - 1))
    least = packed_bytes(n_kept, quantize.bits)
    if prune.mask == "own":
        least = min(
            pruned_bytes(n_kept, spec.n_hidden_weights, quantize.bits), packed_bytes(spec.n_hidden_weights, quantize.bits)
        )
    if left < least:
        smallest = shared + len(source) * (each + least)
        raise UserError(
            f"prune.budget_bytes is {prune.budget_bytes:,}, but {len(source):,} images take at least {smallest:,} bytes as "
            f"{spec.depth}x{spec.hidden} in {quantize.bits} bits with prune.max_ratio={prune.max_ratio:g}"
        )
    return left


def _to_ratio(config: PruneConfig, spec: SirenSpec, quantize: QuantizeConfig, hidden_bytes: float) -> PruneConfig:
    """Return the config that prunes to the ratio at which the codes of an image, without a mask of its own, fit."""
    parts = config.parts(spec.depth - 1)
    n_kept = int(hidden_bytes) * 8 // quantize.bits // parts  # of each part
    ratio = max(0.0, 1 - n_kept / max(1, spec.n_hidden_weights // parts))
    return replace(config, rule="fixed", max_ratio=ratio)


def _shared_mask(
    result: FitResult, images: Tensor, spec: SirenSpec, fit_config: FitConfig, config: PruneConfig, device: torch.device
) -> Tensor:
    return find_shared_mask(
        result.weights,
        lambda rows: split_rows(rows, spec)[0],
        result.psnr_db,
        config,
        n_layers=spec.depth - 1,
        refine=lambda rows, mask: finetune(rows, mask, images, spec, fit_config, config, device=device),
        measure=lambda rows: measure_psnr(Quantized(*split_rows(rows, spec)), images, spec, device=device).mean().item(),
    )
