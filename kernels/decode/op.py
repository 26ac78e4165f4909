"""The public call that decodes a batch of packed rows, its choice of a backend, and its operator for torch.compile.

kernels/reference.py has the formula. After it, values are rounded to 8 bits and normalised per channel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from kernels.checks import require
from kernels.decode.io import BACKENDS, MAX_HIDDEN, ImageFormat, check_batch
from kernels.decode.sampling import Sampling
from kernels.decode.torch import decode_siren_torch
from kernels.rows import PackedRows, check_rows
from kernels.spec import SirenSpec


def decode_siren(
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
    backend: str = "auto",
) -> Tensor:
    """Decode a batch of packed rows into images; on a GPU, without waiting for the device.

    Args:
        rows: see `PackedRows`. The kernel uses a hidden weight times omega as float16 (at most 65,504).
        ids: int64 [B], the row of each image. On the CPU, an id out of range is an error. On a GPU ids are not checked: the
            kernel writes a black image, and torch fails with a device-side assertion.
        affine: float32 [2, 3], or [B, 2, 3] for one an image: the map from (row, column, 1) of an output pixel to a coordinate.
        spec: of all rows. The kernel takes widths up to 64, whose activations fit in registers.
        dtype: uint8, float16, bfloat16 or float32.
        mean, std: three numbers each, or None: the output is (rgb - mean) / std with rgb in [0, 1]. Not with uint8.
        round_8bit: whether to round to multiples of 1/255 like the metrics (0.5, the one exact tie, becomes 128 / 255); must be
            true with uint8.
        channels_last: whether the images have the memory format `torch.channels_last`.
        exact_sine: whether to use a sine exact to float32 instead of the fast one: `accurate_sin` in the kernel, torch's on a
            CPU.
        padding: padding mode, for maps that lead out of the image: ``none`` (the INR's value there), ``zeros`` (black beyond the
            outer side of the outermost pixels), ``reflection`` (the image reflected about the centres of its outermost pixels,
            repeatedly if needed) or ``border`` (the nearest of these centres).
        edges: float32 [2], or [B, 2] for one an image: the coordinates of these centres, 1 - 1 / height and 1 - 1 / width of the
            encoded image; required by reflection and border.
        supersample: n for the mean of n x n samples spread evenly over a pixel, each clamped to [0, 1]; for maps that shrink.
        backend: ``kernel``, ``torch``, or ``auto``: the kernel on a CUDA device up to its width, else torch.

    Returns:
        [B, 3, height, width] of `dtype`. Values that depend on a NaN weight are 0 before normalisation.

    Raises:
        ValueError: if an argument is wrong; the message names it, its value and the expected values.
        ImportError: on a CUDA device without triton.
    """
    if torch.compiler.is_compiling():  # the tracer needs only the result's shape and must not enter the backend
        return decode_operator(
            rows.codes, rows.ends, rows.scales, rows.end_scales, rows.bits, rows.masks, rows.starts,
            ids, affine, edges, spec.depth, spec.hidden, spec.omega, height, width, dtype, mean, std,
            round_8bit, channels_last, exact_sine, padding, supersample, backend,
        )  # fmt: skip
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    sampling = Sampling(padding, edges, supersample)
    check_rows(rows, spec)
    check_batch(ids, affine, rows)
    sampling.check(ids)
    decode = _choose(backend, rows.device, spec)
    return decode(rows, ids, affine, spec=spec, images=images, sampling=sampling, exact_sine=exact_sine)


def _choose(backend: str, device: torch.device, spec: SirenSpec) -> Callable[..., Tensor]:
    """Return the decode function of a backend; see `decode_siren`."""
    require(backend in BACKENDS, "backend", repr(backend), f"one of {', '.join(BACKENDS)}")
    if backend == "auto" and device.type == "cuda" and spec.hidden > MAX_HIDDEN:
        _warn_of_width(spec.hidden)
    if backend == "torch" or (backend == "auto" and (device.type != "cuda" or spec.hidden > MAX_HIDDEN)):
        return decode_siren_torch
    from kernels.decode.triton import decode_siren_triton  # not at the top: triton exists for Linux only

    return decode_siren_triton


@cache  # once a width
def _warn_of_width(hidden: int) -> None:
    warnings.warn(
        f"the decode kernel takes SIRENs up to {MAX_HIDDEN} wide; width {hidden} is decoded by torch, about 500 times slower",
        stacklevel=4,
    )


@torch.library.custom_op("rapid_inr::decode_siren", mutates_args=())
def decode_operator(
    codes: Tensor, ends: Tensor, scales: Tensor | None, end_scales: Tensor | None, bits: int, masks: Tensor | None,
    starts: Tensor | None, ids: Tensor, affine: Tensor, edges: Tensor | None, depth: int, hidden: int, omega: float,
    height: int, width: int, dtype: torch.dtype, mean: Sequence[float] | None, std: Sequence[float] | None, round_8bit: bool,
    channels_last: bool, exact_sine: bool, padding: str, supersample: int, backend: str,
) -> Tensor:  # fmt: skip
    """Decode like `decode_siren`, with the fields of rows and spec, since an operator takes only tensors and numbers."""
    return decode_siren(
        PackedRows(codes, ends, scales, end_scales, bits, masks, starts), ids, affine, spec=SirenSpec(depth, hidden, omega),
        height=height, width=width, dtype=dtype, mean=mean, std=std, round_8bit=round_8bit, channels_last=channels_last,
        exact_sine=exact_sine, padding=padding, edges=edges, supersample=supersample, backend=backend,
    )  # fmt: skip


@decode_operator.register_fake
def _describe_images(
    codes, ends, scales, end_scales, bits, masks, starts, ids, affine, edges, depth, hidden, omega,
    height, width, dtype, mean, std, round_8bit, channels_last, *rest,
) -> Tensor:  # fmt: skip
    return ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last).empty(ids.shape[0], ids.device)
