"""The shards of a store during encoding: atomic files of a part of the images each."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rapid_inr.data.moments import ChannelMoments
from rapid_inr.errors import UserError
from rapid_inr.store.families import FAMILIES
from rapid_inr.store.names import NAMES, pack_names, unpack_names
from rapid_inr.store.plan import StorePlan, plan_difference
from rapid_inr.store.sealed import StoreFormatError, brief, seal, unseal
from rapid_inr.store.tensor_file import Blocks, crc32, crc32_of, write_tensors

METADATA_KEY = "rapid_inr_shard"
VERSION = 4
SHARED = "shared"  # stem of the file of tensors that all shards share
REMEDY = "; remove it and encode again"
NAMED = 8  # missing shards that a message names


@dataclass(frozen=True)
class Shard:
    """An encoded shard.

    Args:
        number: of the shard, from 0.
        ids: int64 [n], the ids in the source of the readable images.
        sizes: int32 [n, 2], (height, width).
        rows: tensors of the images under their names in `PackedStore`, without shared ones; SIRENs have masks if any image of
            the shard was pruned. Empty if no image could be read.
        shared_crc32: of the tensors that all images share, to detect shards of another store.
        measured: measurements of each image, [n], by name.
        moments: of the channels of the train split's images.
        other_moments: of the channels of all other images.
        skipped: a message for each image that could not be read, by id.
        fit_s: see `EncodeReport`, like `compress_s`.
        names: as in `PackedStore`.
    """

    number: int
    ids: Tensor
    sizes: Tensor
    rows: dict[str, Tensor]
    shared_crc32: int
    measured: dict[str, Tensor]
    moments: ChannelMoments
    other_moments: ChannelMoments
    skipped: dict[int, str]
    fit_s: float
    compress_s: float
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ShardFolder:
    """The folder with the shards of one store."""

    path: Path
    plan: StorePlan

    def file(self, number: int) -> Path:
        return self.path / f"{number:05d}.shard"

    @property
    def shared_file(self) -> Path:
        return self.path / f"{SHARED}.shard"

    @property
    def whole_file(self) -> Path:
        """The merged store, until it has been checked."""
        return self.path / "whole.inr"

    def present(self) -> list[int]:
        """Return the numbers of the existing shards, in order.

        Raises:
            ValueError: if a shard is of another plan; the message names the first key that differs.
            StoreFormatError: if a shard cannot be read.
        """
        own = []
        for path in self._files():
            with suppress(FileNotFoundError):  # another job has just removed it
                self._require_own(path)
                own.append(path)
        return sorted(int(path.stem) for path in own if path.stem != SHARED)

    def _files(self) -> list[Path]:
        return [*self.path.glob("[0-9]*.shard"), *self.path.glob(f"{SHARED}.shard")]

    def _require_own(self, path: Path) -> None:
        difference = plan_difference(read_header(path)["plan"], self.plan.values())
        if difference:
            remedy = "choose another out=, or overwrite=true to start again"
            raise UserError(f"{self.path} holds shards of another encoding ({difference}); {remedy}")

    def discard_others(self) -> int:
        """Remove the files that are of another plan or cannot be read; return their number."""
        n_removed = 0
        for path in self._files():
            try:
                self._require_own(path)
            except FileNotFoundError:
                continue
            except UserError:
                path.unlink(missing_ok=True)
                n_removed += 1
        return n_removed

    def missing(self) -> list[int]:
        return sorted(set(range(self.plan.n_shards)) - set(self.present()))

    def require_complete(self) -> None:
        """Raise UserError or StoreFormatError unless all shards exist, are of this plan and sound, and hold their images."""
        missing = self.missing()
        if missing:
            named = ", ".join(f"{number:05d}" for number in missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
            raise UserError(
                f"{self.path} lacks {len(missing)} of {self.plan.n_shards} shards ({named}); "
                "run the same encode command again to make the missing ones"
            )
        shared_crc32 = crc32_of(self.shared())
        last = -1
        for number in range(self.plan.n_shards):
            _read_sound(self.file(number))
            last = self._require_images(number, last=last, shared_crc32=shared_crc32)

    def _require_images(self, number: int, *, last: int, shared_crc32: int) -> int:
        """Check that a shard holds its own images, with ids above `last`, and the same shared tensors; return its last id."""
        shard, positions = _read(self.file(number)), self.plan.shard(number)
        if len(shard) > 0 and shard.shared_crc32 != shared_crc32:
            what = ", ".join(self.plan.code.shared)
            raise StoreFormatError(f"{self.file(number)} was encoded with another {self.shared_file.name} ({what}){REMEDY}")
        ids = [last, *shard.ids.tolist()]
        # excluded images can only make an id larger than its position
        misplaced = len(shard) > len(positions) or (len(shard) > 0 and ids[1] < positions.start)
        if shard.number != number or misplaced or any(b <= a for a, b in pairwise(ids)):
            raise StoreFormatError(f"{self.file(number)} does not hold the images of its shard{REMEDY}")
        return ids[-1]

    def write(self, shard: Shard) -> None:
        """Write the file of a shard atomically."""
        tensors = {"ids": shard.ids, "sizes": shard.sizes} | ({NAMES: pack_names(shard.names)} if shard.names else {})
        tensors |= {f"rows.{name}": tensor for name, tensor in shard.rows.items()}
        tensors |= {f"measured.{name}": tensor for name, tensor in shard.measured.items()}
        sums = {name: getattr(shard, name) for name in ("moments", "other_moments")}
        values = {
            "number": shard.number, "shared_crc32": shard.shared_crc32, "skipped": list(shard.skipped.items()),
            "fit_s": shard.fit_s, "compress_s": shard.compress_s,
            **{name: [of.n_pixels, of.total.tolist(), of.squares.tolist()] for name, of in sums.items()},
        }  # fmt: skip
        self._write(self.file(shard.number), tensors, values)

    def _write(self, path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        blocks = {name: Blocks.of(tensor) for name, tensor in tensors.items()}
        layout = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
        store = asdict(self.plan) | {"code": [self.plan.code.family, self.plan.code.values()]}
        values = {"version": VERSION, "plan": self.plan.values(), "store": store, "layout": layout, **values}
        write_tensors(path, blocks, lambda checksums: {METADATA_KEY: seal(values | {"crc32": checksums})})

    def share(self, choose: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors that all images share; the first job chooses them for all jobs."""
        path = self.shared_file
        if self.plan.code.shared and not path.exists():
            own = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            began = time.perf_counter()
            chosen = choose()
            self._write(own, chosen, {"seconds": time.perf_counter() - began})
            with suppress(FileExistsError):  # another job was first; on a GPU its last bits may differ, so only its tensors count
                os.link(own, path)
            own.unlink()
        return self.shared()

    def shared(self) -> dict[str, Tensor]:
        """Read the tensors that all images share.

        Raises:
            StoreFormatError: if they are missing or damaged.
        """
        if not self.plan.code.shared:
            return {}
        if not self.shared_file.exists():
            names = ", ".join(self.plan.code.shared)
            raise StoreFormatError(f"{self.shared_file} is missing ({names}); remove the shards too, and encode again")
        return {name: tensor.clone() for name, tensor in _read_sound(self.shared_file)[1].items()}

    @property
    def shared_s(self) -> float:
        """Seconds spent on choosing the shared tensors; 0 if there are none."""
        return read_header(self.shared_file)["seconds"] if self.plan.code.shared else 0.0

    def read(self, numbers: Iterable[int]) -> Iterator[Shard]:
        """Yield shards one at a time, with memory-mapped tensors."""
        for number in numbers:
            yield _read(self.file(number))

    def __iter__(self) -> Iterator[Shard]:
        return self.read(range(self.plan.n_shards))

    def clear(self) -> None:
        """Remove the shards, the temporary files of killed writers, and the folder if it is then empty."""
        torn = (*self.path.glob(".*.shard.*"), *self.path.glob(f".{self.whole_file.name}.*"))
        for path in (*torn, self.whole_file, *self._files()):  # the shards last, since they show that something is left
            path.unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def shards_beside(out: Path) -> Path:
    """Return the folder for the shards of an output."""
    return out.with_name(f"{out.name}.shards")


def open_shards(path: Path) -> ShardFolder:
    """Open a folder of shards by the plan in its first shard, or in the file of what all shards share.

    Raises:
        FileNotFoundError: if there is none.
        StoreFormatError: if it cannot be read.
    """
    first = min(path.glob("*.shard"), default=None)
    if first is None:
        raise FileNotFoundError(f"no shards in {path}; python -m experiments.encode makes them")
    raw = read_header(first)["store"]
    lists = {"splits": tuple(map(tuple, raw["splits"])), "class_names": tuple(raw["class_names"])}
    family, code = raw["code"]
    return ShardFolder(path, StorePlan(**raw | lists | {"code": FAMILIES[family].parse(code)}))


def read_header(path: Path) -> dict[str, Any]:
    """Return the values in the file of a shard.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreFormatError: if it is not a shard that this version can read.
    """
    return _open(path)[0]


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the values and the tensors of a file, after checking that the two agree."""
    try:
        with safe_open(path, framework="pt") as file:
            raw = unseal(path, file.metadata(), METADATA_KEY, version=VERSION, remedy=REMEDY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except SafetensorError as error:
        raise StoreFormatError(f"{path} is damaged ({brief(error)}){REMEDY}") from None
    layout = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    if raw["layout"] != layout:
        raise StoreFormatError(f"{path} is damaged: its tensors are not those of its header{REMEDY}")
    return raw, tensors


def _read_sound(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the values and the tensors of a file, after checking all bytes of the tensors."""
    raw, tensors = _open(path)
    if {name: crc32(tensor) for name, tensor in tensors.items()} != raw["crc32"]:
        raise StoreFormatError(f"{path} is damaged: a checksum does not match{REMEDY}")
    return raw, tensors


def _read(path: Path) -> Shard:
    raw, tensors = _open(path)

    def moments(name: str) -> ChannelMoments:
        n_pixels, *sums = raw[name]
        return ChannelMoments(n_pixels, *(torch.tensor(values, dtype=torch.int64).numpy() for values in sums))

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    names, splits = tensors.get(NAMES), tuple(map(tuple, raw["store"]["splits"]))
    names = () if names is None else unpack_names(names, tensors["ids"].tolist(), splits)
    return Shard(
        raw["number"], tensors["ids"], tensors["sizes"], under("rows."), raw["shared_crc32"], under("measured."),
        moments("moments"), moments("other_moments"), dict(raw["skipped"]), raw["fit_s"], raw["compress_s"], names,
    )  # fmt: skip
