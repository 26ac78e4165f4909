"""The two pipelines whose dataset lives on the device: raw uint8 (`resident`), and packed INRs decoded on demand (`inr`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError
from rapid_inr.pipelines.batches import require_fits
from rapid_inr.pipelines.pipeline import BatchPipeline, Ids, Streamed, normalizer
from rapid_inr.pipelines.sharded import Fetched, ShardedStore
from rapid_inr.store.decode import decode, one_size, samples_a_pixel, stored_size
from rapid_inr.store.packed import PackedStore


def require_images(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless these are uint8 [N, height, width, 3] and a label for each."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"images are {images.dtype} {tuple(images.shape)}, expected uint8 [N, height, width, 3]")
    if labels.shape[:1] != images.shape[:1]:
        raise UserError(f"labels are {tuple(labels.shape)}, expected ({len(images)},)")


def resident_pipeline(
    images: Tensor,
    labels: Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    **options,
) -> BatchPipeline:
    """Keep raw images on the device: the rival that no decoder can beat while the dataset fits.

    Args:
        images: uint8 [N, height, width, 3].
        labels: [N, ...] of any type.
        mean: per channel, of values in [0, 1].
        std: likewise.
        options: of `BatchPipeline`, `batch_size` at least.

    Raises:
        ValueError: if the images are not uint8 [N, height, width, 3], or the labels are not one an image; as `BatchPipeline`.
        DeviceTooSmall: if they do not fit the memory of the device.
    """
    device = torch.device(device)
    require_images(images, labels)
    require_fits(images.nbytes, n_images=len(images), device=device, what="the raw images")
    images = images.to(device)
    mean, std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    normalize = normalizer(mean, std, dtype)

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids in batches:
            yield Streamed(geometry.apply(normalize(images[ids.device]), ids.device))

    return BatchPipeline(
        stream, labels.to(device), image_size=tuple(images.shape[1:3]), mean=mean, std=std, nbytes=images.nbytes, **options
    )


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
    """Keep a packed store on a device and decode each batch as it is asked for.

    Args:
        labels: [N, ...] of any type; by default the classes in the store.
        size: (height, width) to decode at; by default the images' own, which must then be one.
        device: where the store is to lie; None for where it is.
        shard_store: whether each of the processes of torch.distributed keeps only its share of the store, as `ShardedStore`, and
            fetches the others' rows batch by batch; images, order and augmentation stay what they are.
        options: of `BatchPipeline`, `batch_size` at least.

    Raises:
        ValueError: if there are no labels, or not one an image, or the images differ in size and `size` is not given; as
            `BatchPipeline` and `ShardedStore`.
        DeviceTooSmall, StoreTooLarge: if the share, or the store, does not fit the memory of the device.
    """
    if labels is None:
        if store.labels is None:
            raise UserError("the store has no labels, so nothing can be trained from it; encode a labelled dataset")
        labels = store.labels.long()
    if len(labels) != len(store):
        raise UserError(f"labels are {tuple(labels.shape)}, expected one for each of the {len(store)} images")
    image_size, stored = size or one_size(store, torch.arange(len(store))), stored_size(store)
    device = store.device if device is None else device
    if shard_store:
        place = {"rank": options.get("rank", 0), "world_size": options.get("world_size", 1)}
        held = ShardedStore(store, device=device, **place)
        nbytes = held.nbytes
    else:
        held = store.to(device)
        nbytes = held.nbytes - (0 if held.labels is None else held.labels.nbytes)
    mean, std = (torch.tensor(values, device=held.device) for values in (store.header.mean, store.header.std))

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids, (images, places) in zip(batches, _held_images(held, batches), strict=True):
            yield Streamed(_decode_moved(images, places, ids.device, geometry, dtype, stored=stored))

    return BatchPipeline(
        stream, labels.to(held.device), image_size=image_size, mean=mean, std=std, nbytes=nbytes, together=shard_store, **options
    )


def _held_images(held: PackedStore | ShardedStore, batches: Sequence[Ids]) -> Iterator[tuple[PackedStore | Fetched, Tensor]]:
    """Yield for each batch what its images can be decoded from, and where they are in it."""
    return held.fetch(batches) if isinstance(held, ShardedStore) else ((held, ids.device) for ids in batches)


def _decode_moved(
    store: PackedStore | Fetched, places: Tensor, ids: Tensor, geometry: Geometry, dtype: torch.dtype, *,
    stored: tuple[float, float],
) -> Tensor:  # fmt: skip
    """Decode images where a geometry has moved them: their INRs are evaluated there, and nothing is resampled.

    Args:
        places: where the images are in `store`.
        ids: by which the geometry knows them.
        stored: (height, width) of the images, for a smaller result must not alias.
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
