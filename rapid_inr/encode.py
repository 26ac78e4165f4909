"""Encode a dataset: read, fit, quantize, measure, pack; images stream through, only their packed rows stay."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig, dequantize, quantize
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource
from rapid_inr.fit import FitConfig, Progress, fit, measure_psnr
from rapid_inr.store.codes import pack_codes
from rapid_inr.store.packed import PackedStore, StoreHeader

CHUNK_IMAGES = 4096  # read and fitted together, at most; the rows of an image do not depend on it


@dataclass(frozen=True)
class EncodeReport:
    """What became of each image that was encoded, in the order of the store.

    Args:
        psnr_db: float64 [N], of the 8-bit decode of what is stored.
        fit_psnr_db: float64 [N], the same before quantization.
        attempts: int64 [N], fits that each image took.
        unconverged: names of the images that stayed below `fit.min_psnr_db`.
        skipped: one message for each image that could not be read.
        fit_s: seconds spent fitting.
    """

    psnr_db: Tensor
    fit_psnr_db: Tensor
    attempts: Tensor
    unconverged: tuple[str, ...]
    skipped: tuple[str, ...]
    fit_s: float


def encode(
    source: ImageSource,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    *,
    device: torch.device | str = "cpu",
    on_corrupt: str = "fail",
    on_progress: Progress | None = None,
    on_chunk: Callable[[Tensor], None] | None = None,
    made: dict[str, Any] | None = None,
) -> tuple[PackedStore, EncodeReport]:
    """Encode every image of a source.

    Args:
        on_corrupt: ``fail`` at an image that cannot be read, or ``skip`` it and say so in the report.
        on_progress: called with the work done since the last call, in images.
        on_chunk: called with the PSNR in dB of the images just finished.
        made: JSON values on how the store is made, kept in its header.

    Returns:
        The store, on the CPU, and the report.

    Raises:
        CorruptImage: at an unreadable image, where `on_corrupt` is ``fail``.
        ValueError: if no image could be read.
    """
    chunks, skipped, moments, fit_s = [], [], ChannelMoments(), 0.0
    for chunk in read_chunks(source, CHUNK_IMAGES, on_corrupt=on_corrupt):
        for image in chunk.images:
            moments.add(image)
        began = time.perf_counter()
        encoded = _encode_chunk(chunk.images, chunk.ids, spec, fit_config, quantize_config, torch.device(device), on_progress)
        fit_s += time.perf_counter() - began
        chunks.append(encoded | {"ids": torch.from_numpy(chunk.ids), "labels": _labels(chunk.labels)})
        skipped += chunk.skipped
        if on_chunk is not None:
            on_chunk(encoded["psnr_db"])
    columns = {name: torch.cat([c[name] for c in chunks]) for name in chunks[0] if chunks[0][name] is not None}
    store = _pack(source, spec, quantize_config, columns, moments, made or {})
    unconverged = tuple(source.name_of(int(i)) for i in columns["ids"][~columns["converged"]])
    report = EncodeReport(
        columns["psnr_db"], columns["fit_psnr_db"], columns["attempts"], unconverged, tuple(skipped), fit_s
    )  # fmt: skip
    return store, report


def _labels(labels: np.ndarray | None) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)


def _encode_chunk(
    images: list[np.ndarray],
    ids: np.ndarray,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    device: torch.device,
    on_progress: Progress | None,
) -> dict[str, Tensor]:
    """Fit and quantize images, those of one size together, and return columns in the order given."""
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int32)
    columns: dict[str, Tensor] = {"sizes": torch.from_numpy(sizes)}
    for size in np.unique(sizes, axis=0):
        members = np.flatnonzero((sizes == size).all(1))
        batch = torch.from_numpy(np.stack([images[i] for i in members]))
        result = fit(batch, torch.from_numpy(ids[members]), spec, fit_config, device=device, on_progress=on_progress)
        codes, floats = quantize(result.weights, spec, quantize_config)
        found = {
            "codes": codes,
            "floats": floats,
            "psnr_db": _stored_psnr(codes, floats, batch, spec, device),
            "fit_psnr_db": result.psnr_db,
            "attempts": result.attempts,
            "converged": result.converged,
        }
        for name, values in found.items():
            columns.setdefault(name, values.new_empty((len(images), *values.shape[1:])))[torch.from_numpy(members)] = values
    return columns


def _stored_psnr(codes: Tensor, floats: Tensor, images: Tensor, spec: SirenSpec, device: torch.device) -> Tensor:
    parts = zip(codes.split(256), floats.split(256), images.split(256), strict=True)
    return torch.cat([measure_psnr(dequantize(c, f, spec).to(device), i.to(device), spec).cpu() for c, f, i in parts])


def _pack(
    source: ImageSource,
    spec: SirenSpec,
    quantize_config: QuantizeConfig,
    columns: dict[str, Tensor],
    moments: ChannelMoments,
    made: dict[str, Any],
) -> PackedStore:
    sizes, ids, labels = columns["sizes"], columns["ids"], columns.get("labels")
    one_size = bool((sizes == sizes[0]).all())
    mean, std = moments.mean_std()
    header = StoreHeader(
        spec=spec,
        quantize=quantize_config,
        size=tuple(sizes[0].tolist()) if one_size else None,
        splits=source.splits,
        class_names=source.class_names,
        mean=mean,
        std=std,
        made=made,
    )
    return PackedStore(
        header,
        codes=pack_codes(columns["codes"], quantize_config.bits) if quantize_config.is_integer else columns["codes"],
        floats=columns["floats"],
        sizes=None if one_size else sizes,
        labels=None if labels is None else labels.to(_label_dtype(len(source.class_names))),
        source_ids=None if torch.equal(ids, torch.arange(len(ids))) else ids.to(torch.int32),
    )


def _label_dtype(n_classes: int) -> torch.dtype:
    return torch.uint8 if n_classes <= 256 else torch.int16 if n_classes <= 32768 else torch.int32
