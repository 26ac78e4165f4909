"""The names of the images' files in a store: one a line, compressed by zlib."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rapid_inr.data.source import MAX_FILE_NAME, is_plain_file_name
from rapid_inr.errors import UserError, require
from rapid_inr.store.sealed import brief

NAMES = "names"  # the tensor of a file


def pack_names(names: Sequence[str]) -> Tensor:
    """Return the bytes of names, uint8 [bytes]; an empty name is that of an image without one."""
    return torch.frombuffer(bytearray(zlib.compress("\n".join(names).encode(), 9)), dtype=torch.uint8)


def unpack_names(packed: Tensor, ids: Sequence[int], splits: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Return the names of the images with `ids`, which count through `splits`.

    Raises:
        UserError: if they are no bytes, damaged, not one an image, no plain names, or if two images of a split share one.
    """
    require(packed.dtype == torch.uint8 and packed.dim() == 1, "names", f"{packed.dtype} of {packed.dim()} dimensions", "bytes")
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(packed.numpy().tobytes(), len(ids) * (MAX_FILE_NAME + 1))
        names = tuple(text.decode().split("\n"))
    except (zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"names cannot be decompressed ({brief(error)})") from None
    if not stream.eof or stream.unused_data or len(names) != len(ids):
        raise UserError(f"names are those of {len(names)} images or more, expected {len(ids)}")
    for name in names:
        if name and not is_plain_file_name(name):
            raise UserError(f"a file is called {brief(name)}, which is not a plain name")
    split_of = np.searchsorted(np.cumsum([count for _, count in splits]), ids, side="right").tolist()
    named = [(split, name) for split, name in zip(split_of, names, strict=True) if name]
    if len(set(named)) < len(named):
        raise UserError("two images of a split have the same file name")
    return names
