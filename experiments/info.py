"""`python -m experiments.info`: print what a store holds and costs, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from experiments.setup.cli import main
from rapid_inr.errors import require
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, bytes_by_part, store_rates


def describe(store: PackedStore, *, store_bytes: int) -> dict[str, object]:
    """Return what a store holds and costs, as JSON values; its file takes `store_bytes`."""
    header = store.header
    sizes = [list(header.size)] if header.size else sorted(set(map(tuple, store.sizes.tolist())))
    return {
        "images": len(store), "family": header.code.family, **header.code.facts(),
        "sizes": [list(size) for size in sizes], "splits": dict(header.splits), "skipped": list(header.skipped),
        "classes": list(header.class_names), "files_named": sum(map(bool, store.names)),
        "parts_bytes": bytes_by_part(store, file_bytes=store_bytes), "mean": list(header.mean), "std": list(header.std),
        "made": header.made,
    } | store_rates(store, store_bytes=store_bytes)  # fmt: skip


def describe_image(store: PackedStore, index: int) -> dict[str, object]:
    """Return the name, size and class of an image."""
    require(0 <= index < len(store), "image", index, f"0 to {len(store) - 1}")
    label = None if store.labels is None else store.header.class_names[int(store.labels[index])]
    return {"image": index, "name": store.name_of(index), "size": list(store.size_of(index)), "class": label}


def run_info(cfg: DictConfig) -> None:
    store = read_store(cfg.store)
    store_bytes = Path(cfg.store).stat().st_size
    facts = describe(store, store_bytes=store_bytes) if cfg.image is None else describe_image(store, cfg.image)
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main("info", run_info)
