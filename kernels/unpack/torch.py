"""Unpack rows in torch, on any device: codes of 2 to 8 bits, masks, and the weights that they encode."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rows import PackedRows, packed_bytes
from kernels.spec import SirenSpec, end_sections


def check_bits(bits: int) -> None:
    """Raise ValueError unless an integer of `bits` fits in a byte."""
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}, expected 1 to 8")


def unpack_bits(packed: Tensor, bits: int, n_values: int) -> Tensor:
    """Return the unsigned integers of packed rows, least significant bit first.

    Args:
        packed: uint8 [B, packed_bytes(n_values, bits)].

    Returns:
        uint8 [B, n_values].

    Raises:
        ValueError: if `bits` is out of range, or the rows have another length.
    """
    check_bits(bits)
    if packed.shape[1] != packed_bytes(n_values, bits):
        raise ValueError(f"packed rows have {packed.shape[1]} bytes, expected {packed_bytes(n_values, bits)}")
    if bits == 8:
        return packed
    first = torch.arange(n_values, device=packed.device) * bits  # the first bit of each value
    wide = torch.nn.functional.pad(packed, (0, 1)).to(torch.int32)  # a value may reach into the next byte
    pair = wide[:, first // 8] | wide[:, first // 8 + 1] << 8
    return (pair >> first % 8 & (1 << bits) - 1).to(torch.uint8)


def gather_codes(
    packed: Tensor, ids: Tensor, *, bits: int, n_codes: int, masks: Tensor | None = None, starts: Tensor | None = None
) -> Tensor:
    """Unpack the codes of some rows.

    Args:
        packed, masks, starts: `codes`, `masks` and `starts` of `PackedRows`.
        ids: int64 [B].
        n_codes: K.

    Returns:
        int8 [B, K], 0 for weights that the mask leaves out.
    """
    if bits == 8 and masks is None:
        return packed.index_select(0, ids).view(torch.int8)
    if packed.numel() == 0:  # all codes are masked out
        return torch.zeros((len(ids), n_codes), dtype=torch.int8, device=packed.device)
    if masks is None:
        first = ids * packed.shape[1]  # [B], the first byte of each row
        kept, rank = None, torch.arange(n_codes, device=packed.device)[None]  # [1, K]
    else:
        first = starts[ids]
        kept = unpack_bits(masks[ids], 1, n_codes).bool()  # [B, K]
        rank = kept.cumsum(1) - 1
    bit = rank.clamp(min=0) * bits
    byte = first[:, None] + bit // 8  # [B, K]
    flat = packed.flatten()
    low, high = flat[byte.clamp(max=len(flat) - 1)].int(), flat[(byte + 1).clamp(max=len(flat) - 1)].int()
    value = (low | high << 8) >> (bit % 8) & (1 << bits) - 1
    sign = 1 << (bits - 1)
    codes = ((value ^ sign) - sign).to(torch.int8)
    return codes if kept is None else torch.where(kept, codes, 0)


def gather_hidden(rows: PackedRows, ids: Tensor, spec: SirenSpec, dtype: torch.dtype) -> Tensor:
    """Return the hidden weights of some rows, [B, D-1, H, H] of `dtype`, (in, out) last."""
    shape = (spec.depth - 1, spec.hidden, spec.hidden)
    if rows.scales is None:
        return rows.codes.index_select(0, ids).to(dtype).unflatten(1, shape)
    codes = gather_codes(
        rows.codes, ids, bits=rows.bits, n_codes=spec.n_hidden_weights, masks=rows.masks, starts=rows.starts
    ).to(dtype)  # fmt: skip
    scales = rows.scales if len(rows.scales) == 1 else rows.scales.index_select(0, ids)
    return codes.unflatten(1, shape) * scales.to(dtype).unflatten(1, (spec.depth - 1, 1, rows.scales_a_layer(spec)))


def unpack_layers(rows: PackedRows, ids: Tensor, spec: SirenSpec, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return (weight [B, in, out], bias [B, out]) of each layer of some rows."""
    end_scales = None if rows.end_scales is None else rows.end_scales.index_select(0, ids)
    ends = unpack_ends(rows.ends.index_select(0, ids), end_scales, spec, dtype)
    part = {name: ends[:, s.start : s.stop].unflatten(1, s.shape) for name, s in end_sections(spec).items()}
    weights = [part["first_weight"], *gather_hidden(rows, ids, spec, dtype).unbind(1), part["last_weight"]]
    return list(zip(weights, [*part["biases"].unbind(1), part["last_bias"]], strict=True))


def unpack_ends(ends: Tensor, end_scales: Tensor | None, spec: SirenSpec, dtype: torch.dtype) -> Tensor:
    """Return the values of stored ends, [B, E] of `dtype`."""
    values = ends.to(dtype)
    if end_scales is not None:
        sizes = [section.size for section in end_sections(spec).values()]
        scales = end_scales.to(dtype).split(1, dim=1)
        values *= torch.cat([scale.expand(-1, size) for scale, size in zip(scales, sizes, strict=True)], dim=1)
    return values
