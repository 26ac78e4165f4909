"""A dataset as packed SIRENs: the tensors on one device and the facts about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kernels.rows import CODE_DTYPES, PackedRows, packed_bytes
from kernels.spec import SirenSpec, end_sections, n_ends
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import ids_by_split, name_in_splits
from rapid_inr.errors import UserError, require
from rapid_inr.store.codes import row_starts, take_rows
from rapid_inr.store.sealed import brief

TENSORS = ("codes", "ends", "scales", "end_scales", "masks", "sizes", "labels", "source_ids")  # in the order of the file
MAX_NAME = 255  # characters of a class
FAMILY = "siren"  # the kind of INR a row holds; a second family would come in by this door


class StoreTooLarge(UserError):
    """The store does not fit the memory of the device it was asked onto."""


@dataclass(frozen=True)
class StoreHeader:
    """What holds for all images of a store.

    Args:
        spec: of every SIREN.
        quantize: how rows are stored.
        size: (height, width) of all images, or None where they differ.
        splits: (name, number of images) of the source, in order; a source id counts through them.
        class_names: empty without labels.
        mean, std: per channel, of the original images in [0, 1].
        made: how the store was made, as JSON values: dataset, fit, seed. No times or paths, so equal work gives equal bytes.
        skipped: source ids of the images that could not be read.

    Raises:
        UserError: see `require_plain_names`.
    """

    spec: SirenSpec
    quantize: QuantizeConfig
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
    """Refuse names that are no plain ones: those of splits become the names of files.

    Raises:
        UserError: if a split is not 1 to 32 ASCII letters, digits, ``_`` and ``-``, a class is empty, longer than 255 characters,
            not printable or has a slash, or a name is there twice.
    """
    split_names, class_names = [name for name, _ in splits], list(class_names)
    for kind, names, is_plain in (("split", split_names, _is_plain_split), ("class", class_names, _is_plain_class)):
        for name in names:
            if not is_plain(name):
                raise UserError(f"a {kind} is called {brief(name)}, which is no plain name; rename it and encode again")
        if len(set(names)) < len(names):
            raise UserError(f"a {kind} is there twice")


def _is_plain_split(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name) is not None


def _is_plain_class(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable() and not {"/", "\\"} & set(name) and name not in (".", "..")


@dataclass(frozen=True)
class PackedStore:
    """N packed images on one device.

    Args:
        header: see `StoreHeader`.
        codes, ends, scales, end_scales, masks: the packed rows; see `kernels.rows.PackedRows`.
        sizes: int32 [N, 2] (height, width), or None where `header.size` holds for all.
        labels: integer [N], or None.
        source_ids: integer [N], increasing: the index of each image in its source; None where it is 0..N-1.

    Raises:
        ValueError: if shapes, dtypes or devices contradict each other or the header.
    """

    header: StoreHeader
    codes: Tensor
    ends: Tensor
    scales: Tensor | None = None
    end_scales: Tensor | None = None
    masks: Tensor | None = None
    sizes: Tensor | None = None
    labels: Tensor | None = None
    source_ids: Tensor | None = None
    starts: Tensor | None = field(init=False, default=None, repr=False, compare=False)  # of rows of unequal length
    rows: PackedRows = field(init=False, repr=False, compare=False)  # what a decode reads: the same tensors

    def __post_init__(self) -> None:
        spec, quantize = self.header.spec, self.header.quantize
        n = len(self.ends)
        require(n > 0, "the store", "empty", "at least one image")
        n_scales, n_layers, columns = quantize.scales_shape(n, spec)
        whole = quantize.is_integer
        # shape, dtypes, and whether the header asks for it, forbids it, or says nothing (None)
        expected = {
            "ends": ((n, n_ends(spec)), (quantize.ends_dtype,), True),
            "scales": ((n_scales, n_layers * columns), (quantize.scales_dtype,), whole),
            "end_scales": ((n, len(end_sections(spec))), (quantize.scales_dtype,), quantize.ends_bits == 8),
            "sizes": ((n, 2), (torch.int32,), self.header.size is None),
            "labels": ((n,), (torch.uint8, torch.int16, torch.int32, torch.int64), None),
            "source_ids": ((n,), (torch.int32, torch.int64), None),
            "masks": ((n, packed_bytes(spec.n_hidden_weights, 1)), (torch.uint8,), None if whole else False),
        }
        for name, (_, _, needed) in expected.items():
            there, kinds = getattr(self, name) is not None, ("None", "a tensor")
            require(needed in (None, there), name, kinds[there], f"{kinds[not there]} by the header")
        for name, (shape, dtypes, _) in expected.items():
            self._check(name, shape, dtypes)
        codes_shape = (n, packed_bytes(spec.n_hidden_weights, quantize.bits) if whole else spec.n_hidden_weights)
        if self.masks is not None:
            object.__setattr__(self, "starts", row_starts(self.masks, quantize.bits))
            codes_shape = (int(self.starts[-1]),)
        self._check("codes", codes_shape, (CODE_DTYPES[quantize.bits],))
        rows = PackedRows(self.codes, self.ends, self.scales, self.end_scales, quantize.bits, self.masks, self.starts)
        object.__setattr__(self, "rows", rows)

    def _check(self, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
        tensor = getattr(self, name)
        if tensor is None:
            return
        if tuple(tensor.shape) != shape:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        require(tensor.dtype in dtypes, name, tensor.dtype, " or ".join(map(str, dtypes)))
        if tensor.device != self.device:
            raise UserError(f"{name} is on {tensor.device}, ends on {self.device}")

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def device(self) -> torch.device:
        return self.ends.device

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors there are, by name, in the order of the file."""
        named = {name: getattr(self, name) for name in TENSORS}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take on their device."""
        return sum(tensor.nbytes for tensor in (*self.tensors().values(), self.starts) if tensor is not None)

    @property
    def n_pixels(self) -> int:
        """Pixels of all images together."""
        if self.header.size is not None:
            return len(self) * self.header.size[0] * self.header.size[1]
        return int(self.sizes.long().prod(1).sum())

    def size_of(self, index: int) -> tuple[int, int]:
        """Return (height, width) of one image."""
        return self.header.size or tuple(self.sizes[index].tolist())

    def name_of(self, index: int) -> str:
        """Return the split of an image and its index there, such as ``test_00042``."""
        return name_in_splits(self.header.splits, index if self.source_ids is None else int(self.source_ids[index]))

    def take(self, ids: Tensor) -> PackedStore:
        """Return the store of the images at these positions, int64 and increasing, on the same device."""
        ids = ids.to(self.device)
        source_ids = torch.arange(len(self), dtype=torch.int32) if self.source_ids is None else self.source_ids
        tensors = self.tensors() | {"source_ids": source_ids.to(self.device)}
        if self.header.quantize.granularity == "dataset":
            tensors.pop("scales", None)  # shared by all images
        taken = {name: tensor[ids] for name, tensor in tensors.items() if name != "codes"}
        codes = self.codes[ids] if self.starts is None else take_rows(self.codes, self.starts, ids)
        return replace(self, codes=codes, **taken)

    def of_split(self, split: str) -> PackedStore:
        """Return the store of the images of one split of the source.

        Raises:
            ValueError: if there are none.
        """
        ranges = ids_by_split(self.header.splits)
        wanted = ranges.get(split, range(0))
        source_ids = torch.arange(len(self)) if self.source_ids is None else self.source_ids.cpu()
        ids = ((source_ids >= wanted.start) & (source_ids < wanted.stop)).nonzero().flatten()
        if len(ids) == 0:
            raise UserError(f"the store holds no image of split {split!r}, but of {', '.join(ranges)}")
        return self if len(ids) == len(self) else self.take(ids)

    def to(self, device: torch.device | str) -> PackedStore:
        """Copy the store to a device, unless it is there.

        Raises:
            StoreTooLarge: if it does not fit the free memory there; nothing has been copied then.
        """
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:  # a tensor's device has an index, and these two must compare
            device = torch.device("cuda", torch.cuda.current_device())
        if device == self.device:
            return self
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self.nbytes > free:
                fit = f"about {free * len(self) // self.nbytes:,} of {len(self):,} images fit"
                raise StoreTooLarge(f"the store needs {self.nbytes:,} bytes, {device} has {free:,} free: {fit}")
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})


def image_bytes(store: PackedStore) -> float:
    """Return the bytes of an image on average: codes, masks, ends and scales, but no label, and nothing of the file's header."""
    return sum(tensor.nbytes for name, tensor in store.tensors().items() if name not in ("labels", "source_ids")) / len(store)


def bytes_by_part(store: PackedStore, *, file_bytes: int) -> dict[str, int]:
    """Break down the bytes of a store's file; the parts sum to `file_bytes`.

    Returns:
        ``codes`` (hidden weights), ``masks`` (which are kept), ``ends`` (first and last layer), ``biases``, ``scales`` (all),
        ``sizes``, ``labels``, ``source_ids``, and ``header`` (all else in the file: names, offsets, checksums, how it was made).
    """
    element, sections = store.ends.element_size() * len(store), end_sections(store.header.spec)
    parts = {
        "codes": store.codes.nbytes,
        "ends": element * (sections["first_weight"].size + sections["last_weight"].size),
        "biases": element * (sections["biases"].size + sections["last_bias"].size),
        "scales": sum(tensor.nbytes for tensor in (store.scales, store.end_scales) if tensor is not None),
    }
    optional = {"masks": store.masks, "sizes": store.sizes, "labels": store.labels, "source_ids": store.source_ids}
    parts |= {name: 0 if tensor is None else tensor.nbytes for name, tensor in optional.items()}
    return parts | {"header": file_bytes - sum(parts.values())}
