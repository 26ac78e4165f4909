"""`python -m tests.soak.loader [TIMES] [EPOCHS]`: a loader abandoned and iterated again, and many epochs: nothing grows."""

from __future__ import annotations

import gc
import os
import random
import resource
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import torch

from rapid_inr import INRLoader
from rapid_inr.store.format import write_store
from tests.soak.commands import empty_folder
from tests.store.stores import small_store

BATCH, IMAGES = 4, 24
WARM_UP = 50  # iterations until allocators and thread pools are as large as they get


def state() -> dict[str, float]:
    """Return what must not grow: memory in MB, threads, open files, and live tensors."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": pages * resource.getpagesize() / 1e6, "threads": len(os.listdir("/proc/self/task")),
        "python_threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd")),
        "tensors": sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()),
    }  # fmt: skip


def abandon(loader: Iterable[object], rng: random.Random) -> None:
    """Iterate over a part of a loader, and leave it."""
    for i, _ in enumerate(loader):
        if i == rng.randrange(IMAGES // BATCH):
            return


def grown(before: dict[str, float], after: dict[str, float]) -> str:
    growth = {name: round(after[name] - before[name], 1) for name in before}
    assert growth.pop("memory_mb") < 20, (before, after)
    assert not any(growth.values()), growth
    return f"memory {before['memory_mb']:.0f} to {after['memory_mb']:.0f} MB, {growth}"


def main(times: int, epochs: int) -> None:
    rng = random.Random(0)
    with empty_folder():
        write_store(Path("a.inr"), small_store(IMAGES))
        loader = INRLoader("a.inr", BATCH)
        whole = [batch.labels.tolist() for batch in INRLoader("a.inr", BATCH, seed=None)]
        for _ in range(WARM_UP):
            abandon(loader, rng)
        before = state()
        for _ in range(times):
            abandon(loader, rng)
        print(f"{times:,} times abandoned and iterated again: {grown(before, state())}", flush=True)
        for _ in loader:  # what is left of the epoch that was abandoned last
            pass
        for _ in range(epochs):
            assert sum(len(batch.labels) for batch in loader) == IMAGES
        print(f"{epochs:,} epochs: {grown(before, state())}", flush=True)
        for _ in range(times):
            assert [batch.labels.tolist() for batch in INRLoader("a.inr", BATCH, seed=None)] == whole
        print(f"{times:,} loaders opened: {grown(before, state())}", flush=True)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers or [1_000, 2_000]))
