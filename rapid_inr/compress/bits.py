"""Pack integers into bytes, least significant bit first, each row padded to whole bytes; kernels/unpack unpacks them."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rows import packed_bytes
from kernels.unpack.torch import check_bits
from rapid_inr.errors import UserError


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Pack rows of unsigned integers.

    Args:
        values: integer or bool [B, n], each in [0, 2^bits).
        bits: 1 to 8.

    Returns:
        uint8 [B, packed_bytes(n, bits)]; the bits after the last value are 0.

    Raises:
        ValueError: if `bits` is out of range or a value does not fit.
    """
    check_bits(bits)
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < 1 << bits:
        raise UserError(f"values reach from {int(values.min())} to {int(values.max())}, expected 0..{(1 << bits) - 1}")
    eight, n_bytes = torch.arange(8, device=values.device), packed_bytes(values.shape[1], bits)
    groups = torch.nn.functional.pad(values.long(), (0, -values.shape[1] % 8)).unflatten(1, (-1, 8))
    words = (groups << eight * bits).sum(2, keepdim=True)  # of eight values, which fill `bits` bytes
    return (words >> eight[:bits] * 8 & 255).to(torch.uint8).flatten(1)[:, :n_bytes]
