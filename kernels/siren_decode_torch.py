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
from kernels.decode_io import ImageFormat, check_batch, check_rows, count_scales
from kernels.spec import OUT_FEATURES, SirenSpec, float_sections

# float32 values of one activation buffer (2 MB: it and its successor fit a core's share of the cache) and the pixels
# below which an image is not cut further. Measured on 2 cores: kernels/README.md.
CHUNK_VALUES = 2**19
CHUNK_PIXELS = 2**12


def decode_siren_torch(
    codes: Tensor,
    floats: Tensor,
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
    check_rows(codes, floats, spec)
    check_batch(ids, affine, codes)
    require(compute_dtype in (torch.float32, torch.float64), "compute_dtype", compute_dtype, "torch.float32 or torch.float64")
    return _decode_chunks(codes, floats, ids, affine.reshape(-1, 2, 3).to(compute_dtype), spec=spec, images=images)


def _decode_chunks(codes: Tensor, floats: Tensor, ids: Tensor, affine: Tensor, *, spec: SirenSpec, images: ImageFormat) -> Tensor:
    """Decode chunk after chunk of images and pixels, computing in the dtype of `affine`, [1 or B, 2, 3]."""
    step = max(1, min(len(ids), CHUNK_VALUES // (spec.hidden * min(images.n_pixels, CHUNK_PIXELS))))
    tile = max(1, min(images.n_pixels, CHUNK_VALUES // (spec.hidden * step)))
    buffers = affine.new_empty((2, step * max(spec.hidden, OUT_FEATURES) * tile))
    out = images.empty(len(ids), codes.device)
    rows = out.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if images.channels_last else out.flatten(2)  # [B, 3, P], a view
    for first in range(0, len(ids), step):
        chunk = slice(first, min(first + step, len(ids)))
        layers = _unpack_layers(codes, floats, ids[chunk], spec, affine.dtype)
        for start in range(0, images.n_pixels, tile):
            pixel = torch.arange(start, min(start + tile, images.n_pixels), device=codes.device)
            place = torch.stack((pixel // images.width, pixel % images.width)).to(affine.dtype)  # [2, P]
            maps = affine[chunk] if len(affine) > 1 else affine
            coords = maps[:, :, :2] @ place + maps[:, :, 2:]  # [1 or b, 2, P]
            rows[chunk, :, start : start + tile] = _finish(_evaluate(layers, coords, buffers), images)
    return out


def _unpack_layers(
    codes: Tensor, floats: Tensor, ids: Tensor, spec: SirenSpec, compute_dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Return (weight [b, out, in], bias [b, out, 1]) of each layer of the chosen rows, omega folded into all but the last."""
    row = floats.index_select(0, ids).to(compute_dtype)
    sections = float_sections(spec, scales=count_scales(codes, floats, spec))
    part = {name: row[:, s.start : s.stop].unflatten(1, s.shape) for name, s in sections.items()}
    hidden = codes.index_select(0, ids).to(compute_dtype).unflatten(1, (spec.depth - 1, spec.hidden, spec.hidden))
    if part["scales"].numel():
        hidden = hidden * part["scales"][:, :, None, :]
    weights = [part["first_weight"], *hidden.unbind(1)]
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
