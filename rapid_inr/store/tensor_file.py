"""Write safetensors files block by block, so that no whole tensor needs to be in memory, and read them."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rapid_inr.files import atomic

# in the order of the file, by which the library's writer aligns them to their size
DTYPES = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """A tensor in pieces along its first dimension.

    Args:
        read: yields the pieces, the same at each call.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Iterable[Tensor]]

    @classmethod
    def of(cls, tensor: Tensor) -> Blocks:
        return cls(tensor.dtype, tuple(tensor.shape), lambda: (tensor,))

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def whole(self) -> Tensor:
        """Return the tensor in memory."""
        return torch.cat(list(self.read()))


def stacked(walk: Callable[[], Iterator[Mapping[str, Tensor]]], n: int) -> dict[str, Blocks]:
    """Return tensors of `n` rows in pieces; each step of `walk` yields a piece of every tensor."""
    return {
        name: Blocks(piece.dtype, (n, *piece.shape[1:]), lambda name=name: (pieces[name] for pieces in walk()))
        for name, piece in next(walk()).items()
    }


def crc32(block: Tensor, so_far: int = 0) -> int:
    """Return the CRC-32 of the bytes of a tensor, continuing from `so_far`."""
    return zlib.crc32(_bytes(block), so_far)


def crc32_of(tensors: dict[str, Tensor]) -> int:
    """Return the CRC-32 of all tensors together."""
    checksum = 0
    for _, tensor in sorted(tensors.items()):
        checksum = crc32(tensor, checksum)
    return checksum


def _bytes(block: Tensor) -> memoryview | bytes:
    # uint8 view, since numpy has no bfloat16; a tensor without elements has no bytes to view
    return block.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data if block.numel() else b""


def write_tensors(path: Path, tensors: Mapping[str, Blocks], describe: Callable[[dict[str, int]], Mapping[str, str]]) -> None:
    """Write a safetensors file atomically, with the same bytes as the library's writer.

    Args:
        describe: CRC-32 of each tensor, by name -> metadata of the file.

    Raises:
        ValueError: if the pieces of a tensor do not add up to its shape.
    """
    metadata = describe({name: _checksum(blocks) for name, blocks in tensors.items()})
    order = sorted(tensors, key=lambda name: (list(DTYPES).index(tensors[name].dtype), name))
    header, end = {"__metadata__": dict(metadata)}, 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            written = sum(file.write(_bytes(block)) for block in tensors[name].read())
            if written != tensors[name].nbytes:
                raise ValueError(f"{name} came in {written} bytes, expected {tensors[name].nbytes}")
        file.flush()
        os.fsync(file.fileno())  # hours of fitting must survive a power cut


def _checksum(blocks: Blocks) -> int:
    checksum = 0
    for block in blocks.read():
        checksum = crc32(block, checksum)
    return checksum


def read_tensors(path: Path) -> tuple[dict[str, str] | None, dict[str, Tensor]]:
    """Return the metadata and the tensors of a safetensors file.

    The tensors are in memory, where the library maps them: if a mapped file is overwritten in place, they change, and if it is
    cut off, the process dies.

    Raises:
        SafetensorError: if the file is not whole, or changes while it is read.
    """
    with path.open("rb") as file:  # here too, since the library says of a file without permission that there is none
        with safe_open(path, framework="pt") as checked:  # types, shapes and offsets
            metadata, names = checked.metadata(), list(checked.keys())
            tensors = {name: torch.empty_like(checked.get_tensor(name)) for name in names}
        try:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            for name, tensor in tensors.items():
                file.seek(8 + length + header[name]["data_offsets"][0])
                if tensor.numel() and file.readinto(_bytes(tensor)) < tensor.nbytes:
                    raise EOFError
        except (ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError):
            raise SafetensorError("it was overwritten while it was read") from None
    return metadata, tensors
