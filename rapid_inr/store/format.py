"""The `.inr` file: a safetensors file whose metadata describe the store; `docs/format.md` is the specification."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.files import atomic
from rapid_inr.store.packed import FAMILY, TENSORS, PackedStore, StoreHeader

VERSION = 2
METADATA_KEY = "rapid_inr"  # a single key, since safetensors does not keep the order of several
NEEDED = {"codes", "ends"}  # the others follow from the header, or may be missing


class StoreFormatError(Exception):
    """A file is not a store that this version can read; the message names the file and what is wrong with it."""


def write_store(path: Path | str, store: PackedStore, *, overwrite: bool = False) -> int:
    """Write a store to a file, atomically: the file is whole or not there.

    Returns:
        The size of the file in bytes.

    Raises:
        FileExistsError: if the file exists and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=true replaces it")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in store.tensors().items()}
    header = {
        "version": VERSION,
        "family": FAMILY,
        "images": len(store),
        **asdict(store.header),
        "crc32": {name: _crc32(tensor) for name, tensor in tensors.items()},
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(header, sort_keys=True, separators=(",", ":"))})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # hours of fitting must outlive a power cut
    return path.stat().st_size


def read_store(path: Path | str, *, device: torch.device | str = "cpu") -> PackedStore:
    """Read a store, checking all of it before it is used.

    Returns:
        The store on `device`; on the CPU its tensors are memory-mapped.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreFormatError: if the file is not a whole, consistent store of this version.
        StoreTooLarge: if it does not fit the memory of `device`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no store at {path}; write one with: python -m experiments.encode dataset=... out={path}")
    try:
        with safe_open(path, framework="pt") as file:
            raw = _parse_metadata(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except SafetensorError as error:
        raise StoreFormatError(f"{path} is not a whole safetensors file: {error}") from None
    _check_tensors(path, raw, tensors)
    try:
        store = PackedStore(_parse_header(raw), **tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreFormatError(f"{path} contradicts itself: {error}") from None
    _check_values(path, store, images=raw.get("images"))
    return store.to(device)


def _crc32(tensor: Tensor) -> int:
    # uint8 view, since numpy has no bfloat16; a tensor without elements has no bytes to view
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def _parse_metadata(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or METADATA_KEY not in metadata:
        raise StoreFormatError(f"{path} is a safetensors file without the metadata of a store ({METADATA_KEY!r})")
    try:
        raw = json.loads(metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise StoreFormatError(f"{path} has a header that is not JSON: {error}") from None
    if not isinstance(raw, dict) or raw.get("version") != VERSION:
        found = raw.get("version") if isinstance(raw, dict) else raw
        raise StoreFormatError(f"{path} has format version {found!r}, this program reads {VERSION}")
    if raw.get("family") != FAMILY:
        raise StoreFormatError(f"{path} holds INRs of family {raw.get('family')!r}, this program reads {FAMILY!r}")
    return raw


def _check_tensors(path: Path, raw: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    missing = NEEDED - set(tensors)
    unknown = set(tensors) - set(TENSORS)
    if missing or unknown:
        raise StoreFormatError(f"{path}: tensors missing {sorted(missing)}, unknown {sorted(unknown)}")
    checksums = raw.get("crc32")
    if not isinstance(checksums, dict) or set(checksums) != set(tensors):
        raise StoreFormatError(f"{path} lacks a checksum for each of its tensors {sorted(tensors)}")
    for name, tensor in tensors.items():
        if _crc32(tensor) != checksums[name]:
            raise StoreFormatError(f"{path} is damaged: the checksum of {name} does not match")


def _parse_header(raw: dict[str, Any]) -> StoreHeader:
    return StoreHeader(
        spec=SirenSpec(**raw["spec"]),
        quantize=QuantizeConfig(**raw["quantize"]),
        size=None if raw["size"] is None else _triple(raw["size"], int, 2),
        splits=tuple((str(name), int(count)) for name, count in raw["splits"]),
        class_names=tuple(map(str, raw["class_names"])),
        mean=_triple(raw["mean"], float, 3),
        std=_triple(raw["std"], float, 3),
        made=dict(raw["made"]),
    )


def _triple(values: list[Any], kind: type, length: int) -> tuple[Any, ...]:
    numbers = tuple(map(kind, values))
    if len(numbers) != length or not all(number >= 0 for number in numbers):
        raise ValueError(f"{values} should be {length} non-negative numbers")
    return numbers


def _check_values(path: Path, store: PackedStore, *, images: object) -> None:
    def reject(what: str) -> None:
        raise StoreFormatError(f"{path}: {what}")

    if images != len(store):
        reject(f"the header counts {images} images, the tensors {len(store)}")
    sizes = store.sizes if store.sizes is not None else torch.tensor([store.header.size])
    if int(sizes.min()) < 1:
        reject("an image has no pixels")
    if store.labels is not None and not 0 <= int(store.labels.min()) <= int(store.labels.max()) < len(store.header.class_names):
        reject(f"a label lies outside the {len(store.header.class_names)} classes")
    if not all(bool(t.isfinite().all()) for t in store.rows.tensors().values()):
        reject("a weight is not finite")
    unused = -store.header.spec.n_hidden_weights % 8
    if store.masks is not None and unused and bool((store.masks[:, -1] >> (8 - unused)).any()):
        reject("a mask has bits behind its last weight")
    total = sum(count for _, count in store.header.splits)
    last = len(store) - 1
    if store.source_ids is not None:
        if bool((store.source_ids.diff() <= 0).any()) or int(store.source_ids[0]) < 0:
            reject("source_ids do not increase")
        last = int(store.source_ids[-1])
    if last >= total:
        reject(f"image {last} lies beyond the {total} images of its splits")
