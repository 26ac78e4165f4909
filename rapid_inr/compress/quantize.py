"""Layer-wise quantization: hidden weights as integers of a few bits with shared scales, all else in half or full precision.

    code[i, j] = round(w[i, j] / scale[j]),   |code| <= q = 2^(bits-1) - 1,   w'[i, j] = code[i, j] * scale[j]

Column j is an output unit of a layer, so in ``h @ W`` its scale can multiply the sum of the integer products.
Source: Rapid-INR (arXiv 2306.16699) keeps the first and last layers in full precision and uses 8 bits for the others; it does not
give a formula. docs/compression.md has the measured cost of each choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.rows import CODE_DTYPES, PackedRows, packed_bytes
from kernels.spec import SirenSpec, end_sections, n_ends
from kernels.unpack.torch import unpack_ends
from rapid_inr.errors import UserError
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows

END_DTYPES = {8: torch.int8, 16: torch.float16, 32: torch.float32}
GRANULARITIES = ("column", "tensor", "dataset")
MAX_END = 127  # the largest int8 code of an end
RANGES = ("max", "mse")
ROUNDINGS = ("nearest", "gptq")
CLIPS = torch.linspace(0.3, 1.0, 36)  # ranges that `mse` tries, as fractions of the largest weight


@dataclass
class QuantizeConfig:
    """How weights are stored.

    Args:
        bits: of a hidden weight: 2 to 8 (integers with scales), or 16 or 32 (floating, no scales).
        ends_bits: of the first and last layers and all biases: 16 or 32 (floating), or 8 (integers with four scales an image:
            first weights, biases of sine layers, last weights, last biases). Scales take as many bits as floating ends, and 16
            with integer ends.
        granularity: ``column`` (a scale for each output unit of a layer), ``tensor`` (one for each layer), or ``dataset`` (one
            for each layer, shared by all images).
        range: ``max`` (no weight is clipped) or ``mse`` (the clipping with the least squared error).
        rounding: ``nearest`` (each weight alone) or ``gptq`` (each weight makes up for the errors of those before it).

    Raises:
        ValueError: if a value is not one of these, or ``rounding=gptq`` is used with floating weights.
    """

    bits: int = 8
    ends_bits: int = 16
    granularity: str = "column"
    range: str = "max"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        choices = {
            "bits": tuple(CODE_DTYPES),
            "ends_bits": tuple(END_DTYPES),
            "granularity": GRANULARITIES,
            "range": RANGES,
            "rounding": ROUNDINGS,
        }
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise UserError(f"quantize.{name} is {getattr(self, name)!r}, expected one of {', '.join(map(str, accepted))}")
        if self.rounding == "gptq" and not self.is_integer:
            raise UserError(f"quantize.rounding is 'gptq' with quantize.bits={self.bits}, expected 2 to 8 bits, or nearest")

    @property
    def is_integer(self) -> bool:
        """Whether hidden weights are stored as integers with scales."""
        return self.bits <= 8

    @property
    def shares_scales(self) -> bool:
        """Whether all images have the same scales."""
        return self.is_integer and self.granularity == "dataset"

    @property
    def max_code(self) -> int:
        """The largest absolute code; the range is symmetric, so -2^(bits-1) is unused."""
        return 2 ** (self.bits - 1) - 1

    @property
    def ends_dtype(self) -> torch.dtype:
        return END_DTYPES[self.ends_bits]

    @property
    def scales_dtype(self) -> torch.dtype:
        return END_DTYPES[max(self.ends_bits, 16)]

    def scales_shape(self, n: int, spec: SirenSpec) -> tuple[int, int, int]:
        """Return the shape of the scales of n rows: [n or 1, D-1, columns or 1]."""
        rows = 1 if self.granularity == "dataset" else n
        return rows, spec.depth - 1, spec.hidden if self.granularity == "column" else 1


@dataclass(frozen=True)
class Quantized:
    """B quantized rows, with codes not yet packed; a tensor is None if the config does not need it.

    Args:
        codes: int8 [B, (depth - 1) H^2], or floating.
        ends: [B, E], laid out by `end_sections`.
        scales: [B or 1, (depth - 1) * columns].
        end_scales: [B, 4].
    """

    codes: Tensor
    ends: Tensor
    scales: Tensor | None = None
    end_scales: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def packed(self, device: torch.device | None = None) -> PackedRows:
        """Return the rows in the layout of a decode, a byte a code, on a device."""
        codes = self.codes.view(torch.uint8) if self.codes.dtype == torch.int8 else self.codes
        tensors = (codes, self.ends, self.scales, self.end_scales)
        bits = 8 * codes.element_size()
        return PackedRows(*(None if tensor is None else tensor.to(device).contiguous() for tensor in tensors), bits=bits)


def dense_row_bytes(spec: SirenSpec, config: QuantizeConfig) -> int:
    """Return the bytes of an unpruned image: its codes, ends and scales."""
    codes = packed_bytes(spec.n_hidden_weights, config.bits) if config.is_integer else spec.n_hidden_weights * config.bits // 8
    own_scales = math.prod(config.scales_shape(1, spec)[1:]) if config.is_integer and not config.shares_scales else 0
    end_scales = len(end_sections(spec)) if config.ends_bits == 8 else 0
    return codes + n_ends(spec) * config.ends_bits // 8 + (own_scales + end_scales) * config.scales_dtype.itemsize


def quantize(rows: Tensor, spec: SirenSpec, config: QuantizeConfig, *, scales: Tensor | None = None) -> Quantized:
    """Quantize flat rows for a store.

    Args:
        rows: float32 [B, S], finite.
        scales: float32 [B or 1, D-1, H or 1], storable; None chooses them by `config`.

    Returns:
        The codes, ends and scales. If the scales are chosen here with ``range=max``, the error of a hidden weight is at most half
        a step.

    Raises:
        ValueError: if a value is not finite or does not fit its type.
    """
    hidden, rest = split_rows(rows, spec)
    stored_scales = None
    if config.is_integer:
        matrices = hidden_matrices(hidden, spec)
        scales = choose_scales(matrices, config) if scales is None else scales  # [B or 1, D-1, columns or 1]
        codes = round_to_codes(matrices, scales, config).to(torch.int8).flatten(1)
        stored_scales = scales.flatten(1).to(config.scales_dtype)
    else:
        codes = hidden.to(CODE_DTYPES[config.bits])
    ends, end_scales = quantize_ends(rest, spec, config)
    quantized = Quantized(codes, ends, stored_scales, end_scales)
    kept = (rows, codes, ends, stored_scales, end_scales)
    if not all(bool(tensor.isfinite().all()) for tensor in kept if tensor is not None):
        raise UserError("a weight is not finite in the bits it is stored with; try quantize=fp32")
    return quantized


def quantize_ends(ends: Tensor, spec: SirenSpec, config: QuantizeConfig) -> tuple[Tensor, Tensor | None]:
    """Return the ends [B, E] in their stored type and, for integers, the scales [B, 4] of their sections."""
    if config.ends_bits != 8:
        return ends.to(config.ends_dtype), None
    parts = [ends[:, section.start : section.stop] for section in end_sections(spec).values()]
    scales = [storable_scales(part.abs().amax(1, keepdim=True) / MAX_END, config) for part in parts]
    codes = [(part / scale).round_().clamp_(-MAX_END, MAX_END) for part, scale in zip(parts, scales, strict=True)]
    return torch.cat(codes, 1).to(torch.int8), torch.cat(scales, 1).to(config.scales_dtype)


def round_to_codes(matrices: Tensor, scales: Tensor, config: QuantizeConfig) -> Tensor:
    """Return the codes, in a floating type, of hidden weights [B, L, H, H] with scales [B or 1, L, H or 1]."""
    return (matrices / scales.unsqueeze(2)).round_().clamp_(-config.max_code, config.max_code)


def choose_scales(matrices: Tensor, config: QuantizeConfig) -> Tensor:
    """Return the scales of hidden weights: values of `config.scales_dtype`, in float32.

    Args:
        matrices: float32 [B, D-1, H, H], (fan_in, fan_out) last.

    Returns:
        float32 [B, D-1, H], [B, D-1, 1] or [1, D-1, 1], positive. With ``range=max`` they are rounded *up*, so that no weight is
        clipped. If all weights are zero, the scale is the smallest normal number, so that their codes are 0.
    """
    axes = {"column": (2,), "tensor": (2, 3), "dataset": (0, 2, 3)}[config.granularity]  # axes that share a scale
    if matrices.shape[1] == 0:  # amax cannot reduce an empty tensor
        rows, columns = (1 if axis in axes else matrices.shape[axis] for axis in (0, 3))
        return matrices.new_empty(rows, 0, columns)
    largest = matrices.abs().amax(axes, keepdim=True).squeeze(2) / config.max_code
    full = storable_scales(largest, config)
    if config.range == "max":
        return full
    best, least = full, torch.full_like(full, torch.inf)
    for clip in CLIPS.tolist():
        scales = storable_scales(largest * clip, config)
        error = (round_to_codes(matrices, scales, config) * scales.unsqueeze(2) - matrices).square_()
        error = error.sum(axes, keepdim=True).squeeze(2)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best


def storable_scales(scales: Tensor, config: QuantizeConfig) -> Tensor:
    """Round scales up to numbers that `config.scales_dtype` can hold, at least the smallest normal one; returns float32."""
    dtype = config.scales_dtype
    stored = scales.to(dtype)
    # the tolerance covers float32 rounding, so that s * 127 / 127 is stored as s
    stored = torch.where(
        stored.float() < scales * (1 - 2**-22), torch.nextafter(stored, torch.full_like(stored, torch.inf)), stored
    )
    return stored.clamp_min(torch.finfo(dtype).tiny).float()


def dequantize(quantized: Quantized, spec: SirenSpec) -> Tensor:
    """Return float32 flat rows [B, S]."""
    hidden = quantized.codes.float()
    if quantized.scales is not None and spec.depth > 1:
        scales = quantized.scales.float().unflatten(1, (spec.depth - 1, -1))  # [B or 1, D-1, columns or 1]
        hidden = (hidden_matrices(hidden, spec) * scales.unsqueeze(2)).flatten(1)
    return join_rows(hidden, unpack_ends(quantized.ends, quantized.end_scales, spec, torch.float32), spec)
