"""Packed rows of SIRENs: the tensors that a decode reads, and their checks."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from kernels.checks import require
from kernels.spec import SirenSpec, end_sections, n_ends

FLOAT_DTYPES = (torch.float16, torch.float32)
END_DTYPES = (torch.int8, *FLOAT_DTYPES)
CODE_DTYPES = dict.fromkeys(range(2, 9), torch.uint8) | {16: torch.float16, 32: torch.float32}  # by bits


def packed_bytes(n_values: int, bits: int) -> int:
    """Return the bytes of a row of `n_values` with `bits` each."""
    return (n_values * bits + 7) // 8


@dataclass(frozen=True, eq=False)
class TensorRows:
    """Packed rows of any family: their codes, and other tensors on the same device."""

    codes: Tensor

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, without those that are None."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}


@dataclass(frozen=True, eq=False)
class PackedRows(TensorRows):
    """N packed rows of SIRENs of depth D and width H, with K = (D - 1) H^2 hidden weights each.

    Args:
        codes: hidden weights, row-major [layer, in, out]. At 2 to 8 bits uint8, in two's complement from the least significant
            bit of the first byte, each row padded to whole bytes: [N, bytes], or [total bytes] with masks. At 16 and 32 bits
            [N, K] of that floating type.
        ends: int8, float16 or float32 [N, E], in the layout of `end_sections`.
        scales: float16 or float32 [N, (D - 1) C], or [1, (D - 1) C] shared by all rows, with C = H for one scale a column and
            C = 1 for one a layer. A hidden weight is code * scale. None with floating codes.
        end_scales: float16 or float32 [N, 4], one for each of the `end_sections`: an end is code * scale. Only with int8 ends.
        bits: of a code.
        masks: uint8 [N, bytes], a bit for each hidden weight: 1 if its code is stored, 0 if the weight is 0. None: all are
            stored.
        starts: int64 [N + 1], the byte in `codes` where each row begins, and the end of the last. Only with masks.
    """

    ends: Tensor
    scales: Tensor | None
    end_scales: Tensor | None
    bits: int
    masks: Tensor | None = None
    starts: Tensor | None = None
    checked: SirenSpec | None = field(init=False, default=None, repr=False)  # the spec that `check_rows` accepted

    def __len__(self) -> int:
        return len(self.ends)

    def scales_a_layer(self, spec: SirenSpec) -> int:
        """Return the number of scales of a hidden layer: `spec.hidden`, 1, or 0 with floating codes."""
        if self.scales is None:
            return 0
        return 1 if self.scales.shape[1] == spec.depth - 1 else spec.hidden


def check_rows(rows: PackedRows, spec: SirenSpec) -> None:
    """Check that packed rows fit `spec`; rows are checked once.

    Raises:
        ValueError: if a tensor has the wrong dtype, shape or device, or is not contiguous.
    """
    require(isinstance(spec, SirenSpec), "spec", spec, "a SirenSpec; decode_cosine decodes cosine series")
    if rows.checked == spec:
        return
    require(rows.bits in CODE_DTYPES, "bits", rows.bits, f"one of {tuple(CODE_DTYPES)}")
    expected = CODE_DTYPES[rows.bits]
    require(rows.codes.dtype == expected, "codes.dtype", rows.codes.dtype, f"{expected} at {rows.bits} bits")
    require(rows.ends.dtype in END_DTYPES, "ends.dtype", rows.ends.dtype, f"one of {END_DTYPES}")
    shape = tuple(rows.ends.shape)
    ok = len(shape) == 2 and shape[0] >= 1 and shape[1] == n_ends(spec)
    require(ok, "ends.shape", shape, f"[N, {n_ends(spec)}] with N >= 1 for {spec}")
    _check_masks(rows, spec)
    _check_codes(rows, spec)
    _check_scales(rows, spec)
    for name, tensor in rows.tensors().items():
        require(tensor.device == rows.device, f"{name}.device", tensor.device, f"{rows.device}, that of codes")
    require_contiguous(**rows.tensors())
    object.__setattr__(rows, "checked", spec)


def _check_masks(rows: PackedRows, spec: SirenSpec) -> None:
    require(
        (rows.masks is None) == (rows.starts is None),
        "masks, starts",
        f"{_kind(rows.masks)}, {_kind(rows.starts)}",
        "both or neither",
    )
    if rows.masks is None or rows.starts is None:
        return
    require(rows.codes.dtype == torch.uint8, "masks", "a tensor", "None with floating codes")
    require(rows.masks.dtype == torch.uint8, "masks.dtype", rows.masks.dtype, torch.uint8)
    _require_shape("masks", rows.masks, [(len(rows), packed_bytes(spec.n_hidden_weights, 1))])
    require(rows.starts.dtype == torch.int64, "starts.dtype", rows.starts.dtype, torch.int64)
    _require_shape("starts", rows.starts, [(len(rows) + 1,)])


def _check_codes(rows: PackedRows, spec: SirenSpec) -> None:
    shape = tuple(rows.codes.shape)
    if rows.masks is not None:
        require(len(shape) == 1, "codes.shape", shape, "[total bytes] with masks")
        return
    columns = packed_bytes(spec.n_hidden_weights, rows.bits) if rows.codes.dtype == torch.uint8 else spec.n_hidden_weights
    require(shape == (len(rows), columns), "codes.shape", shape, f"{(len(rows), columns)} for {spec} at {rows.bits} bits")


def _check_scales(rows: PackedRows, spec: SirenSpec) -> None:
    floating = rows.codes.dtype.is_floating_point
    require((rows.scales is None) == floating, "scales", _kind(rows.scales), "None" if floating else "a tensor with uint8 codes")
    if rows.scales is not None:
        require(rows.scales.dtype in FLOAT_DTYPES, "scales.dtype", rows.scales.dtype, f"one of {FLOAT_DTYPES}")
        layers = spec.depth - 1
        shapes = [(n, layers * columns) for columns in (spec.hidden, 1) for n in (len(rows), 1)]
        _require_shape("scales", rows.scales, shapes)
    whole = rows.ends.dtype == torch.int8
    expected = "a tensor with int8 ends" if whole else f"None with {rows.ends.dtype} ends"
    require((rows.end_scales is not None) == whole, "end_scales", _kind(rows.end_scales), expected)
    if rows.end_scales is not None:
        require(rows.end_scales.dtype in FLOAT_DTYPES, "end_scales.dtype", rows.end_scales.dtype, f"one of {FLOAT_DTYPES}")
        _require_shape("end_scales", rows.end_scales, [(len(rows), len(end_sections(spec)))])


def _kind(tensor: Tensor | None) -> str:
    return "None" if tensor is None else "a tensor"


def _require_shape(name: str, tensor: Tensor, shapes: list[tuple[int, ...]]) -> None:
    expected = " or ".join(map(str, dict.fromkeys(shapes)))
    require(tuple(tensor.shape) in shapes, f"{name}.shape", tuple(tensor.shape), expected)


def require_contiguous(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors are contiguous."""
    for name, tensor in tensors.items():
        require(tensor.is_contiguous(), f"{name}.stride()", tensor.stride(), "that of a contiguous tensor")
