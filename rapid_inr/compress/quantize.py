"""Layer-wise quantization: hidden weights to a few bits with shared scales, everything else in half or full precision.

    code[i, j] = round(w[i, j] / scale[j]),   |code| <= q = 2^(bits-1) - 1,   w'[i, j] = code[i, j] * scale[j]

A column j is an output unit of a layer, so in ``h @ W`` its scale multiplies the accumulator after the integers are summed.
Source: Rapid-INR (arXiv 2306.16699) keeps the first and last layers in full precision and takes 8 bits between; its formula is
not known. What each choice costs was measured: docs/compression.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.spec import Section, SirenSpec, float_sections, n_floats, weight_sections

FLOAT_DTYPES = {16: torch.float16, 32: torch.float32}
GRANULARITIES = ("column", "tensor")
RANGES = ("max", "mse")
CLIPS = torch.linspace(0.3, 1.0, 36)  # of the largest weight: ranges that `mse` tries


@dataclass(frozen=True)
class QuantizeConfig:
    """How weights are stored.

    Args:
        bits: of a hidden weight: 2 to 8 (integer with scales), or 16 or 32 (floating, no scales).
        ends_bits: 16 or 32, of the first and last layers, all biases, and the scales.
        granularity: ``column`` (a scale for each output unit of a layer) or ``tensor`` (one for each layer).
        range: ``max`` (no weight is clipped) or ``mse`` (the clipping with the least squared error).

    Raises:
        ValueError: if a value is not one of these.
    """

    bits: int = 8
    ends_bits: int = 16
    granularity: str = "column"
    range: str = "max"

    def __post_init__(self) -> None:
        choices = {
            "bits": (*range(2, 9), *FLOAT_DTYPES),
            "ends_bits": tuple(FLOAT_DTYPES),
            "granularity": GRANULARITIES,
            "range": RANGES,
        }
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"quantize.{name} is {getattr(self, name)!r}, expected one of {', '.join(map(str, accepted))}")

    @property
    def is_integer(self) -> bool:
        """Whether hidden weights are stored as integers with scales."""
        return self.bits not in FLOAT_DTYPES

    @property
    def max_code(self) -> int:
        """The largest code, and minus the smallest: symmetric, so -2^(bits-1) is never written."""
        return 2 ** (self.bits - 1) - 1

    @property
    def floats_dtype(self) -> torch.dtype:
        return FLOAT_DTYPES[self.ends_bits]

    def n_scales(self, spec: SirenSpec) -> int:
        """Return how many scales a layer has."""
        return 0 if not self.is_integer else spec.hidden if self.granularity == "column" else 1


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
    sections, parts = weight_sections(spec), float_sections(spec, scales=0)

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


def _section(floats: Tensor, section: Section) -> Tensor:
    return floats[:, section.start : section.stop].unflatten(1, section.shape)


def hidden_matrices(hidden: Tensor, spec: SirenSpec) -> Tensor:
    """View hidden weights or codes [B, (depth - 1) H^2] as [B, D-1, fan_in, fan_out]."""
    return hidden.reshape(len(hidden), spec.depth - 1, spec.hidden, spec.hidden)


def quantize(rows: Tensor, spec: SirenSpec, config: QuantizeConfig, *, scales: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Quantize flat rows to what a store holds.

    Args:
        rows: float32 [B, S], finite.
        scales: float32 [B, D-1, H or 1], as they can be stored; None chooses them as `config` says.

    Returns:
        `codes` [B, (depth - 1) H^2], int8 or of the floating type of `config.bits`, and `floats` [B, F] of
        `config.floats_dtype`. With scales and ``range=max``, the error of a hidden weight is at most half a step.

    Raises:
        ValueError: if a value is not finite or does not fit its type.
    """
    hidden, rest = split_rows(rows, spec)
    if config.is_integer:
        matrices = hidden_matrices(hidden, spec)
        scales = choose_scales(matrices, config) if scales is None else scales  # [B, D-1, columns or 1]
        codes = _round_to_codes(matrices, scales, config).to(torch.int8).flatten(1)
        rest = torch.cat([rest, scales.flatten(1)], 1)
    else:
        codes = hidden.to(FLOAT_DTYPES[config.bits])
    floats = rest.to(config.floats_dtype)
    if not (floats.isfinite().all() and codes.isfinite().all()):
        raise ValueError("a weight is not finite in the bits it is stored with; try quantize=fp32")
    return codes, floats


def _round_to_codes(matrices: Tensor, scales: Tensor, config: QuantizeConfig) -> Tensor:
    return (matrices / scales.unsqueeze(2)).round_().clamp_(-config.max_code, config.max_code)


def choose_scales(matrices: Tensor, config: QuantizeConfig) -> Tensor:
    """Return the scales as they will be stored: numbers of `config.floats_dtype`, in float32.

    Args:
        matrices: float32 [B, D-1, H, H], (fan_in, fan_out) last.

    Returns:
        float32 [B, D-1, H] or [B, D-1, 1], positive. Rounded *up* with ``range=max``, so that no weight is clipped. Weights that
        are all zero get the smallest normal number, so that their codes are 0.
    """
    axes = (2,) if config.granularity == "column" else (2, 3)
    if matrices.shape[1] == 0:  # amax refuses to reduce nothing
        return matrices.new_empty(len(matrices), 0, matrices.shape[3] if config.granularity == "column" else 1)
    largest = matrices.abs().amax(axes, keepdim=config.granularity == "tensor").flatten(2) / config.max_code
    full = storable_scales(largest, config)
    if config.range == "max":
        return full
    best, least = full, torch.full_like(full, torch.inf)
    for clip in CLIPS.tolist():
        scales = storable_scales(largest * clip, config)
        error = (_round_to_codes(matrices, scales, config) * scales.unsqueeze(2) - matrices).square_()
        error = error.sum(axes, keepdim=config.granularity == "tensor").flatten(2)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best


def storable_scales(scales: Tensor, config: QuantizeConfig) -> Tensor:
    """Round scales up to numbers that `ends_bits` can hold, at least the smallest normal one; returns float32."""
    dtype = config.floats_dtype
    stored = scales.to(dtype)
    stored = torch.where(stored.float() < scales, torch.nextafter(stored, torch.full_like(stored, torch.inf)), stored)
    return stored.clamp_min(torch.finfo(dtype).tiny).float()


def dequantize(codes: Tensor, floats: Tensor, spec: SirenSpec) -> Tensor:
    """Return float32 flat rows [B, S] from what `quantize` returned."""
    floats, hidden = floats.float(), codes.float()
    n_plain = n_floats(spec, scales=0)
    if codes.dtype == torch.int8 and spec.depth > 1:
        scales = floats[:, n_plain:].unflatten(1, (spec.depth - 1, -1))  # [B, D-1, columns or 1]
        hidden = (hidden_matrices(hidden, spec) * scales.unsqueeze(2)).flatten(1)
    return join_rows(hidden, floats[:, :n_plain], spec)
