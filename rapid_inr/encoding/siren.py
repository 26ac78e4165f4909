"""The encoder of SIRENs: fit, prune, quantize and QAT."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.calibrate import calibrate
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import Compressed, RefineConfig, compress, planned_steps, require_roundable
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encoder import MAX_SHARD_IMAGES, SHARD_S, Encoded, clock_of
from rapid_inr.inr.fit import FitConfig, fit, measure_psnr
from rapid_inr.inr.steps import pixels_per_step
from rapid_inr.runlog.progress import Report, stage
from rapid_inr.store.codes import pack_codes, pack_masks
from rapid_inr.store.siren import SirenCode

# weights x pixels trained a second: a CPU core fits 3x16 at 32 px in 200 steps in 26 ms; a GPU counts as 500 cores
WORK_PER_S = {"cpu": 2.4e9, "cuda": 1.2e12}


@dataclass(frozen=True)
class SirenConfig:
    """How images are encoded as SIRENs, the same for all shards of a dataset; see `rapid_inr.encoding.encoder.Encoder`.

    Raises:
        UserError: see `require_roundable`.
    """

    spec: SirenSpec
    fit: FitConfig
    quantize: QuantizeConfig
    prune: PruneConfig = field(default_factory=PruneConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        require_roundable(self.spec, self.quantize, self.refine)

    @property
    def code(self) -> SirenCode:
        return SirenCode(self.spec, self.quantize)

    @property
    def steps(self) -> tuple[int, int, int]:
        """Most optimiser steps that an image takes for the fit, for pruning, and for QAT."""
        return planned_steps(self.fit, self.prune, self.quantize, self.refine)

    def default_shard_images(self, *, n_pixels: int, device: torch.device) -> int:
        if self.prune.rule == "ceiling_first":  # it ranks images within a shard, so all shards have one length
            return MAX_SHARD_IMAGES
        work = sum(self.steps) * pixels_per_step(self.fit, n_pixels) * self.spec.n_weights
        most = MAX_SHARD_IMAGES * (8 if device.type == "cuda" else 1)  # a GPU fits thousands of small images at once
        return max(1, min(most, int(SHARD_S * WORK_PER_S[device.type] / work)))

    def choose_shared(self, source: ImageSource, *, device: torch.device, on_corrupt: str) -> dict[str, Tensor]:
        scales = calibrate(source, self.spec, self.fit, self.quantize, device=device, on_corrupt=on_corrupt)
        return {} if scales is None else {"scales": scales.flatten(1).to(self.quantize.scales_dtype)}

    def encode(
        self,
        images: Tensor,
        ids: Tensor,
        shared: dict[str, Tensor],
        *,
        device: torch.device,
        on_progress: Report | None = None,
    ) -> Encoded:
        scales = shared["scales"].float()[..., None] if shared else None
        clock = clock_of(device)
        began = clock()
        share = self.steps[0] / sum(self.steps)  # of the fit in the work
        with stage(on_progress, worth=share * len(images), share=share) as report:
            result = fit(images, ids, self.spec, self.fit, device=device, on_progress=report)
        fitted = clock()
        with stage(on_progress, worth=(1 - share) * len(images), share=1 - share) as report:
            stored = compress(
                result, images, self.spec, self.fit, device=device, on_progress=report, shared_scales=scales,
                prune_config=self.prune, quantize_config=self.quantize, refine_config=self.refine,
            )  # fmt: skip
        compressed = clock()
        measured = {
            "psnr_db": measure_psnr(stored.rows.packed(device), images, self.spec),
            "fit_psnr_db": result.psnr_db,
            "attempts": result.attempts,
            "prune_ratio": stored.ratio,
            "converged": result.converged,
        }
        return Encoded(_columns(stored, with_scales=not shared), measured, fitted - began, compressed - fitted)

    def pack(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        masks, codes, bits = columns.pop("masks"), columns["codes"], self.quantize.bits
        if not self.quantize.is_integer:
            return columns
        if masks.all():
            return columns | {"codes": pack_codes(codes, bits)}
        # the merge chooses the smallest layout for the whole store
        return columns | {"codes": pack_codes(codes, bits, masks), "masks": pack_masks(masks)}


def _columns(stored: Compressed, *, with_scales: bool) -> dict[str, Tensor]:
    """Return the stored tensors, by name."""
    rows = stored.rows
    columns = {"codes": rows.codes, "ends": rows.ends, "masks": stored.masks, "end_scales": rows.end_scales}
    columns |= {"scales": rows.scales if with_scales else None}
    return {name: column for name, column in columns.items() if column is not None}
