"""What a decode is timed against: the unfused chain of products, and JPEGs decoded on the GPU."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from kernels.unpack.torch import unpack_layers
from rapid_inr.inr.coords import pixel_coords

QUALITIES = range(1, 96, 2)


@lru_cache  # a copy to a GPU waits for it
def coords_on(side: int, device: torch.device) -> Tensor:
    return pixel_coords(side, side).to(device)


def bmm_chain(
    rows: PackedRows, ids: Tensor, *, spec: SirenSpec, side: int, dtype: torch.dtype, round_8bit: bool = True
) -> Tensor:
    """Decode as the authors of the paper do: layer after layer over the whole batch, [image, pixel, feature], in float32.

    Returns:
        [B, 3, side, side] of `dtype`, unscaled bytes if that is uint8, else in [0, 1].
    """
    *sine_layers, (last_weight, last_bias) = unpack_layers(rows, ids, spec, torch.float32)
    h = coords_on(side, ids.device).expand(len(ids), -1, -1)
    for weight, bias in sine_layers:
        h = torch.sin(spec.omega * (torch.bmm(h, weight) + bias[:, None]))
    rgb = (torch.bmm(h, last_weight) + last_bias[:, None]).clamp(0, 1)
    if round_8bit:
        rgb = rgb.mul(255).round() if dtype == torch.uint8 else rgb.mul(255).round().div(255)
    return rgb.to(dtype).mT.reshape(len(ids), 3, side, side)


def nvjpeg_decoder(images: Tensor, *, n_bytes: int) -> Callable[[], list[Tensor]] | None:
    """Return what decodes images from JPEGs of about `n_bytes` each by nvJPEG, or None where torchvision is absent.

    Args:
        images: uint8 [B, 3, H, W] on the GPU; the JPEG's quality is the one whose size comes nearest on the first image.
    """
    try:
        from torchvision.io import decode_jpeg
    except ImportError:
        return None
    quality = nearest_quality(images[0], n_bytes=n_bytes)
    files = [torch.frombuffer(bytearray(as_jpeg(image, quality)), dtype=torch.uint8) for image in images]
    return lambda: decode_jpeg(files, device=images.device)


def nearest_quality(image: Tensor, *, n_bytes: int) -> int:
    """Return the quality at which the JPEG of an image, uint8 [3, H, W], comes nearest to `n_bytes`."""
    return min(QUALITIES, key=lambda quality: abs(len(as_jpeg(image, quality)) - n_bytes))


def as_jpeg(image: Tensor, quality: int) -> bytes:
    """Return an image, uint8 [3, H, W], as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
