"""The codes of a store as bytes: packed at their bit width, pruned ones left out, any image readable without the others.

A row of codes is K integers of `bits` bits in two's complement, value after value, least significant bit first, padded to whole
bytes. With a mask (1 bit a weight, 1 where it is kept) only the kept ones are written, so rows differ in length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.compress.bits import pack_bits

PACK_ROWS = 1024  # packed at once, since a value takes 8 bytes meanwhile
COUNT_ROWS = 1 << 14  # whose bits are counted at once: 12 bytes a byte of mask meanwhile


def pack_codes(codes: Tensor, bits: int, masks: Tensor | None = None) -> Tensor:
    """Pack codes.

    Args:
        codes: int8 [N, K], each in [-2^(bits-1), 2^(bits-1)).
        masks: bool [N, K], or None to write every code.

    Returns:
        uint8 [N, bytes], or with masks [total bytes], row after row.
    """
    unsigned = codes.to(torch.int16) & (1 << bits) - 1
    if masks is None:
        return torch.cat([pack_bits(chunk, bits) for chunk in unsigned.split(PACK_ROWS)])
    rows = (pack_bits(code[mask][None], bits)[0] for code, mask in zip(unsigned, masks, strict=True))
    return torch.cat(list(rows))


def row_starts(masks: Tensor, bits: int) -> Tensor:
    """Return where each row begins in codes that were packed with a mask each, and where the last ends.

    Args:
        masks: uint8 [N, packed_bytes(K, 1)], as `pack_masks` returns them.

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
    """Return the packed rows of some images, one after the other, from rows of unequal length."""
    lengths = starts[ids + 1] - starts[ids]
    before = lengths.cumsum(0) - lengths  # where each row begins in the result
    shift = (starts[ids] - before).repeat_interleave(lengths)
    return packed[torch.arange(len(shift), device=packed.device) + shift]


def pad_rows(packed: Tensor, starts: Tensor) -> Tensor:
    """Return packed rows of unequal length as uint8 [N, bytes of the longest], zeros behind the shorter."""
    place = torch.arange(max(1, int(starts.diff().max())))
    at = starts[:-1, None] + place
    inside = at < starts[1:, None]
    return torch.where(inside, packed[at.clamp(max=len(packed) - 1)], 0) if len(packed) else inside.to(torch.uint8)


def has_lowest_code(rows: Tensor, bits: int) -> bool:
    """Return whether packed rows, uint8 [N, bytes], hold the code -2^(bits-1), whose highest bit alone is set.

    Every eighth code lies alike in a group of `bits` bytes, so eight comparisons of whole columns of groups find it.
    """
    groups = torch.nn.functional.pad(rows, (0, -rows.shape[1] % bits)).unflatten(1, (-1, bits))  # [N, groups, bits]
    for first in range(0, 8 * bits, bits):  # the bit at which each of eight codes begins
        byte, shift = divmod(first, 8)
        code = groups[..., byte] >> shift
        if shift + bits > 8:  # the code reaches into the next byte
            code = code | groups[..., byte + 1] << (8 - shift)
        if bool((code & (1 << bits) - 1 == 1 << bits - 1).any()):
            return True
    return False
