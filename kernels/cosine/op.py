"""The public call that decodes a batch of cosine codes, its choice of a backend, and its operator for torch.compile.

kernels/cosine/spec.py has the formula. After it, values are rounded to 8 bits and normalised per channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from kernels.checks import require
from kernels.cosine.spec import CosineRows, CosineSpec, check_rows
from kernels.cosine.torch import decode_cosine_torch
from kernels.decode.io import BACKENDS, ImageFormat, check_batch
from kernels.decode.sampling import Sampling


def decode_cosine(
    rows: CosineRows,
    ids: Tensor,
    affine: Tensor,
    *,
    spec: CosineSpec,
    height: int,
    width: int,
    dtype: torch.dtype,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    round_8bit: bool = True,
    channels_last: bool = False,
    padding: str = "none",
    edges: Tensor | None = None,
    supersample: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Decode a batch of cosine codes into images; on a GPU, without waiting for the device.

    Args:
        rows: see `CosineRows`.
        spec: of all rows.
        ids, affine, ...: as in `kernels.decode.decode_siren`. With padding ``none``, images are mirrored at their edges, since
            cosines are.
        backend: ``kernel``, ``torch``, or ``auto``: the kernel on a CUDA device, else torch.

    Returns:
        [B, 3, height, width] of `dtype`. An image with a NaN in its words is black; on a GPU also one with an unknown profile.

    Raises:
        ValueError: if an argument is wrong; the message names it, its value and the expected values.
        ImportError: on a CUDA device without triton.
    """
    if torch.compiler.is_compiling():  # as in `decode_siren`
        return decode_cosine_operator(
            rows.codes, rows.books, rows.table, rows.places, rows.colour, rows.mean, rows.basis, ids, affine, edges,
            *astuple(spec), height, width, dtype, mean, std, round_8bit, channels_last, padding, supersample, backend,
        )  # fmt: skip
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    sampling = Sampling(padding, edges, supersample)
    check_rows(rows, spec)
    check_batch(ids, affine, rows)
    sampling.check(ids)
    require(backend in BACKENDS, "backend", repr(backend), f"one of {', '.join(BACKENDS)}")
    if backend == "torch" or (backend == "auto" and rows.device.type != "cuda"):
        return decode_cosine_torch(rows, ids, affine, spec=spec, images=images, sampling=sampling)
    from kernels.cosine.triton import decode_cosine_triton  # not at the top: triton exists for Linux only

    return decode_cosine_triton(rows, ids, affine, spec=spec, images=images, sampling=sampling)


@torch.library.custom_op("rapid_inr::decode_cosine", mutates_args=())
def decode_cosine_operator(
    codes: Tensor, books: Tensor, table: Tensor, places: Tensor, colour: Tensor, rgb_mean: Tensor, basis: Tensor | None,
    ids: Tensor, affine: Tensor, edges: Tensor | None, frequencies: int, groups: int, dimensions: int, profiles: int,
    height: int, width: int, dtype: torch.dtype, mean: Sequence[float] | None, std: Sequence[float] | None, round_8bit: bool,
    channels_last: bool, padding: str, supersample: int, backend: str,
) -> Tensor:  # fmt: skip
    """Decode like `decode_cosine`, with the fields of rows and spec, since an operator takes only tensors and numbers."""
    return decode_cosine(
        CosineRows(codes, books, table, places, colour, rgb_mean, basis), ids, affine,
        spec=CosineSpec(frequencies, groups, dimensions, profiles), height=height, width=width, dtype=dtype, mean=mean,
        std=std, round_8bit=round_8bit, channels_last=channels_last, padding=padding, edges=edges, supersample=supersample,
        backend=backend,
    )  # fmt: skip


@decode_cosine_operator.register_fake
def _describe_images(
    codes, books, table, places, colour, rgb_mean, basis, ids, affine, edges, frequencies, groups, dimensions, profiles,
    height, width, dtype, mean, std, round_8bit, channels_last, *rest,
) -> Tensor:  # fmt: skip
    return ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last).empty(ids.shape[0], ids.device)
