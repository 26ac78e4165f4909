"""Encode one shard: read its images, encode images of the same size together, and pack the results."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rapid_inr.data.moments import ChannelMoments
from rapid_inr.data.reading import Chunk, read_chunks
from rapid_inr.data.source import ImageSource, ids_by_split, keep
from rapid_inr.encoding.encoder import Encoder
from rapid_inr.runlog.progress import Report
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard
from rapid_inr.store.tensor_file import crc32_of

MEASURED = ("psnr_db", "fit_psnr_db", "attempts", "prune_ratio", "converged")


def encode_shard(
    source: ImageSource,
    encoder: Encoder,
    shared: dict[str, Tensor],
    plan: StorePlan,
    number: int,
    *,
    device: torch.device,
    on_corrupt: str = "fail",
    on_progress: Report | None = None,
) -> Shard:
    """Encode one shard of a source; arguments are as for `encode_shards`."""
    positions = plan.shard(number)
    shard = keep(source, slice(positions.start, positions.stop))
    chunks, skipped, moments, fit_s, compress_s = [], {}, (ChannelMoments(), ChannelMoments()), 0.0, 0.0
    for chunk in read_chunks(shard, plan.shard_images, on_corrupt=on_corrupt):
        skipped.update(chunk.skipped)
        if not chunk.images:
            return _empty_shard(number, skipped)
        _count(*moments, chunk, ids_by_split(source.splits).get("train", range(0)))
        encoded, seconds = _encode_chunk(chunk.images, chunk.ids, encoder, shared, device, on_progress)
        fit_s, compress_s = fit_s + seconds[0], compress_s + seconds[1]
        chunks.append(encoded | {"ids": torch.from_numpy(chunk.ids), "labels": label_column(chunk.labels, len(plan.class_names))})
    columns = {name: torch.cat([c[name] for c in chunks]) for name in chunks[0] if chunks[0][name] is not None}
    ids, sizes, measured = columns.pop("ids"), columns.pop("sizes"), {name: columns.pop(name) for name in MEASURED}
    rows, names = encoder.pack(columns), file_names(source, ids.tolist())
    return Shard(number, ids, sizes, rows, crc32_of(shared), measured, *moments, skipped, fit_s, compress_s, names)


def file_names(source: ImageSource, ids: list[int]) -> tuple[str, ...]:
    """Return the names of the images' files, as in `PackedStore`."""
    names = tuple(map(source.file_name, ids))
    return names if any(names) else ()


def _empty_shard(number: int, skipped: dict[int, str]) -> Shard:
    measured = {name: torch.empty(0, dtype=torch.float64) for name in MEASURED}
    measured |= {"attempts": torch.empty(0, dtype=torch.int64), "converged": torch.empty(0, dtype=torch.bool)}
    ids, sizes = torch.empty(0, dtype=torch.int64), torch.empty(0, 2, dtype=torch.int32)
    return Shard(number, ids, sizes, {}, 0, measured, ChannelMoments(), ChannelMoments(), skipped, 0.0, 0.0)


def _count(train: ChannelMoments, others: ChannelMoments, chunk: Chunk, train_ids: range) -> None:
    """Count images of the train split separately, since only these may decide mean and std."""
    ids = chunk.ids.tolist()
    for moments, in_train in ((train, True), (others, False)):  # one call each takes a quarter of the time for small images
        pixels = [image.reshape(-1, 3) for i, image in zip(ids, chunk.images, strict=True) if (i in train_ids) == in_train]
        if pixels:
            moments.add(np.concatenate(pixels))


def label_column(labels: np.ndarray | None, n_classes: int) -> Tensor | None:
    """Return labels in the smallest type of the format for `n_classes`."""
    if labels is None:
        return None
    return torch.from_numpy(labels).to(torch.uint8 if n_classes <= 256 else torch.int16 if n_classes <= 32768 else torch.int32)


def _encode_chunk(
    images: list[np.ndarray],
    ids: np.ndarray,
    encoder: Encoder,
    shared: dict[str, Tensor],
    device: torch.device,
    on_progress: Report | None,
) -> tuple[dict[str, Tensor], tuple[float, float]]:
    """Encode images, grouped by size; return the columns in their order, and the seconds of fit and compression."""
    fit_s, compress_s = 0.0, 0.0
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int32)
    columns: dict[str, Tensor] = {"sizes": torch.from_numpy(sizes)}
    for size in np.unique(sizes, axis=0):
        members = np.flatnonzero((sizes == size).all(1))
        batch, batch_ids = torch.from_numpy(np.stack([images[i] for i in members])), torch.from_numpy(ids[members])
        encoded = encoder.encode(batch, batch_ids, shared, device=device, on_progress=on_progress)
        fit_s, compress_s = fit_s + encoded.fit_s, compress_s + encoded.compress_s
        for name, values in (encoded.columns | encoded.measured).items():
            columns.setdefault(name, values.new_empty((len(images), *values.shape[1:])))[torch.from_numpy(members)] = values
    return columns, (fit_s, compress_s)
