"""The `.inr` file: a safetensors file whose metadata describe the store; docs/format.md is the specification."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from rapid_inr.data.pixels import MAX_PIXELS
from rapid_inr.errors import UserError, require
from rapid_inr.store.checks import is_of
from rapid_inr.store.families import FAMILIES, Code
from rapid_inr.store.names import NAMES, pack_names, unpack_names
from rapid_inr.store.packed import OF_ANY_FAMILY, PackedStore, StoreHeader, StoreTooLarge
from rapid_inr.store.sealed import StoreFormatError, brief, seal, unseal
from rapid_inr.store.tensor_file import DTYPES, Blocks, crc32, read_tensors, write_tensors

VERSION = 4
METADATA_KEY = "rapid_inr"  # a single key, since safetensors does not keep the order of several
MAX_SIDE = 1 << 16  # pixels, the limit of the source formats
CHECKED_VALUES = 1 << 20  # checked at once
LEAST_STD = 1 / 255  # one level, so that dividing by it is safe


def write_store(path: Path | str, store: PackedStore, *, overwrite: bool = False) -> int:
    """Write a store to a file atomically.

    Returns:
        The size of the file in bytes.

    Raises:
        FileExistsError: if the file exists and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=true replaces it")
    tensors = store.tensors() | ({NAMES: pack_names(store.names)} if store.names else {})
    write_blocks(path, store.header, len(store), {name: Blocks.of(tensor) for name, tensor in tensors.items()})
    return path.stat().st_size


def write_blocks(path: Path, header: StoreHeader, images: int, tensors: dict[str, Blocks]) -> None:
    """Write the file of a store whose tensors come in pieces; replace an existing file.

    Args:
        tensors: those of a file, by name.
    """

    def describe(checksums: dict[str, int]) -> dict[str, str]:
        raw = asdict(header) | header.code.values() | {"family": header.code.family}
        del raw["code"]
        return {METADATA_KEY: seal(raw | {"version": VERSION, "images": images, "crc32": checksums})}

    write_tensors(path, tensors, describe)


def read_store(path: Path | str, *, device: torch.device | str = "cpu", max_pixels: int = MAX_PIXELS) -> PackedStore:
    """Read a store and check all of it.

    Args:
        max_pixels: largest number of pixels of an image.

    Returns:
        The store on `device`; what later happens to the file does not matter to it.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreFormatError: if the file is not a complete, consistent store of this version.
        StoreTooLarge: if it does not fit the memory of this machine or of `device`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no store at {path}; write one with: python -m experiments.encode dataset=... out={path}")
    try:
        metadata, tensors = read_tensors(path)
    except SafetensorError as error:
        raise StoreFormatError(f"{path} is not a whole safetensors file: {brief(error)}") from None
    except RuntimeError:  # of torch's allocator
        raise StoreTooLarge(f"{path} does not fit the memory: it takes {path.stat().st_size:,} bytes") from None
    raw = unseal(path, metadata, METADATA_KEY, version=VERSION)
    family = raw.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise StoreFormatError(f"{path} holds INRs of family {brief(family)}, this program reads {', '.join(FAMILIES)}")
    _check_tensors(path, raw, tensors, FAMILIES[family])
    names = tensors.pop(NAMES, None)
    try:
        store = PackedStore.of(_parse_header(raw, FAMILIES[family]), tensors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreFormatError(f"{path} contradicts itself: {brief(error, most=200)}") from None
    _check_values(path, store, images=raw.get("images"), max_pixels=max_pixels)
    return (store if names is None else _with_names(path, store, names)).to(device)


def _with_names(path: Path, store: PackedStore, packed: Tensor) -> PackedStore:
    ids = range(len(store)) if store.source_ids is None else store.source_ids.tolist()
    try:
        return replace(store, names=unpack_names(packed, ids, store.header.splits))
    except UserError as error:
        raise StoreFormatError(f"{path}: {error}") from None


def _check_tensors(path: Path, raw: dict[str, Any], tensors: dict[str, Tensor], code: type[Code]) -> None:
    missing = set(code.needed) - set(tensors)
    unknown = set(tensors) - {*code.tensors, *OF_ANY_FAMILY, NAMES}
    if missing or unknown:
        raise StoreFormatError(f"{path}: tensors missing {sorted(missing)}, unknown {brief(sorted(unknown))}")
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise StoreFormatError(f"{path}: {name} is {tensor.dtype}, which no store holds")
    checksums = raw.get("crc32")
    if not isinstance(checksums, dict) or set(checksums) != set(tensors):
        raise StoreFormatError(f"{path} lacks a checksum for each of its tensors {sorted(tensors)}")
    for name, tensor in tensors.items():
        if crc32(tensor) != checksums[name]:
            raise StoreFormatError(f"{path} is damaged: the checksum of {name} does not match")
    for name, tensor in tensors.items():
        for block in tensor.flatten().split(CHECKED_VALUES):
            finite = not block.is_floating_point() or bool(block.isfinite().all())
            if fault := code.fault(name, block) if finite else "a weight is not finite":
                raise StoreFormatError(f"{path}: {fault}")


def _parse_header(raw: dict[str, Any], code: type[Code]) -> StoreHeader:
    return StoreHeader(
        code=code.parse(raw),
        size=None if raw["size"] is None else _numbers(raw, "size", int, length=2, low=1, high=MAX_SIDE),
        splits=_splits(raw["splits"]),
        class_names=_list(raw, "class_names", "names", lambda value: is_of(value, str)),
        mean=_numbers(raw, "mean", float, length=3, low=0, high=1),
        std=_numbers(raw, "std", float, length=3, low=LEAST_STD, high=1),
        made=dict(raw["made"]),
        skipped=_list(raw, "skipped", "source ids", lambda value: is_of(value, int) and 0 <= value < 1 << 31),
    )


def _numbers(raw: dict[str, Any], name: str, kind: type, *, length: int, low: float, high: float) -> tuple[Any, ...]:
    values = raw[name]
    ok = len(values) == length and all(is_of(value, kind) and low <= value <= high for value in values)
    require(ok, name, brief(values), f"{length} of type {kind.__name__} from {low:.3g} to {high}")
    return tuple(map(kind, values))


def _splits(values: list[Any]) -> tuple[tuple[str, int], ...]:
    for name, count in values:
        if not (is_of(name, str) and is_of(count, int) and 0 <= count < 1 << 31):
            raise UserError(f"splits are {brief(values)}, expected a name and a number of images each")
    return tuple((name, count) for name, count in values)


def _list(raw: dict[str, Any], name: str, what: str, is_one: Callable[[Any], bool]) -> tuple[Any, ...]:
    values = raw[name]
    require(isinstance(values, list) and all(map(is_one, values)), name, brief(values), f"a list of {what}")
    return tuple(values)


def _check_values(path: Path, store: PackedStore, *, images: object, max_pixels: int) -> None:
    def reject(what: str) -> None:
        raise StoreFormatError(f"{path}: {what}")

    if not is_of(images, int) or images != len(store):
        reject(f"the header counts {brief(images)} images, the tensors {len(store)}")
    if store.sizes is not None and not 1 <= int(store.sizes.min()) <= int(store.sizes.max()) <= MAX_SIDE:
        reject(f"an image has a side of no pixels, or of more than {MAX_SIDE}")
    pixels = math.prod(store.header.size) if store.sizes is None else int(store.sizes.long().prod(1).max())
    if pixels > max_pixels:
        reject(f"an image has {pixels:,} pixels, expected at most {max_pixels:,}; max_pixels=N reads it all the same")
    if store.labels is not None and not 0 <= int(store.labels.min()) <= int(store.labels.max()) < len(store.header.class_names):
        reject(f"a label lies outside the {len(store.header.class_names)} classes")
    total = sum(count for _, count in store.header.splits)
    last = len(store) - 1
    if store.source_ids is not None:
        ids = store.source_ids.long()  # differences of int32 wrap
        if bool((ids.diff() <= 0).any()) or int(ids[0]) < 0:
            reject("source_ids do not increase")
        last = int(ids[-1])
    if last >= total:
        reject(f"image {last} lies beyond the {total} images of its splits")
    fault = store.header.code.fault_of_rows(store.rows)
    if fault:
        reject(fault)
