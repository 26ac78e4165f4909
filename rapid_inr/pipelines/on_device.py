"""The two pipelines whose dataset lives on the device: raw uint8 (`resident`), and packed INRs decoded on demand (`inr`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kernels.sampling import MAX_SUPERSAMPLE
from rapid_inr.decode import decode, one_size
from rapid_inr.pipelines.batches import require_fits
from rapid_inr.pipelines.pipeline import BatchPipeline, Ids, Streamed, normalizer
from rapid_inr.store.packed import PackedStore
from rapid_inr.warp import Geometry


def require_images(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless these are uint8 [N, height, width, 3] and a label for each."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, expected uint8 [N, height, width, 3]")
    if labels.shape[:1] != images.shape[:1]:
        raise ValueError(f"labels are {tuple(labels.shape)}, expected ({len(images)},)")


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
    **options,
) -> BatchPipeline:
    """Keep a packed store on its device and decode each batch as it is asked for.

    Args:
        labels: [N, ...] of any type; by default the classes in the store.
        size: (height, width) to decode at; by default the images' own, which must then be one.
        options: of `BatchPipeline`, `batch_size` at least.

    Raises:
        ValueError: if there are no labels, or not one an image, or the images differ in size and `size` is not given; as
            `BatchPipeline`.
    """
    if labels is None:
        if store.labels is None:
            raise ValueError("the store has no labels, so nothing can be trained from it; encode a labelled dataset")
        labels = store.labels.long()
    if len(labels) != len(store):
        raise ValueError(f"labels are {tuple(labels.shape)}, expected one for each of the {len(store)} images")
    image_size = size or one_size(store, torch.arange(len(store)))
    mean, std = (torch.tensor(values, device=store.device) for values in (store.header.mean, store.header.std))

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids in batches:
            yield Streamed(_decode_moved(store, ids.device, geometry, dtype))

    n_labels_bytes = 0 if store.labels is None else store.labels.nbytes
    return BatchPipeline(
        stream, labels.to(store.device), image_size=image_size, mean=mean, std=std, nbytes=store.nbytes - n_labels_bytes,
        **options,
    )  # fmt: skip


def _decode_moved(store: PackedStore, ids: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Decode images where a geometry has moved them: their INRs are evaluated there, and nothing is resampled."""
    shrunk = max(full / size for full, size in zip(geometry.image_size, geometry.size, strict=True))
    moved = {}
    if geometry.draws is not None:
        moved = {"affine": geometry.decode_maps(ids), "outside": geometry.outside}
    return decode(
        store, ids, size=geometry.size, dtype=dtype, normalize=True, channels_last=True,
        supersample=min(MAX_SUPERSAMPLE, max(1, round(shrunk))), **moved,
    )  # fmt: skip
