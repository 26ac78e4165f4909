"""The codes of a store as bytes: packed at their bit width, without pruned codes, each image readable on its own.

A row is K integers of `bits` bits in two's complement, least significant bit first, padded to whole bytes. With masks (1 bit a
weight, 1 if it is kept), only the kept codes are stored, so rows differ in length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.compress.bits import pack_bits

PACK_ROWS = 1024  # packed at once, since packing takes 8 bytes a value
COUNT_ROWS = 1 << 14  # masks counted at once, since counting takes 12 bytes for each byte of a mask


def pack_codes(codes: Tensor, bits: int, masks: Tensor | None = None) -> Tensor:
    """Pack codes.

    Args:
        codes: int8 [N, K], each in [-2^(bits-1), 2^(bits-1)).
        masks: bool [N, K], or None to store all codes.

    Returns:
        uint8 [N, bytes], or with masks [total bytes], row after row.
    """
    unsigned = codes.to(torch.int16) & (1 << bits) - 1
    if masks is None:
        return torch.cat([pack_bits(chunk, bits) for chunk in unsigned.split(PACK_ROWS)])
    rows = (pack_bits(code[mask][None], bits)[0] for code, mask in zip(unsigned, masks, strict=True))
    return torch.cat(list(rows))


def row_starts(masks: Tensor, bits: int) -> Tensor:
    """Return the first byte of each row in codes packed with masks, and the end of the last row.

    Args:
        masks: uint8 [N, packed_bytes(K, 1)], from `pack_masks`.

    Returns:
        int64 [N + 1].
    """
    ones = torch.tensor([bin(byte).count("1") for byte in range(256)], device=masks.device)
    kept = torch.cat([ones[chunk.int()].sum(1) for chunk in masks.split(COUNT_ROWS)])  # [N]
    ends = torch.div(kept * bits + 7, 8, rounding_mode="floor").cumsum(0)
    return torch.cat([ends.new_zeros(1), ends])


def pack_masks(masks: Tensor) -> Tensor:
    """Pack bool [N, K] to uint8 [N, packed_bytes(K, 1)]."""
    return torch.cat([pack_bits(chunk, 1) for chunk in masks.split(PACK_ROWS)])


def take_rows(packed: Tensor, starts: Tensor, ids: Tensor) -> Tensor:
    """Return the packed rows of some images, one after another, from rows of unequal length."""
    lengths = starts[ids + 1] - starts[ids]
    before = lengths.cumsum(0) - lengths  # the first byte of each row in the result
    shift = (starts[ids] - before).repeat_interleave(lengths)
    return packed[torch.arange(len(shift), device=packed.device) + shift]


def pad_rows(packed: Tensor, starts: Tensor) -> Tensor:
    """Return packed rows of unequal length as uint8 [N, bytes of the longest], padded with zeros."""
    byte = torch.arange(max(1, int(starts.diff().max())))
    at = starts[:-1, None] + byte
    inside = at < starts[1:, None]
    return torch.where(inside, packed[at.clamp(max=len(packed) - 1)], 0) if len(packed) else inside.to(torch.uint8)


def has_lowest_code(rows: Tensor, bits: int) -> bool:
    """Return whether packed rows, uint8 [N, bytes], contain the code -2^(bits-1), in which only the highest bit is set.

    Eight codes fill a group of `bits` bytes, and each of the eight is at the same bits in all groups. So eight comparisons of
    whole columns of groups find the code.
    """
    groups = torch.nn.functional.pad(rows, (0, -rows.shape[1] % bits)).unflatten(1, (-1, bits))  # [N, groups, bits]
    for first in range(0, 8 * bits, bits):  # the first bit of each of the eight codes
        byte, shift = divmod(first, 8)
        code = groups[..., byte] >> shift
        if shift + bits > 8:  # the code reaches into the next byte
            code = code | groups[..., byte + 1] << (8 - shift)
        if bool((code & (1 << bits) - 1 == 1 << bits - 1).any()):
            return True
    return False
