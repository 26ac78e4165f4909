"""The `.inr` file: a safetensors file whose metadata describe the store; `docs/format.md` is the specification."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.errors import UserError
from rapid_inr.store.packed import FAMILY, TENSORS, PackedStore, StoreHeader
from rapid_inr.store.tensor_file import DTYPES, Blocks, crc32, read_flat, write_tensors

VERSION = 3
METADATA_KEY = "rapid_inr"  # a single key, since safetensors does not keep the order of several
MAX_SIDE = 1 << 16  # pixels: no format that images come from has more
LEAST_STD = 1 / 255  # one level, so that one can divide by it
USUAL_ROUNDING = "nearest"  # not written, as in files from before there was another: how codes were found, no decode asks
NEEDED = {"codes", "ends"}  # the others follow from the header, or may be missing


class StoreFormatError(UserError):
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
    write_blocks(path, store.header, len(store), {name: Blocks.of(tensor) for name, tensor in store.tensors().items()})
    return path.stat().st_size


def write_blocks(path: Path, header: StoreHeader, images: int, tensors: dict[str, Blocks]) -> None:
    """Write the file of a store whose tensors come in pieces, in place of any that is there.

    Args:
        tensors: those of a `PackedStore`, by name.
    """

    def describe(checksums: dict[str, int]) -> dict[str, str]:
        raw = {"version": VERSION, "family": FAMILY, "images": images, **_header_values(header), "crc32": checksums}
        return {METADATA_KEY: _canonical(raw | {"header_crc32": header_crc32(raw)})}

    write_tensors(path, tensors, describe)


def _header_values(header: StoreHeader) -> dict[str, Any]:
    raw = asdict(header)
    if header.quantize.rounding == USUAL_ROUNDING:
        del raw["quantize"]["rounding"]
    return raw


def header_crc32(raw: dict[str, Any]) -> int:
    """Return the CRC-32 of the JSON of a header, of all but this number: keys sorted, ASCII, no spaces."""
    return zlib.crc32(_canonical({key: value for key, value in raw.items() if key != "header_crc32"}).encode())


def _canonical(raw: dict[str, Any]) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))


def read_store(path: Path | str, *, device: torch.device | str = "cpu") -> PackedStore:
    """Read a store, checking all of it before it is used.

    Returns:
        The store on `device`; on the CPU its tensors are memory-mapped, and the check leaves no page of them in memory.

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
    if raw.get("header_crc32") != header_crc32(raw):
        raise StoreFormatError(f"{path} is damaged: the checksum of its header does not match")
    if raw.get("family") != FAMILY:
        raise StoreFormatError(f"{path} holds INRs of family {raw.get('family')!r}, this program reads {FAMILY!r}")
    return raw


def _check_tensors(path: Path, raw: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    missing = NEEDED - set(tensors)
    unknown = set(tensors) - set(TENSORS)
    if missing or unknown:
        raise StoreFormatError(f"{path}: tensors missing {sorted(missing)}, unknown {sorted(unknown)}")
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise StoreFormatError(f"{path}: {name} is {tensor.dtype}, which no store holds")
    checksums = raw.get("crc32")
    if not isinstance(checksums, dict) or set(checksums) != set(tensors):
        raise StoreFormatError(f"{path} lacks a checksum for each of its tensors {sorted(tensors)}")
    found, finite = dict.fromkeys(tensors, 0), True
    for name, block in read_flat(path, {name: tensor.dtype for name, tensor in tensors.items()}):
        found[name] = crc32(block, found[name])
        finite = finite and (not block.is_floating_point() or bool(block.isfinite().all()))
    for name, checksum in found.items():
        if checksum != checksums[name]:
            raise StoreFormatError(f"{path} is damaged: the checksum of {name} does not match")
    if not finite:
        raise StoreFormatError(f"{path}: a weight is not finite")


def _parse_header(raw: dict[str, Any]) -> StoreHeader:
    raw = raw | {"quantize": {"rounding": USUAL_ROUNDING} | raw["quantize"]}
    return StoreHeader(
        spec=SirenSpec(**_typed(raw, "spec", depth=int, hidden=int, omega=float)),
        quantize=QuantizeConfig(**_typed(raw, "quantize", bits=int, ends_bits=int, granularity=str, range=str, rounding=str)),
        size=None if raw["size"] is None else _numbers(raw, "size", int, length=2, low=1, high=MAX_SIDE),
        splits=_splits(raw["splits"]),
        class_names=_class_names(raw["class_names"]),
        mean=_numbers(raw, "mean", float, length=3, low=0, high=1),
        std=_numbers(raw, "std", float, length=3, low=LEAST_STD, high=1),
        made=dict(raw["made"]),
    )


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)  # JSON may write 15.0 as 15; true is no number


def _typed(raw: dict[str, Any], name: str, **kinds: type) -> dict[str, Any]:
    for key, kind in kinds.items():
        if not _is(raw[name][key], kind):
            raise UserError(f"{name}.{key} is {raw[name][key]!r}, expected {kind.__name__}")
    return raw[name]


def _numbers(raw: dict[str, Any], name: str, kind: type, *, length: int, low: float, high: float) -> tuple[Any, ...]:
    values = raw[name]
    if len(values) != length or not all(_is(value, kind) and low <= value <= high for value in values):
        raise UserError(f"{name} is {values}, expected {length} of type {kind.__name__} from {low:.3g} to {high}")
    return tuple(map(kind, values))


def _splits(values: list[Any]) -> tuple[tuple[str, int], ...]:
    for name, count in values:
        if not (_is(name, str) and _is(count, int) and count >= 0):
            raise UserError(f"splits are {values}, expected a name and a number of images each")
    return tuple((name, count) for name, count in values)


def _class_names(values: list[str]) -> tuple[str, ...]:
    if not (isinstance(values, list) and all(_is(name, str) for name in values)):
        raise UserError(f"class_names is {values!r}, expected a list of names")
    return tuple(values)


def _check_values(path: Path, store: PackedStore, *, images: object) -> None:
    def reject(what: str) -> None:
        raise StoreFormatError(f"{path}: {what}")

    if not _is(images, int) or images != len(store):
        reject(f"the header counts {images} images, the tensors {len(store)}")
    if store.sizes is not None and not 1 <= int(store.sizes.min()) <= int(store.sizes.max()) <= MAX_SIDE:
        reject(f"an image has a side of no pixels, or of more than {MAX_SIDE}")
    if store.labels is not None and not 0 <= int(store.labels.min()) <= int(store.labels.max()) < len(store.header.class_names):
        reject(f"a label lies outside the {len(store.header.class_names)} classes")
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
