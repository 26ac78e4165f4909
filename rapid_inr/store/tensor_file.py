"""Write and read safetensors files block by block, so that no whole tensor needs to be in memory."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rapid_inr.files import atomic

# in the order of the file, by which the library's writer aligns them to their size
DTYPES = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
READ_BYTES = 4 << 20  # a multiple of every element's size


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


def read_flat(path: Path, dtypes: Mapping[str, torch.dtype]) -> Iterator[tuple[str, Tensor]]:
    """Yield the values of some tensors of a safetensors file in flat pieces.

    Unlike reading mapped tensors, this leaves no page of the file in this process.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, dtype in dtypes.items():
            begin, end = header[name]["data_offsets"]
            file.seek(8 + length + begin)
            for start in range(begin, end, READ_BYTES):
                buffer = bytearray(min(READ_BYTES, end - start))
                file.readinto(buffer)
                yield name, torch.frombuffer(buffer, dtype=dtype)


def read_slices(path: Path, name: str, bounds: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
    """Yield the bytes of a tensor for each (start, stop), uint8 [stop - start], leaving no page of the file in this process."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin = 8 + length + json.loads(file.read(length))[name]["data_offsets"][0]
        for start, stop in bounds:
            file.seek(begin + start)
            buffer = bytearray(stop - start)
            file.readinto(buffer)
            yield torch.frombuffer(buffer, dtype=torch.uint8) if buffer else torch.empty(0, dtype=torch.uint8)
