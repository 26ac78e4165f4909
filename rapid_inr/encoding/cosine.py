"""The encoder of cosine series: a search in codebooks learned from the training images, without optimiser steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.cosine import CosineSpec, decode_cosine
from kernels.cosine.spec import MAX_FREQUENCIES
from rapid_inr.cosine.code import code
from rapid_inr.cosine.learn import learn
from rapid_inr.cosine.series import along_axes, analyse, synthesise
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource, limit
from rapid_inr.encoding.encoder import MAX_SHARD_IMAGES, Encoded, clock_of
from rapid_inr.errors import UserError, require
from rapid_inr.evaluation.metrics import psnr_db, to_8bit
from rapid_inr.inr.coords import pixel_affine
from rapid_inr.runlog.progress import Report
from rapid_inr.store.cosine import CosineCode

SAMPLE_COEFFICIENTS = 50_000 * 3 * 32**2  # most images to learn from, times their coefficients: 0.6 GB, held twice
DIMENSIONS = 8  # most amplitudes coded by a byte


def cosine_spec(bytes: int, profiles: int, *, image_size: tuple[int, int]) -> CosineSpec:
    """Return the shape of series of `bytes` for images of (height, width), with all their frequencies up to 64.

    Raises:
        UserError: if there are fewer bytes than the smallest code takes, or more than coefficients.
    """
    frequencies, chooses = min(MAX_FREQUENCIES, *image_size), int(profiles > 1)
    low, high = 1 + chooses, 3 * frequencies**2 + chooses
    height, width = image_size
    require(low <= bytes <= high, "inr.bytes", bytes, f"{low} to {high} for images of {height}x{width}")
    return CosineSpec(frequencies, bytes - chooses, DIMENSIONS, profiles)


@dataclass(frozen=True)
class CosineConfig:
    """How images are encoded as cosine series, the same for all shards; see `rapid_inr.encoding.encoder.Encoder`.

    Args:
        spec: see `cosine_spec`.
        basis: of `rapid_inr.cosine.learn.BASES`.
        seed: of the search for codebooks.
    """

    spec: CosineSpec
    basis: str = "learned"
    seed: int = 0

    @property
    def code(self) -> CosineCode:
        return CosineCode(self.spec)

    def default_shard_images(self, *, n_pixels: int, device: torch.device) -> int:
        return MAX_SHARD_IMAGES

    def choose_shared(self, source: ImageSource, *, device: torch.device, on_corrupt: str) -> dict[str, Tensor]:
        z, skipped = [], {}
        sample = limit(source, SAMPLE_COEFFICIENTS // (3 * self.spec.frequencies**2))
        for chunk in read_chunks(sample, MAX_SHARD_IMAGES, on_corrupt=on_corrupt):
            skipped.update(chunk.skipped)
            for shape in sorted({image.shape for image in chunk.images}):
                self._require_size(shape)
                images = np.stack([image for image in chunk.images if image.shape == shape])
                z.append(analyse(torch.from_numpy(images), self.spec.frequencies))
        if not z:
            first = next(iter(skipped.values()))
            raise UserError(f"{source.name}: none of {len(skipped)} images could be read; the first: {first}")
        return learn(torch.cat(z), self.spec, basis=self.basis, seed=self.seed)

    def encode(
        self,
        images: Tensor,
        ids: Tensor,
        shared: dict[str, Tensor],
        *,
        device: torch.device,
        on_progress: Report | None = None,
    ) -> Encoded:
        self._require_size(images.shape[1:])
        n, (height, width) = len(images), images.shape[1:3]
        rows = self.code.rows(shared | {"codes": torch.zeros((n, self.spec.row_bytes), dtype=torch.uint8)})
        clock = clock_of(device)
        began = clock()
        z = along_axes(analyse(images, self.spec.frequencies), rows.colour, rows.mean)
        analysed = clock()
        codes = code(z, rows, self.spec)
        coded = clock()
        stored = self.code.rows({name: tensor.to(device) for name, tensor in (shared | {"codes": codes}).items()})
        decoded = decode_cosine(
            stored, torch.arange(n, device=device), pixel_affine(height, width).to(device), spec=self.spec,
            height=height, width=width, dtype=torch.uint8,
        )  # fmt: skip
        measured = {
            "psnr_db": psnr_db(decoded.permute(0, 2, 3, 1).cpu(), images),
            "fit_psnr_db": psnr_db(to_8bit(synthesise(z, rows.colour, rows.mean, (height, width))), images),
            "attempts": torch.ones(n, dtype=torch.int64),
            "prune_ratio": torch.zeros(n, dtype=torch.float64),
            "converged": torch.ones(n, dtype=torch.bool),
        }
        if on_progress is not None:
            on_progress(n)
        return Encoded({"codes": codes}, measured, analysed - began, coded - analysed)

    def pack(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        return columns

    def _require_size(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if min(height, width) < self.spec.frequencies:
            least = f"at least {self.spec.frequencies} a side, as many as the first image has"
            raise UserError(f"an image has {height}x{width} pixels, expected {least}; set dataset.size")
