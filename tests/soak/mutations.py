"""`python -m tests.soak.mutations [STORES] [OTHERS] [KIND]`: damaged and forged files end in the named error or the same content.

A damaged file has bytes flipped, cut off, repeated or put in. A forged store has a header or a tensor changed and valid
checksums: it may be read where it is a store, and then it must decode. A KIND, such as ``cosine``, is the start of the names of
the kinds of stores to attack.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import is_plain_file_name
from rapid_inr.errors import UserError
from rapid_inr.runlog.run import peak_memory_mb
from rapid_inr.store.decode import decode
from rapid_inr.store.format import METADATA_KEY, StoreFormatError, read_store, write_store
from rapid_inr.store.packed import PackedStore
from rapid_inr.store.sealed import seal
from rapid_inr.store.shards import open_shards
from rapid_inr.store.tensor_file import crc32
from rapid_inr.training.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from tests.soak.commands import TINY, empty_folder, finish
from tests.store.stores import COSINE_SPEC, small_cosine_store, small_store

KINDS = {
    "int8": small_store(), "masks, 5 bits": small_store(config=QuantizeConfig(bits=5), masks=True),
    "mixed sizes, 4 bits": small_store(config=QuantizeConfig(bits=4), mixed=True),
    "halves": small_store(config=QuantizeConfig(bits=16)), "floats": small_store(config=QuantizeConfig(bits=32)),
    "scales a column": small_store(config=QuantizeConfig(bits=5, granularity="column")),
    "8-bit ends": small_store(config=QuantizeConfig(bits=3, ends_bits=8)),
    "cosine": small_cosine_store(), "cosine without a basis": small_cosine_store(learned=False),
    "cosine, one profile": small_cosine_store(spec=replace(COSINE_SPEC, profiles=1)),
    "scales of a dataset": small_store(config=QuantizeConfig(bits=6, granularity="dataset")),
    "named files": replace(small_store(), names=("cat/1.jpg", "cat/2.jpg", "", "dog/1.png")),
}  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 2, 7, 1 << 31, 1 << 63, 10**40, -0.0, 1e-300, 1e300, "", "a", "../x", "\0", [], {}, [[]], [-1],
    {"a": 1},
)  # fmt: skip
MOST_PIXELS = 1 << 12  # of an image that is decoded
LARGE, LARGE_TIMES = 400_000, 40  # images of a store whose reads are weighed, and how many of them


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three faults."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(found)), rng.randint(1, 40)
        kind = rng.randrange(5)
        if kind <= 1:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del found[at:]
        elif kind == 3:
            found[at:at] = found[at : at + length]
        else:
            found[at : at + length] = rng.randbytes(length)
        if not found:
            return b""
    return bytes(found)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything in JSON values."""
    own = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [(value, key) for key, _ in own] + [place for _, item in own for place in places(item)]


def forge(path: Path, out: Path, rng: random.Random) -> None:
    """Write a store with one to two changes and valid checksums."""
    with safe_open(path, framework="pt") as file:
        raw = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    raw = copy.deepcopy(raw)
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.6:
            container, key = rng.choice(places(raw))
            container[key] = rng.choice(VALUES)
        else:
            name = rng.choice(sorted(tensors))
            flat = tensors[name].flatten().view(torch.uint8)
            flat[rng.randrange(len(flat))] = rng.randrange(256)
            shape = rng.choice([tensors[name].shape, tensors[name].shape, (-1,), (1, -1)])
            tensors[name] = tensors[name].reshape(shape).clone()
    raw["crc32"] = {name: crc32(tensor) for name, tensor in tensors.items()} if raw.get("crc32") else raw.get("crc32")
    save_file(tensors, out, {METADATA_KEY: seal({key: value for key, value in raw.items() if key != "header_crc32"})})


def same(a: Any, b: Any) -> bool:
    """Return whether two stores hold the same header, names and tensors."""
    first, second = a.tensors(), b.tensors()
    return (
        (a.header, a.names) == (b.header, b.names)
        and first.keys() == second.keys()
        and all(torch.equal(first[k], second[k]) for k in first)
    )


class Reader:
    """Reads files, and knows the longest time that one took."""

    def __init__(self) -> None:
        self.slowest_s = 0.0

    def read(self, read: Callable[[], Any], path: Path, *, refused: type[UserError]) -> tuple[Any, bool]:
        """Return what was read, and whether it was refused: then in one short line that names the path."""
        began, message = time.thread_time(), None
        try:
            content = read()
        except refused as error:
            content, message = None, str(error)
        self.slowest_s = max(self.slowest_s, time.thread_time() - began)
        assert self.slowest_s < 1, f"a read took {self.slowest_s:.1f} s"
        assert message is None or (str(path) in message and len(message) < 600), message
        return content, message is not None


def attack_stores(times: int, rng: random.Random, reader: Reader, *, kind: str) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    kinds = {name: store for name, store in KINDS.items() if name.startswith(kind)}
    for name, store in kinds.items():
        path, out = Path(f"{name}.inr"), Path("attacked.inr")
        write_store(path, store, overwrite=True)
        data, sound = path.read_bytes(), read_store(path)
        for i in range(times // len(kinds)):
            forged = i % 2 == 0
            if forged:
                forge(path, out, rng)
            else:
                out.write_bytes(damaged(data, rng))
            read, refused = reader.read(lambda out=out: read_store(out), out, refused=StoreFormatError)
            outcomes[f"{'forged' if forged else 'damaged'}, {'refused' if refused else 'read'}"] += 1
            if refused:
                continue
            assert forged or same(read, sound), "a damaged store was read as another one"
            if math.prod(read.size_of(0)) < MOST_PIXELS:  # a forged size may be any that is allowed
                decode(read, torch.tensor([0]), size=read.size_of(0))
            assert all(is_plain_file_name(name) for name in read.names if name)
    return outcomes


def attack_large(times: int, rng: random.Random, reader: Reader) -> Counter[str]:
    """Read mutations of one large store, each in a fork, whose memory must not grow by more than twice the file."""
    outcomes: Counter[str] = Counter()
    small, path, out = small_store(), Path("large.inr"), Path("attacked.inr")
    header = replace(small.header, splits=(("train", LARGE),))
    tensors = {name: tensor.repeat(LARGE // len(small), *[1] * (tensor.ndim - 1)) for name, tensor in small.tensors().items()}
    write_store(path, PackedStore.of(header, tensors))
    data = path.read_bytes()
    for i in range(times):
        if i % 2 == 0:
            forge(path, out, rng)
        else:
            out.write_bytes(damaged(data, rng))
        process = os.fork()
        if process == 0:
            before_mb = peak_memory_mb()
            with suppress(StoreFormatError):
                read_store(out)
            os._exit(peak_memory_mb() - before_mb > 2e-6 * len(data))
        outcomes[f"within twice {len(data) / 1e6:.0f} MB"] += 1
        assert os.waitpid(process, 0)[1] == 0, "a read took more memory than twice the file"
    return outcomes


def attack_shards(times: int, rng: random.Random, reader: Reader) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    own = {"a.inr": ("fit.steps=5", "quantize=int8"), "b.inr": ("inr=cosine", "inr.bytes=9")}
    for out, keys in own.items():
        finish("encode", *TINY, "dataset.count=6", "shard_images=3", *keys, "keep_shards=true", f"out={out}")
        folder = open_shards(Path(f"{out}.shards"))
        sound, shared = next(folder.read([1])), folder.shared()
        paths = [folder.file(1), *([folder.shared_file] if shared else [])]
        for path in paths:
            data = path.read_bytes()
            for _ in range(times // len(paths) // len(own)):
                path.write_bytes(damaged(data, rng))
                _, refused = reader.read(folder.require_complete, folder.path, refused=UserError)
                outcomes["refused" if refused else "read"] += 1
                if not refused:
                    read = next(folder.read([1]))
                    assert (read.skipped, read.fit_s) == (sound.skipped, sound.fit_s)
                    assert all(torch.equal(read.rows[name], tensor) for name, tensor in sound.rows.items())
                    assert all(torch.equal(folder.shared()[name], tensor) for name, tensor in shared.items())
            path.write_bytes(data)
    return outcomes


def attack_checkpoints(times: int, rng: random.Random, reader: Reader) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    training, path = {"seed": 0, "network.width": 8}, Path("a_last.safetensors")
    sound = Checkpoint({f"model.{name}": tensor for name, tensor in nn.Linear(7, 5).state_dict().items()}, [{"epoch": 0}], 3)
    write_checkpoint(path, sound, training=training)
    data = path.read_bytes()
    for _ in range(times):
        path.write_bytes(damaged(data, rng))
        read, refused = reader.read(lambda: read_checkpoint(path, training=training), path, refused=CheckpointError)
        outcomes["refused" if refused else "read"] += 1
        if not refused:
            assert (read.reports, read.steps) == (sound.reports, sound.steps)
            assert all(torch.equal(read.tensors[name], tensor) for name, tensor in sound.tensors.items())
    return outcomes


def main(stores: int, others: int, kind: str = "") -> None:
    rng, reader = random.Random(0), Reader()
    with empty_folder():
        attack_stores(len(KINDS) * 20, rng, Reader(), kind=kind)
        before_mb = peak_memory_mb()
        attacks = {
            "stores": (partial(attack_stores, kind=kind), stores),
            "large stores": (attack_large, LARGE_TIMES),
            "shards": (attack_shards, others),
            "checkpoints": (attack_checkpoints, others),
        }
        for name, (attack, times) in attacks.items():
            if times == 0:
                continue
            print(f"{name}: {dict(attack(times, rng, reader))}", flush=True)
            if name == "stores":
                print(
                    f"slowest read {1e3 * reader.slowest_s:.0f} ms; memory grew by {peak_memory_mb() - before_mb:.1f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:3]]
    main(*(numbers or [12_000, 2_000]), *sys.argv[3:])
