"""Unpack codes in Triton: a code out of dense bits inside the decode, and whole rows before it.

The CPU backend's is `gather_codes` in kernels/unpack/torch.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.rows import PackedRows
from kernels.spec import SirenSpec

BLOCK = 1024  # weights a program, a multiple of 8
# Passes over a row by the programs of an image. At 10x32 and 5 bits each spends a fifth of its instructions on unpacking.
UNPACK_FROM_PASSES = 16


@triton.jit
def load_fields(codes_ptr, index, real, BITS: tl.constexpr):
    """Return the bits of the codes at these places of a row, of which `to_float16` makes values; `real` masks the loads.

    At 3, 5, 6 and 7 bits a code may reach into the next byte, read for those codes alone: behind the last row is nothing.
    """
    if BITS >= 16:
        field = tl.load(codes_ptr + index, mask=real, other=0.0).to(tl.float16)
    elif BITS == 8:
        field = tl.load(codes_ptr + index, mask=real, other=0)
    else:
        bit = index * BITS
        shift = bit & 7
        pair = tl.load(codes_ptr + (bit >> 3), mask=real, other=0).to(tl.int32)
        if 8 % BITS != 0:
            reaches = real & (shift > 8 - BITS)
            pair |= tl.load(codes_ptr + (bit >> 3) + 1, mask=reaches, other=0).to(tl.int32) << 8
        field = ((pair >> shift) & ((1 << BITS) - 1)).to(tl.uint8)
    return field


@triton.jit
def to_float16(field, BITS: tl.constexpr):
    """Return the codes of fields: float16, of BITS bits in two's complement.

    Not by a conversion, which the unit of the sines would do: with its sign bit flipped, a field is the low bits of the float16
    1024 + 2^(BITS - 1) + code.
    """
    if BITS >= 16:
        codes = field
    else:
        offset: tl.constexpr = 1024.0 + (1 << (BITS - 1))
        codes = ((field.to(tl.int16) ^ (1 << (BITS - 1))) | 0x6400).to(tl.float16, bitcast=True) - offset
    return codes


@triton.jit
def _count_ones(byte):
    byte = byte - ((byte >> 1) & 0x55)
    byte = (byte & 0x33) + ((byte >> 2) & 0x33)
    return (byte + (byte >> 4)) & 0x0F


@triton.jit(do_not_specialize=["n_rows", "row_bytes", "mask_bytes"])
def _unpack_rows_kernel(
    out_ptr, codes_ptr, masks_ptr, starts_ptr, ids_ptr, n_rows, row_bytes, mask_bytes,
    N_CODES: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write BLOCK codes of one image; under a mask the place of a code is the number of ones before its own."""
    image = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    row = tl.load(ids_ptr + image)
    row = tl.where((row >= 0) & (row < n_rows), row, 0)  # the decode writes an unknown id black, whatever stands here
    if MASKED:
        codes_ptr += tl.load(starts_ptr + row)
        masks_ptr += row * mask_bytes
    else:
        codes_ptr += row * row_bytes

    index = block * BLOCK + tl.arange(0, BLOCK)
    in_row = index < N_CODES
    if not MASKED:
        rank, kept = index, in_row
    else:
        counts = tl.zeros([BLOCK], tl.int32)
        first_byte = block * (BLOCK // 8)
        for start in range(0, first_byte, BLOCK):
            place = start + tl.arange(0, BLOCK)
            byte = tl.load(masks_ptr + place, mask=place < first_byte, other=0)
            counts += _count_ones(byte.to(tl.int32))
        bit = (tl.load(masks_ptr + (index >> 3), mask=in_row, other=0).to(tl.int32) >> (index & 7)) & 1
        rank, kept = tl.sum(counts, axis=0) + tl.cumsum(bit, axis=0) - 1, in_row & (bit == 1)
    codes = to_float16(load_fields(codes_ptr, rank, kept, BITS), BITS).to(tl.int8)
    tl.store(out_ptr + image * N_CODES + index, codes.to(tl.uint8, bitcast=True), mask=in_row)


def unpacks_before(*, bits: int, masked: bool, passes: int) -> bool:
    """Return whether a decode has its rows unpacked before it.

    Under masks always; and codes of less than a byte where the same row would be taken apart many times.

    Args:
        passes: over a row, by all programs and samples of an image.
    """
    return masked or (bits < 8 and passes >= UNPACK_FROM_PASSES)


def unpack_constants(spec: SirenSpec, *, bits: int, masked: bool) -> dict[str, int | bool]:
    """Return the compile-time arguments of the kernel."""
    return {"N_CODES": spec.n_hidden_weights, "BITS": bits, "MASKED": masked, "BLOCK": BLOCK}


def unpack_rows(rows: PackedRows, ids: Tensor, spec: SirenSpec) -> Tensor:
    """Return the codes of rows of 2 to 8 bits, 0 where a mask has left a weight out.

    Returns:
        uint8 [B, K], the bytes of int8.
    """
    out = torch.empty((len(ids), spec.n_hidden_weights), dtype=torch.uint8, device=ids.device)
    masked = rows.masks is not None
    _unpack_rows_kernel[(len(ids), triton.cdiv(spec.n_hidden_weights, BLOCK))](
        out,
        rows.codes,
        rows.masks if masked else rows.codes,  # not read where there is none
        rows.starts if masked else ids,
        ids,
        len(rows),
        0 if masked else rows.codes.shape[1],
        rows.masks.shape[1] if masked else 0,
        **unpack_constants(spec, bits=rows.bits, masked=masked),
        num_warps=4,
        enable_fp_fusion=True,  # said, since Triton 3.9 warns where it is not
    )
    return out
