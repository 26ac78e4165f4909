"""The families of INRs that a store can hold, and all that differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from kernels.rows import TensorRows
from rapid_inr.store.cosine import CosineCode
from rapid_inr.store.siren import SirenCode
from rapid_inr.store.tensor_file import Blocks


class Code(Protocol):
    """How images of one family are stored. `packed` are the tensors of a file by name, `rows` is what a decode reads of them.

    Attributes:
        family: its name in the file.
        tensors: names of those that make up the images.
        needed: those that are always there.
        shared: those that all images share, which are not of one row an image.
        decode: of `rows`, by its public call in `kernels`.
        spec: the shape of an INR.
        row_bytes: of an image, if nothing is pruned.
    """

    family: ClassVar[str]
    tensors: ClassVar[tuple[str, ...]]
    needed: ClassVar[tuple[str, ...]]
    decode: ClassVar[Callable[..., Tensor]]
    spec: Any

    @property
    def shared(self) -> tuple[str, ...]: ...

    @property
    def row_bytes(self) -> int: ...

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Code:
        """Return the code that the header of a file describes; raises UserError, KeyError or TypeError where it does not."""

    def values(self) -> dict[str, Any]:
        """Return what `parse` reads."""

    def facts(self) -> dict[str, Any]:
        """Return what ``info`` says of it."""

    def rows(self, packed: Mapping[str, Tensor]) -> TensorRows:
        """Return the rows of images; raises UserError if shapes, dtypes or devices contradict each other or the code."""

    def starts(self, rows: TensorRows) -> Tensor | None:
        """Return int64 [N + 1], where each row of codes begins and the last ends; None where all are of one length."""

    def take(self, packed: Mapping[str, Tensor], rows: TensorRows, ids: Tensor) -> dict[str, Tensor]:
        """Return the tensors of the images at some positions."""

    @staticmethod
    def fault(name: str, block: Tensor) -> str:
        """Return what is wrong with some values of a tensor; empty if nothing is."""

    def fault_of_rows(self, rows: TensorRows, read: Callable[[list[tuple[int, int]]], Iterable[Tensor]]) -> str:
        """Do the same for what takes whole rows to see.

        Args:
            read: yields the bytes of ``codes`` from each start to its stop, from the file, so that no page stays in memory.
        """

    def bytes_by_part(self, packed: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the bytes of the tensors by what they are for."""

    def merged(self, shards: Callable[[], Iterator[dict[str, Tensor]]], n: int) -> dict[str, Blocks]:
        """Return the tensors of `n` images that come in shards, but for those that are shared.

        Args:
            shards: walks through the tensors of the shards that have images.
        """


FAMILIES: dict[str, type[Code]] = {code.family: code for code in (SirenCode, CosineCode)}


def code_settings(code: Code) -> dict[str, Any]:
    """Return the code as JSON values, by the keys of the command line where it has them."""
    raw = code.values()
    return {"inr": raw.pop("spec"), **raw}
