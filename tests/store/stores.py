"""Small stores made by hand, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from kernels.cosine import CosineSpec
from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig, quantize
from rapid_inr.inr.siren import initial_weights
from rapid_inr.store.codes import pack_codes, pack_masks
from rapid_inr.store.cosine import CosineCode
from rapid_inr.store.format import METADATA_KEY
from rapid_inr.store.packed import PackedStore, StoreHeader
from rapid_inr.store.siren import SirenCode

SPEC = SirenSpec(depth=2, hidden=5, omega=15.0)
COSINE_SPEC = CosineSpec(frequencies=3, groups=4, dimensions=3, profiles=2)


def small_store(
    n: int = 4, *, spec: SirenSpec = SPEC, config: QuantizeConfig | None = None, mixed: bool = False, masks: bool = False
) -> PackedStore:
    """Return n random images of 6x4, or of two sizes, in three classes; with `masks`, half of the weights each."""
    config = config or QuantizeConfig()
    rows = quantize(initial_weights(spec, range(n), seed=0), spec, config)
    kept = None
    if masks:
        kept = torch.rand((n, spec.n_hidden_weights), generator=torch.Generator().manual_seed(0)) < 0.5
    codes = pack_codes(rows.codes, config.bits, kept) if config.is_integer else rows.codes
    header = StoreHeader(
        code=SirenCode(spec, config),
        size=None if mixed else (6, 4),
        splits=(("train", n), ("test", 3)),
        class_names=("cat", "dog", "eel"),
        mean=(0.5, 0.4, 0.3),
        std=(0.25, 0.2, 0.1),
        made={"seed": 0},
    )
    sizes = torch.tensor([[6, 4], [3, 8]], dtype=torch.int32).repeat(n, 1)[:n] if mixed else None
    packed_masks = None if kept is None else pack_masks(kept)
    labels = torch.arange(n, dtype=torch.uint8) % 3
    tensors = {"codes": codes, "ends": rows.ends, "scales": rows.scales, "end_scales": rows.end_scales, "masks": packed_masks}
    return store_of(header, tensors | {"sizes": sizes, "labels": labels})


def small_cosine_store(n: int = 4, *, spec: CosineSpec = COSINE_SPEC, mixed: bool = False, learned: bool = True) -> PackedStore:
    """Return n random images of 6x4, or of two sizes, in three classes, as cosine series of words drawn at random.

    Args:
        learned: whether there is a basis.
    """
    generator = torch.Generator().manual_seed(0)
    m, d, components = spec.profiles, spec.dimensions, 12
    slots = torch.tensor([slot for slot in range(spec.groups * d) if slot % d < 2 or slot % 2])  # not all groups are full
    table = torch.full((m, components), -1, dtype=torch.int16)
    for row in table:
        row[torch.randperm(components, generator=generator)[: len(slots)]] = slots.to(torch.int16)
    codes = torch.randint(256, (n, spec.row_bytes), dtype=torch.uint8, generator=generator)
    if m > 1:
        codes[:, 0] %= m
    tensors = {
        "codes": codes,
        "books": torch.randint(-127, 128, (m * len(slots), 256), dtype=torch.int8, generator=generator),
        "book_scales": torch.rand(m * len(slots), generator=generator).add(0.5).mul(4e-3).half(),
        "table": table,
        "basis": torch.randint(-127, 128, (components, 20), dtype=torch.int8, generator=generator),
        "places": torch.randperm(3 * spec.frequencies**2, generator=generator)[:20].sort().values.to(torch.int16),
        "colour": torch.linalg.qr(torch.tensor([[1.0, 0.5, 0.2], [0.9, -0.1, -0.7], [1.1, -0.4, 0.4]])).Q.contiguous(),
        "colour_mean": torch.tensor([0.5, 0.4, 0.3]),
    }
    if not learned:
        del tensors["basis"]
        tensors["places"] = tensors["places"][:components].clone()
    sizes = torch.tensor([[6, 4], [3, 8]], dtype=torch.int32).repeat(n, 1)[:n] if mixed else None
    header = replace(small_store(n, mixed=mixed).header, code=CosineCode(spec))
    return store_of(header, tensors | {"sizes": sizes, "labels": torch.arange(n, dtype=torch.uint8) % 3})


def store_of(header: StoreHeader, tensors: Mapping[str, torch.Tensor | None]) -> PackedStore:
    return PackedStore.of(header, {name: tensor for name, tensor in tensors.items() if tensor is not None})


def with_tensors(store: PackedStore, **tensors: torch.Tensor | None) -> PackedStore:
    return store_of(store.header, store.tensors() | tensors)


def header_in(path: Path) -> dict[str, Any]:
    """Return the header of a store's file as it stands there."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[METADATA_KEY])
