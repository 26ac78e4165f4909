"""`python -m experiments.info`: print what a store holds and costs, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from experiments.setup.cli import main
from rapid_inr.evaluation.metrics import rates
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, bytes_by_part


def describe(store: PackedStore, *, store_bytes: int) -> dict[str, object]:
    """Return what a store holds and costs, as JSON values; its file takes `store_bytes`."""
    header = store.header
    sizes = [list(header.size)] if header.size else sorted(set(map(tuple, store.sizes.tolist())))
    return {
        "images": len(store), "depth": header.spec.depth, "hidden": header.spec.hidden, "omega": header.spec.omega,
        "sizes": [list(size) for size in sizes], "splits": dict(header.splits), "classes": list(header.class_names),
        "bits": header.quantize.bits, "ends_bits": header.quantize.ends_bits,
        "parts_bytes": bytes_by_part(store, file_bytes=store_bytes), "mean": list(header.mean), "std": list(header.std),
        "made": header.made,
    } | rates(store_bytes=store_bytes, n_pixels=store.n_pixels)  # fmt: skip


def run_info(cfg: DictConfig) -> None:
    store = read_store(cfg.store)
    print(json.dumps(describe(store, store_bytes=Path(cfg.store).stat().st_size), indent=1))


if __name__ == "__main__":
    main("info", run_info)
