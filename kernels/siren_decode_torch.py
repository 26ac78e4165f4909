"""Decode in torch: the twin of the Triton kernel in siren_decode.py, its reference, and the backend of CPUs.

The formula is that of kernels/spec.py (Sitzmann et al. 2020, section 3), and what follows it that of `decode_siren`. Nothing here
needs triton, so this is also what a machine without it decodes with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.checks import require
from kernels.decode_io import ImageFormat, check_batch
from kernels.rows import PackedRows, check_rows
from kernels.sampling import Sampling
from kernels.spec import OUT_FEATURES, SirenSpec, end_sections
from kernels.unpack import gather_hidden, unpack_ends

# float32 values of one activation buffer (2 MB: it and its successor fit a core's share of the cache) and the pixels
# below which an image is not cut further. Measured on 2 cores: kernels/README.md.
CHUNK_VALUES = 2**19
CHUNK_PIXELS = 2**12


def decode_siren_torch(
    rows: PackedRows,
    ids: Tensor,
    affine: Tensor,
    *,
    spec: SirenSpec,
    height: int,
    width: int,
    dtype: torch.dtype,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    round_8bit: bool = True,
    channels_last: bool = False,
    exact_sine: bool = False,
    outside: str = "extend",
    edges: Tensor | None = None,
    supersample: int = 1,
    compute_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Decode a batch of packed rows into images with torch, on any device: the kernel's reference, and the backend of CPUs.

    The batch is cut so that two buffers of activations stay in the cache, and activations lie [image, feature, pixel], so that a
    layer is one batched product with long rows. Only the weights of the rows asked for are ever dequantized.

    Args:
        exact_sine: without effect, the sine is torch's.
        compute_dtype: float32, or float64 for the oracle of tests. The others are those of `decode_siren`, but that `spec` may be
            of any width, and that an id out of range on a GPU is torch's device-side assertion.

    Returns:
        As `decode_siren`.

    Raises:
        ValueError: as `decode_siren`.
    """
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    check_rows(rows, spec)
    check_batch(ids, affine, rows)
    sampling = Sampling(outside, edges, supersample)
    sampling.check(ids)
    require(compute_dtype in (torch.float32, torch.float64), "compute_dtype", compute_dtype, "torch.float32 or torch.float64")
    maps = affine.reshape(-1, 2, 3).to(compute_dtype)
    return _decode_chunks(rows, ids, maps, spec=spec, images=images, sampling=sampling)


def _decode_chunks(
    rows: PackedRows, ids: Tensor, affine: Tensor, *, spec: SirenSpec, images: ImageFormat, sampling: Sampling
) -> Tensor:
    """Decode chunk after chunk of images and pixels, computing in the dtype of `affine`, [1 or B, 2, 3]."""
    step = max(1, min(len(ids), CHUNK_VALUES // (spec.hidden * min(images.n_pixels, CHUNK_PIXELS))))
    tile = max(1, min(images.n_pixels, CHUNK_VALUES // (spec.hidden * step)))
    buffers = affine.new_empty((2, step * max(spec.hidden, OUT_FEATURES) * tile))
    out = images.empty(len(ids), rows.device)
    lines = out.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if images.channels_last else out.flatten(2)  # [B, 3, P], a view
    for first in range(0, len(ids), step):
        chunk = slice(first, min(first + step, len(ids)))
        layers = _unpack_layers(rows, ids[chunk], spec, affine.dtype)
        for start in range(0, images.n_pixels, tile):
            pixel = torch.arange(start, min(start + tile, images.n_pixels), device=rows.device)
            place = torch.stack((pixel // images.width, pixel % images.width)).to(affine.dtype)  # [2, P]
            maps = affine[chunk] if len(affine) > 1 else affine
            rgb = _sample(layers, maps, place, buffers, sampling=sampling, chunk=chunk)
            lines[chunk, :, start : start + tile] = _finish(rgb, images)
    return out


def _sample(
    layers: list[tuple[Tensor, Tensor]], maps: Tensor, place: Tensor, buffers: Tensor, *, sampling: Sampling, chunk: slice
) -> Tensor:
    """Return RGB [b, 3, P] of pixels at `place` [2, P]: of their centres, or the mean of their samples, each clamped."""
    total = None
    for row, column in sampling.offsets():
        there = torch.stack((place[0] + row, place[1] + column)) if sampling.supersample > 1 else place
        coords = maps[:, :, :2] @ there + maps[:, :, 2:]  # [1 or b, 2, P]
        rgb = sampling.blacken(_evaluate(layers, sampling.bend(coords, chunk), buffers), coords)
        if sampling.supersample == 1:
            return rgb
        rgb.nan_to_num_(nan=0.0).clamp_(0, 1)
        total = rgb.clone() if total is None else total.add_(rgb)
    return total.div_(sampling.supersample**2)


def _unpack_layers(rows: PackedRows, ids: Tensor, spec: SirenSpec, compute_dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return (weight [b, out, in], bias [b, out, 1]) of each layer of the chosen rows, omega folded into all but the last."""
    end_scales = None if rows.end_scales is None else rows.end_scales.index_select(0, ids)
    ends = unpack_ends(rows.ends.index_select(0, ids), end_scales, spec, compute_dtype)
    part = {name: ends[:, s.start : s.stop].unflatten(1, s.shape) for name, s in end_sections(spec).items()}
    weights = [part["first_weight"], *gather_hidden(rows, ids, spec, compute_dtype).unbind(1)]
    layers = [(w.mT * spec.omega, part["biases"][:, i, :, None] * spec.omega) for i, w in enumerate(weights)]
    return [*layers, (part["last_weight"].mT, part["last_bias"][:, :, None])]


def _evaluate(layers: list[tuple[Tensor, Tensor]], coords: Tensor, buffers: Tensor) -> Tensor:
    """Return RGB [b, 3, P] at coords [1 or b, 2, P], in one of the two buffers that the layers take in turn."""
    h = coords.expand(len(layers[0][0]), -1, -1)
    for i, (weight, bias) in enumerate(layers):
        size = (len(weight), weight.shape[1], coords.shape[2])
        z = buffers[i % 2, : math.prod(size)].view(size)
        torch.baddbmm(bias, weight, h, out=z)
        h = z.sin_() if i < len(layers) - 1 else z
    return h


def _finish(rgb: Tensor, images: ImageFormat) -> Tensor:
    """Take RGB [b, 3, P] to the values the images hold, in place."""
    rgb.nan_to_num_(nan=0.0).clamp_(0, 1)
    if images.round_8bit:
        rgb.mul_(255).round_()
        if images.dtype != torch.uint8:
            rgb.div_(255)
    if images.mean is not None and images.std is not None:
        rgb.sub_(rgb.new_tensor(images.mean)[:, None]).div_(rgb.new_tensor(images.std)[:, None])
    return rgb
