"""Which backend decodes, and how a compiled program calls it: as the operator `rapid_inr::decode_siren`.

Eager calls go straight to the backend: an operator's dispatch adds to every call, and nothing is gained by it there. In a region
that torch.compile traces, the operator keeps the tracer out of the backend, whose result it knows by its shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kernels.decode.io import MAX_HIDDEN, ImageFormat
from kernels.decode.torch import decode_siren_torch
from kernels.rows import PackedRows
from kernels.spec import SirenSpec


def decoder_for(device: torch.device, spec: SirenSpec) -> Callable[..., Tensor]:
    """Return what decodes rows of `spec` on a device, of the signature of `decode_siren`.

    That is the kernel on a CUDA device, and its torch twin elsewhere and for SIRENs wider than the kernel takes; in a region that
    torch.compile traces, an operator that calls them.

    Raises:
        ImportError: on a CUDA device without triton.
    """
    return decode_by_operator if torch.compiler.is_compiling() else _backend(device, spec)


def _backend(device: torch.device, spec: SirenSpec) -> Callable[..., Tensor]:
    if device.type != "cuda" or spec.hidden > MAX_HIDDEN:
        return decode_siren_torch
    from kernels.decode.triton import decode_siren  # not at the top: triton exists for Linux only

    return decode_siren


def decode_by_operator(
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
    padding: str = "none",
    edges: Tensor | None = None,
    supersample: int = 1,
) -> Tensor:
    """Decode as `decode_siren` does, by one node of a compiled program."""
    return decode_operator(
        rows.codes, rows.ends, rows.scales, rows.end_scales, rows.bits, rows.masks, rows.starts,
        ids, affine, edges, spec.depth, spec.hidden, spec.omega, height, width, dtype, mean, std,
        round_8bit, channels_last, exact_sine, padding, supersample,
    )  # fmt: skip


@torch.library.custom_op("rapid_inr::decode_siren", mutates_args=())
def decode_operator(
    codes: Tensor,
    ends: Tensor,
    scales: Tensor | None,
    end_scales: Tensor | None,
    bits: int,
    masks: Tensor | None,
    starts: Tensor | None,
    ids: Tensor,
    affine: Tensor,
    edges: Tensor | None,
    depth: int,
    hidden: int,
    omega: float,
    height: int,
    width: int,
    dtype: torch.dtype,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    round_8bit: bool,
    channels_last: bool,
    exact_sine: bool,
    padding: str,
    supersample: int,
) -> Tensor:
    """Decode by the backend of the device; the arguments are those of `decode_siren`, its rows and spec taken apart."""
    rows = PackedRows(codes, ends, scales, end_scales, bits, masks, starts)
    spec = SirenSpec(depth, hidden, omega)
    return _backend(ids.device, spec)(
        rows, ids, affine, spec=spec, height=height, width=width, dtype=dtype, mean=mean, std=std, round_8bit=round_8bit,
        channels_last=channels_last, exact_sine=exact_sine, padding=padding, edges=edges, supersample=supersample,
    )  # fmt: skip


@decode_operator.register_fake
def _describe_images(
    codes, ends, scales, end_scales, bits, masks, starts, ids, affine, edges, depth, hidden, omega,
    height, width, dtype, mean, std, round_8bit, channels_last, *rest,
) -> Tensor:  # fmt: skip
    return ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last).empty(ids.shape[0], ids.device)
