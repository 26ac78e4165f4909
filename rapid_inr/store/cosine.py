"""The family `cosine` in a store: a row of bytes for each image, and the codebooks that all images share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernels.cosine import CosineRows, CosineSpec, decode_cosine
from kernels.cosine.spec import WORDS
from rapid_inr.cosine.components import BASIS_UNIT
from rapid_inr.errors import require
from rapid_inr.store.checks import require_tensors, typed
from rapid_inr.store.tensor_file import Blocks, stacked


@dataclass(frozen=True)
class CosineCode:
    """Cosine series of one shape; see `rapid_inr.store.families.Code`.

    Args:
        spec: of all rows.
    """

    family: ClassVar[str] = "cosine"
    tensors: ClassVar[tuple[str, ...]] = ("codes", "books", "book_scales", "table", "places", "colour", "colour_mean", "basis")
    needed: ClassVar[tuple[str, ...]] = tensors[:-1]
    shared: ClassVar[tuple[str, ...]] = tensors[1:]
    decode: ClassVar[Callable[..., Tensor]] = staticmethod(decode_cosine)

    spec: CosineSpec

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> CosineCode:
        return cls(CosineSpec(**typed(raw, "spec", frequencies=int, groups=int, dimensions=int, profiles=int)))

    def values(self) -> dict[str, Any]:
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        return {"bytes": self.spec.row_bytes, **asdict(self.spec)}

    def __str__(self) -> str:
        return f"cosine series of {self.spec.row_bytes} bytes"

    @property
    def row_bytes(self) -> int:
        return self.spec.row_bytes

    def rows(self, packed: Mapping[str, Tensor]) -> CosineRows:
        spec, table, device = self.spec, packed["table"], packed["codes"].device
        m, basis, places = spec.profiles, packed.get("basis"), packed["places"]
        shape = tuple(places.shape * 2 if basis is None else basis.shape)
        require(len(shape) == 2 and 0 not in shape, "basis.shape", shape, "[components, coefficients]")
        k, j = shape
        require_tensors(packed, {"table": ((m, k), (torch.int16,), True), "places": ((j,), (torch.int16,), True)}, device)
        require_places(places, 3 * spec.frequencies**2)
        slots = word_slots(table, spec)
        expected = {
            "codes": ((len(packed["codes"]), spec.row_bytes), (torch.uint8,), True),
            "basis": ((k, j), (torch.int8,), None),
            "books": ((len(slots), WORDS), (torch.int8,), True),
            "book_scales": ((len(slots),), (torch.float16,), True),
            "colour": ((3, 3), (torch.float32,), True),
            "colour_mean": ((3,), (torch.float32,), True),
        }
        require_tensors(packed, expected, device)
        books = torch.zeros((m * spec.groups * spec.dimensions, WORDS), dtype=torch.float16, device=device)
        books[slots] = (packed["books"] * packed["book_scales"].float()[:, None]).half()
        books = books.view(m, spec.groups, spec.dimensions, WORDS).transpose(2, 3).contiguous()
        basis = None if basis is None else basis.float() * BASIS_UNIT
        return CosineRows(packed["codes"], books, table, places.long(), packed["colour"], packed["colour_mean"], basis)

    def starts(self, rows: CosineRows) -> None:
        return None

    def take(self, packed: Mapping[str, Tensor], rows: CosineRows, ids: Tensor) -> dict[str, Tensor]:
        return dict(packed) | {"codes": packed["codes"][ids]}

    @staticmethod
    def fault(name: str, block: Tensor) -> str:
        if name == "book_scales" and not bool((block > 0).all()):
            return "book_scales has values that are not positive"
        if name in ("books", "basis") and bool((block == -128).any()):
            return f"{name} has a value of -128, expected -127 to 127"
        return ""

    def fault_of_rows(self, rows: CosineRows) -> str:
        if not bool(rows.books.isfinite().all()):
            return "a word of a codebook is beyond the range of float16"
        if self.spec.profiles == 1:
            return ""
        profile = int(rows.codes[:, 0].max())
        return "" if profile < self.spec.profiles else f"an image has profile {profile}, expected 0 to {self.spec.profiles - 1}"

    def bytes_by_part(self, packed: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the bytes of ``codes`` (of the images) and ``codebooks`` (all shared tensors, the basis too)."""
        return {"codes": packed["codes"].nbytes, "codebooks": sum(packed[name].nbytes for name in self.shared if name in packed)}

    def merged(self, shards: Callable[[], Iterator[dict[str, Tensor]]], n: int) -> dict[str, Blocks]:
        return stacked(shards, n)


def require_places(places: Tensor, n: int) -> None:
    """Check that places are ascending and below `n`.

    Raises:
        UserError: if not.
    """
    low, high = int(places[0]), int(places[-1])
    require(low >= 0 and high < n, "places", f"in [{low}, {high}]", f"within [0, {n - 1}]")
    require(bool((places.diff() > 0).all()), "places", "not ascending", "each coefficient once, in order")


def word_slots(table: Tensor, spec: CosineSpec) -> Tensor:
    """Return the component (group * D + component, over all profiles) of each row of `books`, int64 [K], ascending.

    docs/format.md has the layout.

    Raises:
        UserError: if a table names a component that does not exist, or one twice, or a byte codes no amplitude.
    """
    most = spec.groups * spec.dimensions - 1
    low, high = (int(value) for value in table.aminmax())
    require(low >= -1 and high <= most, "table", f"in [{low}, {high}]", f"within [-1, {most}]")
    first = torch.arange(spec.profiles, device=table.device)[:, None] * (most + 1)
    used = table.flatten(1)
    slots = (first + used)[used >= 0].sort().values
    require(bool((slots.diff() > 0).all()), "table", "with a component twice", "each once")
    n_used, n_bytes = len((slots // spec.dimensions).unique()), spec.profiles * spec.groups
    require(n_used == n_bytes, "table", f"of {n_used} of {n_bytes} groups", "an amplitude of each")
    return slots
