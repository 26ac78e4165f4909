"""A dataset as packed INRs: its tensors on one device, and the header that describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kernels.rows import TensorRows
from rapid_inr.data.source import ids_by_split, name_in_splits
from rapid_inr.errors import UserError, require
from rapid_inr.evaluation.metrics import rates
from rapid_inr.store.checks import require_tensors
from rapid_inr.store.families import Code
from rapid_inr.store.names import NAMES, pack_names
from rapid_inr.store.sealed import brief

OF_ANY_FAMILY = ("sizes", "labels", "source_ids")  # tensors that do not depend on the family
MAX_NAME = 255  # characters of a class


class StoreTooLarge(UserError):
    """A store does not fit the memory of a device; the message says what it needs, what is free, and what would fit."""


@dataclass(frozen=True)
class StoreHeader:
    """The properties that all images of a store share.

    Args:
        code: how images are stored.
        size: (height, width) of all images, or None if they differ.
        splits: (name, number of images) of the source, in order; source ids count through them.
        class_names: empty without labels.
        mean, std: per channel, of the original images in [0, 1].
        made: provenance as JSON values: dataset, fit, seed; without times and paths, so that equal work gives equal bytes.
        skipped: source ids of the images that could not be read.

    Raises:
        UserError: see `require_plain_names`.
    """

    code: Code
    size: tuple[int, int] | None
    splits: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    made: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_plain_names(self.splits, self.class_names)


def require_plain_names(splits: Iterable[tuple[str, int]], class_names: Iterable[str]) -> None:
    """Check the names of splits and classes, which become file names.

    Raises:
        UserError: if a split is not 1 to 32 ASCII letters, digits, ``_`` and ``-``; if a class is empty, longer than 255
            characters, not printable or has a slash; or if a name occurs twice.
    """
    split_names, class_names = [name for name, _ in splits], list(class_names)
    for kind, names, is_plain in (("split", split_names, _is_plain_split), ("class", class_names, _is_plain_class)):
        for name in names:
            if not is_plain(name):
                raise UserError(f"a {kind} is called {brief(name)}, which is not a plain name; rename it and encode again")
        if len(set(names)) < len(names):
            raise UserError(f"two {kind} names are equal; rename one and encode again")


def _is_plain_split(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name) is not None


def _is_plain_class(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable() and not {"/", "\\"} & set(name) and name not in (".", "..")


@dataclass(frozen=True)
class PackedStore:
    """N packed images on one device.

    Args:
        header: see `StoreHeader`.
        packed: the tensors that make up the images, by their names in `header.code`.
        sizes: int32 [N, 2] (height, width), or None if `header.size` holds for all.
        labels: integer [N], or None.
        source_ids: integer [N], increasing: the index of each image in its source; None for 0..N-1.
        names: of the images' files, N of them, empty for an image without one; () if none has one. See `ImageSource.file_name`.

    Raises:
        ValueError: if shapes, dtypes or devices contradict each other or the header.
    """

    header: StoreHeader
    packed: Mapping[str, Tensor]
    sizes: Tensor | None = None
    labels: Tensor | None = None
    source_ids: Tensor | None = None
    names: tuple[str, ...] = ()
    rows: TensorRows = field(init=False, repr=False, compare=False)  # the rows that a decode reads

    def __post_init__(self) -> None:
        rows = self.header.code.rows(self.packed)
        object.__setattr__(self, "rows", rows)
        n = len(rows)
        require(n > 0, "the store", "empty", "at least one image")
        require(len(self.names) in (0, n), "names", f"of {len(self.names)} images", f"0 or {n}")
        expected = {
            "sizes": ((n, 2), (torch.int32,), self.header.size is None),
            "labels": ((n,), (torch.uint8, torch.int16, torch.int32, torch.int64), None),
            "source_ids": ((n,), (torch.int32, torch.int64), None),
        }
        require_tensors({name: getattr(self, name) for name in OF_ANY_FAMILY}, expected, rows.device)

    @classmethod
    def of(cls, header: StoreHeader, tensors: Mapping[str, Tensor], names: tuple[str, ...] = ()) -> PackedStore:
        """Make a store from the tensors of a file, without `NAMES`."""
        packed = {name: tensor for name, tensor in tensors.items() if name not in OF_ANY_FAMILY}
        return cls(header, packed, **{name: tensor for name, tensor in tensors.items() if name not in packed}, names=names)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rows.device

    @property
    def starts(self) -> Tensor | None:
        """The first byte of each row of codes, and the end of the last; None if all rows have one length."""
        return self.header.code.starts(self.rows)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the file, by name, without `NAMES`."""
        own = {name: getattr(self, name) for name in OF_ANY_FAMILY}
        return {**self.packed, **{name: tensor for name, tensor in own.items() if tensor is not None}}

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors on their device."""
        own = (getattr(self, name) for name in OF_ANY_FAMILY)
        return sum(tensor.nbytes for tensor in (*self.rows.tensors().values(), *own) if tensor is not None)

    @property
    def n_pixels(self) -> int:
        """Total number of pixels of all images."""
        if self.header.size is not None:
            return len(self) * self.header.size[0] * self.header.size[1]
        return int(self.sizes.long().prod(1).sum())

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the (height, width) of an image."""
        return self.header.size or tuple(self.sizes[index].tolist())

    def name_of(self, index: int) -> str:
        """Return the name of an image; see `name_in_splits`."""
        source_id = index if self.source_ids is None else int(self.source_ids[index])
        return name_in_splits(self.header.splits, source_id, self.names[index] if self.names else "")

    def take(self, ids: Tensor) -> PackedStore:
        """Return the store of the images at some positions, int64 and increasing, on the same device."""
        ids = ids.to(self.device)
        own = {name: getattr(self, name) for name in OF_ANY_FAMILY}
        if self.source_ids is None:
            own["source_ids"] = torch.arange(len(self), dtype=torch.int32, device=self.device)
        own = {name: tensor if tensor is None else tensor[ids] for name, tensor in own.items()}
        names = tuple(self.names[i] for i in ids.tolist()) if self.names else ()
        return replace(self, packed=self.header.code.take(self.packed, self.rows, ids), names=names, **own)

    def of_split(self, split: str) -> PackedStore:
        """Return the store of the images of one split of the source.

        Raises:
            ValueError: if the split has no images.
        """
        ranges = ids_by_split(self.header.splits)
        wanted = ranges.get(split, range(0))
        source_ids = torch.arange(len(self)) if self.source_ids is None else self.source_ids.cpu()
        ids = ((source_ids >= wanted.start) & (source_ids < wanted.stop)).nonzero().flatten()
        if len(ids) == 0:
            raise UserError(f"the store holds no image of split {split!r}, but of {', '.join(ranges)}")
        return self if len(ids) == len(self) else self.take(ids)

    def to(self, device: torch.device | str) -> PackedStore:
        """Return the store on a device; copy it unless it is already there.

        Raises:
            StoreTooLarge: if it does not fit the free memory; this is checked before the copy.
        """
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:  # tensors' devices have an index, so add it
            device = torch.device("cuda", torch.cuda.current_device())
        if device == self.device:
            return self
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self.nbytes > free:
                fit = f"about {free * len(self) // self.nbytes:,} of {len(self):,} images fit"
                raise StoreTooLarge(f"the store needs {self.nbytes:,} bytes, {device} has {free:,} free: {fit}")
        return PackedStore.of(self.header, {name: tensor.to(device) for name, tensor in self.tensors().items()}, self.names)


def image_bytes(store: PackedStore) -> float:
    """Return the mean bytes of an image, without labels, shared tensors and the file's header."""
    own = [tensor for name, tensor in store.packed.items() if name not in store.header.code.shared]
    return sum(tensor.nbytes for tensor in (*own, store.sizes) if tensor is not None) / len(store)


def store_rates(store: PackedStore, *, store_bytes: int) -> dict[str, float]:
    """Return the rates of a store whose file has `store_bytes`, and with shared codebooks also the rates without them."""
    cost = rates(store_bytes=store_bytes, n_pixels=store.n_pixels)
    codebook_bytes = store.header.code.bytes_by_part(store.packed).get("codebooks")
    if codebook_bytes is None:
        return cost
    own = rates(store_bytes=store_bytes - codebook_bytes, n_pixels=store.n_pixels)
    return cost | {"codebook_bytes": codebook_bytes, "own_bpp": own["bpp"], "own_rgb_pct": own["rgb_pct"]}


def bytes_by_part(store: PackedStore, *, file_bytes: int) -> dict[str, int]:
    """Return the bytes of each part of a store's file; their sum is `file_bytes`.

    Returns:
        The parts of the store's code, ``sizes``, ``labels``, ``source_ids``, ``names`` (of files), and ``header`` (the rest of
        the file: offsets, checksums, provenance).
    """
    parts = store.header.code.bytes_by_part(store.packed)
    parts |= {name: 0 if getattr(store, name) is None else getattr(store, name).nbytes for name in OF_ANY_FAMILY}
    parts[NAMES] = pack_names(store.names).nbytes if store.names else 0
    return parts | {"header": file_bytes - sum(parts.values())}
