"""Pack integers into bytes, least significant bit first, each row padded to whole bytes; kernels/unpack unpacks them."""

from __future__ import annotations

import torch
from torch import Tensor

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
    shifts = torch.arange(bits, dtype=torch.int16, device=values.device)  # int16, since each bit becomes a value
    planes = (values.to(torch.int16).unsqueeze(2) >> shifts & 1).flatten(1)  # [B, n * bits]
    padding = -planes.shape[1] % 8
    planes = (
        torch.nn.functional.pad(planes, (0, padding)).unflatten(1, (-1, 8)) if planes.shape[1] else planes.unflatten(1, (0, 8))
    )
    return (planes << torch.arange(8, dtype=torch.int16, device=values.device)).sum(2).to(torch.uint8)
