"""Pack small integers into bytes and back: value after value, least significant bit first, a row padded to whole bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_bytes(n_values: int, bits: int) -> int:
    """Return the bytes that a row of `n_values` takes at `bits` each."""
    return (n_values * bits + 7) // 8


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Pack rows of unsigned integers.

    Args:
        values: integer or bool [B, n], each in [0, 2^bits).
        bits: 1 to 8.

    Returns:
        uint8 [B, packed_bytes(n, bits)]; the bits behind the last value are 0.

    Raises:
        ValueError: if `bits` is out of range or a value does not fit.
    """
    _check_bits(bits)
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < 1 << bits:
        raise ValueError(f"values reach from {int(values.min())} to {int(values.max())}, expected 0..{(1 << bits) - 1}")
    places = torch.arange(bits, dtype=torch.int16, device=values.device)  # int16 throughout: every bit takes a value
    planes = (values.to(torch.int16).unsqueeze(2) >> places & 1).flatten(1)  # [B, n * bits], every bit on its own
    padding = -planes.shape[1] % 8
    planes = (
        torch.nn.functional.pad(planes, (0, padding)).unflatten(1, (-1, 8)) if planes.shape[1] else planes.unflatten(1, (0, 8))
    )
    return (planes << torch.arange(8, dtype=torch.int16, device=values.device)).sum(2).to(torch.uint8)


def unpack_bits(packed: Tensor, bits: int, n_values: int) -> Tensor:
    """Undo `pack_bits`.

    Args:
        packed: uint8 [B, packed_bytes(n_values, bits)].

    Returns:
        uint8 [B, n_values].

    Raises:
        ValueError: if `bits` is out of range or the rows have another length.
    """
    _check_bits(bits)
    if packed.shape[1] != packed_bytes(n_values, bits):
        raise ValueError(f"packed rows have {packed.shape[1]} bytes, expected {packed_bytes(n_values, bits)}")
    if bits == 8:
        return packed
    first = torch.arange(n_values, device=packed.device) * bits  # the bit at which each value begins
    wide = torch.nn.functional.pad(packed, (0, 1)).to(torch.int32)  # a value may reach into the next byte
    pair = wide[:, first // 8] | wide[:, first // 8 + 1] << 8
    return (pair >> first % 8 & (1 << bits) - 1).to(torch.uint8)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}, expected 1 to 8")
