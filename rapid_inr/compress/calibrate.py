"""Choose the scales that all images of a dataset share, before it is encoded.

They come from a sample of the source, so all shards and all jobs use the same scales.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.quantize import QuantizeConfig, choose_scales
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource, limit
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig, fit
from rapid_inr.inr.layout import hidden_matrices, split_rows

SAMPLE_IMAGES = 256


def calibrate(
    source: ImageSource,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    *,
    device: torch.device | str = "cpu",
    on_corrupt: str = "fail",
) -> Tensor | None:
    """Return the scales of ``granularity=dataset``, float32 [1, D-1, 1]; None for other granularities, without reading images.

    Raises:
        UserError: if no image of the sample can be read.
        CorruptImage: at an unreadable image of the sample if `on_corrupt` is ``fail``.
    """
    if not quantize_config.shares_scales:
        return None
    ids, images = _sample(source, on_corrupt=on_corrupt)
    rows = fit(images, ids, spec, fit_config, device=device).weights
    hidden, _ = split_rows(fold_biases(rows, spec), spec)
    return choose_scales(hidden_matrices(hidden, spec), quantize_config)


def _sample(source: ImageSource, *, on_corrupt: str) -> tuple[Tensor, Tensor]:
    """Sample `SAMPLE_IMAGES` evenly over the classes; return ids and images of the most frequent size."""
    chunk = next(read_chunks(limit(source, SAMPLE_IMAGES), SAMPLE_IMAGES, on_corrupt=on_corrupt))
    if not chunk.images:
        raise UserError(
            f"{source.name}: none of {len(chunk.skipped)} images could be read; the first: {next(iter(chunk.skipped.values()))}"
        )
    sizes = np.array([image.shape[:2] for image in chunk.images])
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    members = np.flatnonzero((sizes == kinds[counts.argmax()]).all(1))
    images = torch.from_numpy(np.stack([chunk.images[i] for i in members]))
    return torch.from_numpy(chunk.ids[members]), images
