"""Layer-wise quantization: hidden weights to integers with one scale a column, everything else in half or full precision.

    code[i, j] = round(w[i, j] / scale[j]),   scale[j] = max_i |w[i, j]| / 127,   w'[i, j] = code[i, j] * scale[j]

A column is an output unit of a layer, so in ``h @ W`` its scale multiplies the accumulator after the integers are summed.
Source: Rapid-INR (arXiv 2306.16699) keeps the first and last layers in full precision and takes 8 bits between; its formula is
not known. At 3x16 on 32x32 one scale a column costs 0.2 dB where one a tensor costs 0.9 (COIN++'s ablation found the same trap).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.spec import SirenSpec, float_sections, n_floats, weight_sections

MAX_CODE = 127  # symmetric: -128 is never written
FLOAT_DTYPES = {16: torch.float16, 32: torch.float32}


@dataclass(frozen=True)
class QuantizeConfig:
    """How weights are stored.

    Args:
        bits: of a hidden weight: 8 (integer with a scale a column), or 16 or 32 (floating, no scales).
        ends_bits: 16 or 32, of the first and last layers, all biases, and the scales.

    Raises:
        ValueError: if a value is not one of these.
    """

    bits: int = 8
    ends_bits: int = 16

    def __post_init__(self) -> None:
        if self.bits not in (8, *FLOAT_DTYPES):
            raise ValueError(f"quantize.bits is {self.bits}, expected 8, 16 or 32")
        if self.ends_bits not in FLOAT_DTYPES:
            raise ValueError(f"quantize.ends_bits is {self.ends_bits}, expected 16 or 32")

    @property
    def has_scales(self) -> bool:
        return self.bits not in FLOAT_DTYPES

    @property
    def codes_dtype(self) -> torch.dtype:
        return FLOAT_DTYPES.get(self.bits, torch.int8)

    @property
    def floats_dtype(self) -> torch.dtype:
        return FLOAT_DTYPES[self.ends_bits]


def split_rows(rows: Tensor, spec: SirenSpec) -> tuple[Tensor, Tensor]:
    """Split flat rows [B, S] into hidden weights [B, (depth - 1) H^2] and the rest, in the order of `float_sections`."""
    sections = weight_sections(spec)

    def part(name: str) -> Tensor:
        return rows[:, sections[name].start : sections[name].stop]

    last = spec.depth
    hidden = [part(f"weight_{i}") for i in range(1, last)]
    biases = [part(f"bias_{i}") for i in range(last)]
    codes = torch.cat(hidden, 1) if hidden else rows.new_empty(len(rows), 0)
    return codes, torch.cat([part("weight_0"), *biases, part(f"weight_{last}"), part(f"bias_{last}")], 1)


def join_rows(hidden: Tensor, rest: Tensor, spec: SirenSpec) -> Tensor:
    """Undo `split_rows`."""
    rows = rest.new_empty(len(rest), spec.n_weights)
    sections, parts = weight_sections(spec), float_sections(spec, scales=False)

    def put(name: str, values: Tensor) -> None:
        rows[:, sections[name].start : sections[name].stop] = values

    biases = _section(rest, parts["biases"]).unbind(1)
    for i, bias in enumerate(biases):
        put(f"bias_{i}", bias)
    for i, layer in enumerate(hidden.unflatten(1, (spec.depth - 1, -1)).unbind(1) if spec.depth > 1 else (), start=1):
        put(f"weight_{i}", layer)
    put("weight_0", rest[:, parts["first_weight"].start : parts["first_weight"].stop])
    put(f"weight_{spec.depth}", rest[:, parts["last_weight"].start : parts["last_weight"].stop])
    put(f"bias_{spec.depth}", rest[:, parts["last_bias"].start : parts["last_bias"].stop])
    return rows


def _section(floats: Tensor, section) -> Tensor:
    return floats[:, section.start : section.stop].unflatten(1, section.shape)


def quantize(rows: Tensor, spec: SirenSpec, config: QuantizeConfig) -> tuple[Tensor, Tensor]:
    """Quantize flat rows to what a store holds.

    Args:
        rows: float32 [B, S], finite.

    Returns:
        `codes` [B, (depth - 1) H^2] of `config.codes_dtype` and `floats` [B, F] of `config.floats_dtype`; with scales the error
        of a hidden weight is at most half a step of its column.

    Raises:
        ValueError: if a value is not finite or does not fit `ends_bits`.
    """
    hidden, rest = split_rows(rows, spec)
    if not config.has_scales:
        codes, floats = hidden.to(config.codes_dtype), rest
    else:
        weights = hidden.reshape(len(rows), spec.depth - 1, spec.hidden, spec.hidden)  # [B, D-1, in, out]
        scales = column_scales(weights, config)
        codes = (weights / scales.unsqueeze(2)).round_().clamp_(-MAX_CODE, MAX_CODE).to(torch.int8).flatten(1)
        floats = torch.cat([rest, scales.flatten(1)], 1)
    floats = floats.to(config.floats_dtype)
    if not (floats.isfinite().all() and (config.has_scales or codes.isfinite().all())):
        raise ValueError(f"a weight is not finite in {config.ends_bits} bits; try quantize.ends_bits=32")
    return codes, floats


def column_scales(weights: Tensor, config: QuantizeConfig) -> Tensor:
    """Return the scale of each column, as it will be stored: rounded *up* to `ends_bits`, so that no code has to be clipped.

    Args:
        weights: float32 [B, D-1, H, H], (fan_in, fan_out) last.

    Returns:
        float32 [B, D-1, H], positive; a column of zeros gets the smallest normal number, so that its codes are 0.
    """
    exact = weights.abs().amax(2) / MAX_CODE if weights.numel() else weights.new_empty(weights.shape[0], 0, weights.shape[-1])
    dtype = config.floats_dtype
    stored = exact.to(dtype)
    stored = torch.where(stored.float() < exact, torch.nextafter(stored, torch.full_like(stored, torch.inf)), stored)
    return stored.clamp_min(torch.finfo(dtype).tiny).float()


def dequantize(codes: Tensor, floats: Tensor, spec: SirenSpec) -> Tensor:
    """Return float32 flat rows [B, S] from what a store holds."""
    floats = floats.float()
    hidden = codes.float()
    scaled = codes.dtype == torch.int8
    if scaled:
        scales = _section(floats, float_sections(spec, scales=True)["scales"])  # [B, D-1, H]
        shape = (len(codes), spec.depth - 1, spec.hidden, spec.hidden)
        hidden = (hidden.reshape(shape) * scales.unsqueeze(2)).flatten(1)
    return join_rows(hidden, floats[:, : n_floats(spec, scales=False)], spec)
