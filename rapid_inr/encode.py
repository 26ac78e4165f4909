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
from rapid_inr.calibrate import calibrate
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.data.reading import Chunk, read_chunks
from rapid_inr.data.source import ImageSource
from rapid_inr.fit import FitConfig, Progress, fit, measure_psnr
from rapid_inr.refine import Compressed, RefineConfig, compress
from rapid_inr.store.codes import pack_codes, pack_masks
from rapid_inr.store.packed import PackedStore, StoreHeader

DENSE, UNREFINED = PruneConfig(), RefineConfig()
CHUNK_IMAGES = 4096  # read and fitted together, at most; the rows of an image do not depend on it


@dataclass(frozen=True)
class EncodeReport:
    """What became of each image that was encoded, in the order of the store.

    Args:
        psnr_db: float64 [N], of what is stored, as `decode` shows it in 8 bits on the device that encoded.
        fit_psnr_db: float64 [N], the same before quantization.
        attempts: int64 [N], fits that each image took.
        prune_ratio: float64 [N], pruned hidden weights over all.
        unconverged: names of the images that stayed below `fit.min_psnr_db`.
        skipped: one message for each image that could not be read.
        fit_s: seconds inside `fit`, with its retries and its `fit_psnr_db`; reading, quantizing and `psnr_db` do not count.
        compress_s: seconds spent pruning, quantizing and training what was left.
    """

    psnr_db: Tensor
    fit_psnr_db: Tensor
    attempts: Tensor
    prune_ratio: Tensor
    unconverged: tuple[str, ...]
    skipped: tuple[str, ...]
    fit_s: float
    compress_s: float


def encode(
    source: ImageSource,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    *,
    prune_config: PruneConfig = DENSE,
    refine_config: RefineConfig = UNREFINED,
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
        The store, on the CPU, and the report. Mean and std of its header are those of the images of the train split where the
        source has any, else of all that were encoded.

    Raises:
        CorruptImage: at an unreadable image, where `on_corrupt` is ``fail``.
        ValueError: if no image could be read.
    """
    chunks, skipped, moments, fit_s, compress_s = [], [], ChannelMoments(), 0.0, 0.0
    compression: dict[str, Any] = {
        "prune_config": prune_config, "quantize_config": quantize_config, "refine_config": refine_config,
        "calibration": calibrate(
            source, spec, fit_config, prune_config=prune_config, quantize_config=quantize_config, device=device,
            on_corrupt=on_corrupt,
        ),
    }  # fmt: skip
    for chunk in read_chunks(source, CHUNK_IMAGES, on_corrupt=on_corrupt):
        _count(moments, chunk, _ids_of_moments(source))
        encoded, seconds = _encode_chunk(
            chunk.images, chunk.ids, spec, fit_config, compression, torch.device(device), on_progress
        )
        fit_s, compress_s = fit_s + seconds[0], compress_s + seconds[1]
        chunks.append(encoded | {"ids": torch.from_numpy(chunk.ids), "labels": _labels(chunk.labels)})
        skipped += chunk.skipped
        if on_chunk is not None:
            on_chunk(encoded["psnr_db"])
    columns = {name: torch.cat([c[name] for c in chunks]) for name in chunks[0] if chunks[0][name] is not None}
    shared_mask = compression["calibration"].mask
    store = _pack(source, spec, quantize_config, columns, moments, made or {}, shared_mask=shared_mask)
    return store, _report(source, columns, skipped=tuple(skipped), fit_s=fit_s, compress_s=compress_s)


def _report(source: ImageSource, columns: dict[str, Tensor], **rest: Any) -> EncodeReport:
    measured = {name: columns[name] for name in ("psnr_db", "fit_psnr_db", "attempts", "prune_ratio")}
    unconverged = tuple(source.name_of(int(i)) for i in columns["ids"][~columns["converged"]])
    return EncodeReport(**measured, unconverged=unconverged, **rest)


def _count(moments: ChannelMoments, chunk: Chunk, counted: range) -> None:
    for image_id, image in zip(chunk.ids.tolist(), chunk.images, strict=True):
        if image_id in counted:
            moments.add(image)


def _ids_of_moments(source: ImageSource) -> range:
    """Return the ids whose images give mean and std: a network may know of the train split alone."""
    first = 0
    for name, count in source.splits:
        of_split = range(first, first + count)
        if name == "train" and ((source.ids >= of_split.start) & (source.ids < of_split.stop)).any():
            return of_split
        first += count
    return range(first)


def _labels(labels: np.ndarray | None) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)


def _encode_chunk(
    images: list[np.ndarray],
    ids: np.ndarray,
    spec: SirenSpec,
    fit_config: FitConfig,
    compression: dict[str, Any],
    device: torch.device,
    on_progress: Progress | None,
) -> tuple[dict[str, Tensor], tuple[float, float]]:
    """Fit and compress images, those of one size together; return columns in the order given, and the seconds of the two."""
    fit_s, compress_s = 0.0, 0.0
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int32)
    columns: dict[str, Tensor] = {"sizes": torch.from_numpy(sizes)}
    mask = compression["calibration"].mask
    for size in np.unique(sizes, axis=0):
        members = np.flatnonzero((sizes == size).all(1))
        batch = torch.from_numpy(np.stack([images[i] for i in members]))
        began = time.perf_counter()
        result = fit(batch, torch.from_numpy(ids[members]), spec, fit_config, device=device, mask=mask, on_progress=on_progress)
        fit_s += time.perf_counter() - began
        began = time.perf_counter()
        stored = compress(result, batch, spec, fit_config, device=device, **compression)
        compress_s += time.perf_counter() - began
        found = _columns(stored) | {
            "psnr_db": measure_psnr(stored.rows, batch, spec, device=device),
            "fit_psnr_db": result.psnr_db,
            "attempts": result.attempts,
            "converged": result.converged,
        }
        for name, values in found.items():
            columns.setdefault(name, values.new_empty((len(images), *values.shape[1:])))[torch.from_numpy(members)] = values
    return columns, (fit_s, compress_s)


def _columns(stored: Compressed) -> dict[str, Tensor]:
    """Return what is stored of each image; scales that all share stand at every image until they are packed."""
    rows = stored.rows
    columns = {"codes": rows.codes, "ends": rows.ends, "masks": stored.masks, "prune_ratio": stored.ratio}
    if rows.scales is not None:
        columns["scales"] = rows.scales.expand(len(rows), -1)
    if rows.end_scales is not None:
        columns["end_scales"] = rows.end_scales
    return columns


def _pack(
    source: ImageSource,
    spec: SirenSpec,
    quantize_config: QuantizeConfig,
    columns: dict[str, Tensor],
    moments: ChannelMoments,
    made: dict[str, Any],
    *,
    shared_mask: Tensor | None,
) -> PackedStore:
    sizes, ids, labels = columns["sizes"], columns["ids"], columns.get("labels")
    one_size = bool((sizes == sizes[0]).all())
    shared = quantize_config.is_integer and quantize_config.granularity == "dataset"
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
        ends=columns["ends"],
        scales=columns["scales"][:1] if shared else columns.get("scales"),
        end_scales=columns.get("end_scales"),
        **_smallest_layout(columns["codes"], columns["masks"], quantize_config, shared=shared_mask),
        sizes=None if one_size else sizes,
        labels=None if labels is None else labels.to(_label_dtype(len(source.class_names))),
        source_ids=None if torch.equal(ids, torch.arange(len(ids))) else ids.to(torch.int32),
    )


def _smallest_layout(codes: Tensor, masks: Tensor, config: QuantizeConfig, *, shared: Tensor | None) -> dict[str, Tensor | None]:
    """Pack codes with a mask an image, with the one they share, or all with the pruned ones as zeros: as takes fewest bytes."""
    if not config.is_integer:
        return {"codes": codes, "masks": None}
    if shared is not None and not shared.all():
        return {"codes": pack_codes(codes[:, shared[0]], config.bits), "masks": pack_masks(shared)}
    dense = pack_codes(codes, config.bits)
    if masks.all():
        return {"codes": dense, "masks": None}
    packed_masks, sparse = pack_masks(masks), pack_codes(codes, config.bits, masks)
    if packed_masks.nbytes + sparse.nbytes < dense.nbytes:
        return {"codes": sparse, "masks": packed_masks}
    return {"codes": dense, "masks": None}


def _label_dtype(n_classes: int) -> torch.dtype:
    return torch.uint8 if n_classes <= 256 else torch.int16 if n_classes <= 32768 else torch.int32
