"""The family `siren` in a store: packed weights, in the smallest of several layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernels.decode import decode_siren
from kernels.rows import CODE_DTYPES, PackedRows, packed_bytes
from kernels.spec import SirenSpec, end_sections, n_ends
from kernels.unpack.torch import gather_codes
from rapid_inr.compress.quantize import QuantizeConfig, dense_row_bytes
from rapid_inr.errors import require
from rapid_inr.store.checks import require_tensors, typed
from rapid_inr.store.codes import has_lowest_code, pack_codes, pack_masks, pad_rows, row_starts, take_rows
from rapid_inr.store.sealed import brief
from rapid_inr.store.tensor_file import Blocks, stacked

MAX_DEPTH, MAX_HIDDEN, MAX_OMEGA = 256, 4096, 1e6  # far above any useful value; a reader's work grows with them
USUAL_ROUNDING = "nearest"  # not stored, since a decode does not depend on how codes were rounded
QUANTIZE_TYPES = {"bits": int, "ends_bits": int, "granularity": str, "range": str, "rounding": str}
CHECKED_ROWS = 1024  # checked at once
REPACK_ROWS = 128  # repacked at once, since repacking takes several integers for each code


@dataclass(frozen=True)
class SirenCode:
    """SIRENs of one shape and quantization; see `rapid_inr.store.families.Code`.

    Args:
        spec: of all SIRENs.
        quantize: how rows are stored.
    """

    family: ClassVar[str] = "siren"
    tensors: ClassVar[tuple[str, ...]] = ("codes", "ends", "scales", "end_scales", "masks")
    needed: ClassVar[tuple[str, ...]] = ("codes", "ends")
    decode: ClassVar[Callable[..., Tensor]] = staticmethod(decode_siren)

    spec: SirenSpec
    quantize: QuantizeConfig

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> SirenCode:
        spec = typed(raw, "spec", depth=int, hidden=int, omega=float)
        for name, most in (("depth", MAX_DEPTH), ("hidden", MAX_HIDDEN), ("omega", MAX_OMEGA)):
            require(0 < spec[name] <= most, f"spec.{name}", brief(spec[name]), f"above 0 and at most {most}")
        quantize = typed({"quantize": {"rounding": USUAL_ROUNDING} | raw["quantize"]}, "quantize", **QUANTIZE_TYPES)
        return cls(SirenSpec(**spec | {"omega": float(spec["omega"])}), QuantizeConfig(**quantize))

    def values(self) -> dict[str, Any]:
        raw = asdict(self)
        if self.quantize.rounding == USUAL_ROUNDING:
            del raw["quantize"]["rounding"]
        return raw

    def facts(self) -> dict[str, Any]:
        spec, quantize = self.spec, self.quantize
        bits = {"bits": quantize.bits, "ends_bits": quantize.ends_bits}
        return {"depth": spec.depth, "hidden": spec.hidden, "omega": spec.omega, **bits}

    def __str__(self) -> str:
        return f"{self.spec.depth}x{self.spec.hidden}, omega {self.spec.omega:g}"

    @property
    def row_bytes(self) -> int:
        return dense_row_bytes(self.spec, self.quantize)

    @property
    def shared(self) -> tuple[str, ...]:
        return ("scales",) if self.quantize.shares_scales else ()

    def rows(self, packed: Mapping[str, Tensor]) -> PackedRows:
        spec, quantize, ends = self.spec, self.quantize, packed["ends"]
        n, whole = len(ends), quantize.is_integer
        n_scales, n_layers, columns = quantize.scales_shape(n, spec)
        expected = {
            "ends": ((n, n_ends(spec)), (quantize.ends_dtype,), True),
            "scales": ((n_scales, n_layers * columns), (quantize.scales_dtype,), whole),
            "end_scales": ((n, len(end_sections(spec))), (quantize.scales_dtype,), quantize.ends_bits == 8),
            "masks": ((n, packed_bytes(spec.n_hidden_weights, 1)), (torch.uint8,), None if whole else False),
        }
        require_tensors(packed, expected, ends.device)
        masks, starts = packed.get("masks"), None
        shape = (n, packed_bytes(spec.n_hidden_weights, quantize.bits) if whole else spec.n_hidden_weights)
        if masks is not None:
            starts = row_starts(masks, quantize.bits)
            shape = (int(starts[-1]),)
        require_tensors(packed, {"codes": (shape, (CODE_DTYPES[quantize.bits],), True)}, ends.device)
        return PackedRows(packed["codes"], ends, packed.get("scales"), packed.get("end_scales"), quantize.bits, masks, starts)

    def starts(self, rows: PackedRows) -> Tensor | None:
        return rows.starts

    def take(self, packed: Mapping[str, Tensor], rows: PackedRows, ids: Tensor) -> dict[str, Tensor]:
        taken = {name: tensor if name in self.shared else tensor[ids] for name, tensor in packed.items() if name != "codes"}
        codes = rows.codes[ids] if rows.starts is None else take_rows(rows.codes, rows.starts, ids)
        return {"codes": codes, **taken}

    @staticmethod
    def fault(name: str, block: Tensor) -> str:
        if name in ("scales", "end_scales") and not bool((block > 0).all()):
            return f"{name} has values that are not positive"
        if name == "ends" and block.dtype == torch.int8 and bool((block == -128).any()):
            return "ends has a code of -128, expected -127 to 127"
        return ""

    def fault_of_rows(self, rows: PackedRows) -> str:
        unused = -self.spec.n_hidden_weights % 8
        if rows.masks is not None and unused and bool((rows.masks[:, -1] >> (8 - unused)).any()):
            return "a mask has bits behind its last weight"
        if not self.quantize.is_integer or rows.codes.numel() == 0:
            return ""
        # -2^(bits-1), the one code that the format does not allow
        for first in range(0, len(rows), CHECKED_ROWS):
            if rows.starts is None:
                dense = rows.codes[first : first + CHECKED_ROWS].view(torch.uint8)
            else:
                starts = rows.starts[first : first + CHECKED_ROWS + 1]
                dense = pad_rows(rows.codes[starts[0] : starts[-1]], starts - starts[0])
            if has_lowest_code(dense, self.quantize.bits):
                most = self.quantize.max_code
                return f"a code is {-most - 1}, expected {-most} to {most}"
        return ""

    def bytes_by_part(self, packed: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the bytes of ``codes`` (hidden weights), ``masks``, ``ends`` (first and last weight), ``biases``, ``scales``."""
        ends, sections = packed["ends"], end_sections(self.spec)
        element = ends.element_size() * len(ends)
        return {
            "codes": packed["codes"].nbytes,
            "masks": packed["masks"].nbytes if "masks" in packed else 0,
            "ends": element * (sections["first_weight"].size + sections["last_weight"].size),
            "biases": element * (sections["biases"].size + sections["last_bias"].size),
            "scales": sum(packed[name].nbytes for name in ("scales", "end_scales") if name in packed),
        }

    def merged(self, shards: Callable[[], Iterator[dict[str, Tensor]]], n: int) -> dict[str, Blocks]:
        pruned, codes_bytes = False, 0
        for rows in shards():
            pruned, codes_bytes = pruned or "masks" in rows, codes_bytes + rows["codes"].nbytes
        n_codes, bits = self.spec.n_hidden_weights, self.quantize.bits
        with_masks = pruned and codes_bytes + n * packed_bytes(n_codes, 1) < n * packed_bytes(n_codes, bits)
        arrange = self._with_masks if with_masks else self._without_masks
        blocks = stacked(shards, n)
        if pruned:  # bring codes and masks to one layout; other tensors do not depend on it
            arranged = stacked(lambda: map(arrange, shards()), n)
            blocks = {name: arranged[name] if name in ("codes", "masks") else blocks[name] for name in arranged}
        if with_masks:
            blocks["codes"] = replace(blocks["codes"], shape=(codes_bytes,))
        return blocks

    def _with_masks(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add masks to rows without them; the bytes of the codes stay the same."""
        if "masks" in rows:
            return rows
        kept = torch.ones(len(rows["codes"]), self.spec.n_hidden_weights, dtype=torch.bool)
        return rows | {"codes": rows["codes"].flatten(), "masks": pack_masks(kept)}

    def _without_masks(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Store the pruned codes of rows as zeros."""
        if "masks" not in rows:
            return rows
        bits, n_codes, masks = self.quantize.bits, self.spec.n_hidden_weights, rows["masks"]
        starts, dense = row_starts(masks, bits), []
        for ids in torch.arange(len(masks)).split(REPACK_ROWS):
            codes = gather_codes(rows["codes"], ids, bits=bits, n_codes=n_codes, masks=masks, starts=starts)
            dense.append(pack_codes(codes, bits))
        return {name: tensor for name, tensor in rows.items() if name != "masks"} | {"codes": torch.cat(dense)}
