"""The pipeline `inr`: packed INRs in the device's memory, decoded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, Ids, Streamed
from rapid_inr.pipelines.sharded import ShardedStore
from rapid_inr.store.decode import Fetched, decode, one_size, samples_a_pixel, stored_size
from rapid_inr.store.packed import PackedStore


def inr_pipeline(
    store: PackedStore,
    *,
    labels: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
    device: torch.device | str | None = None,
    shard_store: bool = False,
    **options,
) -> BatchPipeline:
    """Make a pipeline that keeps a packed store on a device and decodes each batch when needed.

    Args:
        labels: [N, ...] of any type; by default the store's classes.
        size: (height, width) to decode at; by default the size of the images, which must be the same for all.
        device: to keep the store on; None for the store's device.
        shard_store: whether each process of torch.distributed keeps only its share of the store, as `ShardedStore`, and fetches
            the other rows batch by batch; images, order and augmentation stay the same.
        options: of `BatchPipeline`, at least `batch_size`.

    Raises:
        ValueError: if labels are missing or not one an image, or images differ in size and `size` is None; as `BatchPipeline` and
            `ShardedStore`.
        DeviceTooSmall, StoreTooLarge: if the share, or the store, does not fit the memory of the device.
    """
    labels = _require_labels(store, labels)
    image_size, stored = size or one_size(store, torch.arange(len(store))), stored_size(store)
    device = store.device if device is None else device
    if shard_store:
        ranks = {"rank": options.get("rank", 0), "world_size": options.get("world_size", 1)}
        held = ShardedStore(store, device=device, **ranks)
        nbytes = held.nbytes
    else:
        held = store.to(device)
        nbytes = held.nbytes - (0 if held.labels is None else held.labels.nbytes)
    mean, std = (torch.tensor(values, device=held.device) for values in (store.header.mean, store.header.std))

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        of_each = held.fetch(batches) if shard_store else ((held, ids.device) for ids in batches)
        for ids, (images, places) in zip(batches, of_each, strict=True):
            yield Streamed(_decode_moved(images, places, ids.device, geometry, dtype, stored=stored))

    return BatchPipeline(
        stream, labels.to(held.device), image_size=image_size, mean=mean, std=std, nbytes=nbytes, together=shard_store,
        compiles=True, **options,
    )  # fmt: skip


def _require_labels(store: PackedStore, labels: Tensor | None) -> Tensor:
    """Return the labels of a store's images, by default those in the store."""
    if labels is None:
        if store.labels is None:
            raise UserError("the store has no labels; pass labels=..., one for each image, or encode a labelled dataset")
        labels = store.labels.long()
    if len(labels) != len(store):
        raise UserError(f"labels are {tuple(labels.shape)}, expected one for each of the {len(store)} images")
    return labels


def _decode_moved(
    store: PackedStore | Fetched, places: Tensor, ids: Tensor, geometry: Geometry, dtype: torch.dtype, *,
    stored: tuple[float, float],
) -> Tensor:  # fmt: skip
    """Decode images straight into their augmented geometry, without resampling.

    Args:
        places: positions of the images in `store`.
        ids: positions of the images in the geometry.
        stored: (height, width) of the images, for antialiasing of smaller results.
    """
    if len(ids) == 0:
        return torch.empty((0, 3, *geometry.size), dtype=dtype, device=ids.device)
    moved = {}
    if geometry.params is not None:
        moved = {"affine": geometry.decode_maps(ids), "padding": geometry.padding}
    return decode(
        store, places, size=geometry.size, dtype=dtype, normalize=True, channels_last=True,
        supersample=samples_a_pixel(stored, geometry.size), **moved,
    )  # fmt: skip
