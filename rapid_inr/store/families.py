"""The families of INRs that a store can hold, and everything that differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from kernels.rows import TensorRows
from rapid_inr.store.cosine import CosineCode
from rapid_inr.store.siren import SirenCode
from rapid_inr.store.tensor_file import Blocks


class Code(Protocol):
    """How images of one family are stored: `packed` are the tensors of a file by name, `rows` the rows that a decode reads.

    Attributes:
        family: its name in the file.
        tensors: names of the tensors that make up the images.
        needed: names of the required ones.
        shared: names of those that all images share; the others have one row an image.
        decode: the public call in `kernels` that decodes `rows`.
        spec: the shape of an INR.
        row_bytes: bytes of an unpruned image.
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
        """Return the code that the header of a file describes; raises UserError, KeyError or TypeError if the header is wrong."""

    def values(self) -> dict[str, Any]:
        """Return the JSON values that `parse` reads."""

    def facts(self) -> dict[str, Any]:
        """Return the values that ``info`` shows."""

    def rows(self, packed: Mapping[str, Tensor]) -> TensorRows:
        """Return the rows of images; raises UserError if shapes, dtypes or devices contradict each other or the code."""

    def starts(self, rows: TensorRows) -> Tensor | None:
        """Return int64 [N + 1], the first byte of each row of codes and the end of the last; None for rows of one length."""

    def take(self, packed: Mapping[str, Tensor], rows: TensorRows, ids: Tensor) -> dict[str, Tensor]:
        """Return the tensors of the images at some positions."""

    @staticmethod
    def fault(name: str, block: Tensor) -> str:
        """Return what is wrong with some values of a tensor; empty if nothing is."""

    def fault_of_rows(self, rows: TensorRows) -> str:
        """Return what is wrong with whole rows; empty if nothing is."""

    def bytes_by_part(self, packed: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the bytes of the tensors by their purpose."""

    def merged(self, shards: Callable[[], Iterator[dict[str, Tensor]]], n: int) -> dict[str, Blocks]:
        """Return the tensors of `n` images from shards, without the shared ones.

        Args:
            shards: yields the tensors of each shard that has images.
        """


FAMILIES: dict[str, type[Code]] = {code.family: code for code in (SirenCode, CosineCode)}


def code_settings(code: Code) -> dict[str, Any]:
    """Return the code as JSON values, under the keys of the command line where there are such keys."""
    raw = code.values()
    return {"inr": raw.pop("spec"), **raw}
