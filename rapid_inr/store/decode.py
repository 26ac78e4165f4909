"""Decode images from a store, at their original size or any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from kernels.decode.sampling import MAX_SUPERSAMPLE
from kernels.rows import TensorRows
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import images_at_once
from rapid_inr.inr.coords import pixel_affine, pixel_edges
from rapid_inr.store.packed import PackedStore, StoreHeader

BATCH_IMAGES = 256  # most images that `decode_each` decodes at once; fewer if they are large


@dataclass(frozen=True, eq=False)
class Fetched:
    """Images fetched from the shares of several processes, with all that `decode` reads of a store.

    Args:
        header: of the store.
        rows: of these images.
        sizes: int32 [B, 2] (height, width), or None if `header.size` holds for all.
    """

    header: StoreHeader
    rows: TensorRows
    sizes: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rows.device


def decode(
    store: PackedStore | Fetched,
    ids: Tensor,
    *,
    size: tuple[int, int] | None = None,
    affine: Tensor | None = None,
    padding: str = "none",
    supersample: int = 1,
    dtype: torch.dtype = torch.uint8,
    normalize: bool = False,
    channels_last: bool = False,
) -> Tensor:
    """Decode a batch of images on the store's device.

    Args:
        ids: int64 [B], positions in the store, in any order, with or without repeats. Ids on a GPU are not checked, since that
            would wait for it: an id out of range gives a black image or a device-side error.
        size: (height, width) of the result; by default the size of the images, which must be the same for all. With a size, or in
            a store of one size, ids on the store's GPU are decoded without waiting for the device.
        affine: float32 [2, 3] or [B, 2, 3] on the store's device, the map from (row, column, 1) of a pixel of the result to a
            coordinate, from `rapid_inr.augment.affine.to_coords`; None for the whole image.
        padding: padding mode: ``none`` (the INR's value), ``zeros`` (black), ``reflection`` or ``border``.
        supersample: n for the mean of n x n samples a pixel, for maps that shrink.
        dtype: uint8, or float16, bfloat16 or float32 with values in [0, 1] rounded to 8 bits.
        normalize: whether to subtract the store's mean and divide by its std; not with uint8.

    Returns:
        [B, 3, height, width].

    Raises:
        ValueError: if `ids` is empty or, on the CPU, out of range, or the images differ in size and `size` is None; as
            `decode_siren`.
    """
    if len(ids) == 0 or (ids.device.type == "cpu" and not 0 <= int(ids.min()) <= int(ids.max()) < len(store)):
        raise UserError(f"ids are empty or out of range, expected positions in 0..{len(store) - 1}")
    height, width = size or one_size(store, ids)
    header, code, ids = store.header, store.header.code, ids.to(store.device)
    # the network's autocast must not change the precision of the decode
    with torch.autocast(store.device.type, enabled=False):
        return code.decode(
            store.rows, ids, _affine_on(height, width, store.device) if affine is None else affine,
            spec=code.spec, height=height, width=width, dtype=dtype, channels_last=channels_last,
            padding=padding, edges=None if padding == "none" else _edges(store, ids), supersample=supersample,
            mean=header.mean if normalize else None, std=header.std if normalize else None,
        )  # fmt: skip


@cache  # a copy to the GPU in every batch would wait for it, and a captured CUDA graph reads this memory
def _affine_on(height: int, width: int, device: torch.device) -> Tensor:
    return pixel_affine(height, width).to(device)


def _edges(store: PackedStore | Fetched, ids: Tensor) -> Tensor:
    """Return the coordinates of the outermost pixel centres, [2] if they are the same for all, else [B, 2]."""
    if store.header.size is not None:
        return _edges_on(*store.header.size, store.device)
    return pixel_edges(store.sizes.index_select(0, ids))


@cache  # as above
def _edges_on(height: int, width: int, device: torch.device) -> Tensor:
    return pixel_edges(torch.tensor([height, width])).to(device)


def one_size(store: PackedStore | Fetched, ids: Tensor) -> tuple[int, int]:
    """Return the (height, width) that the images share.

    Raises:
        ValueError: if they differ.
    """
    if store.header.size is not None:
        return store.header.size
    sizes = store.sizes[ids.to(store.device)]
    if not bool((sizes == sizes[0]).all()):
        raise UserError("the images of the batch differ in size; give the size to decode at, for instance size=[224,224]")
    return tuple(sizes[0].tolist())


def samples_a_pixel(stored: tuple[float, float], size: tuple[int, int]) -> int:
    """Return the `supersample` that avoids aliasing of images of (height, width) `stored` at a smaller `size`."""
    shrunk = max(full / shown for full, shown in zip(stored, size, strict=True))
    return min(MAX_SUPERSAMPLE, max(1, round(shrunk)))


def stored_size(store: PackedStore | Fetched) -> tuple[float, float]:
    """Return the (height, width) of the images of a store, or their mean if they differ."""
    if store.header.size is not None:
        return store.header.size
    return tuple(store.sizes.float().mean(0).tolist())


def decode_each(store: PackedStore, *, size: tuple[int, int] | None = None, limit: int | None = None) -> Iterator[Tensor]:
    """Decode the first `limit` images, or all, in order: uint8 [height, width, 3] on the CPU."""
    ids = torch.arange(min(len(store), limit or len(store)))
    if size is not None or store.header.size is not None:
        runs = (ids,)
    else:  # runs of equal size keep the order
        changes = (store.sizes[: len(ids)].diff(dim=0) != 0).any(1).nonzero().flatten() + 1
        runs = ids.tensor_split(changes.cpu())
    for run in runs:
        height, width = size or store.size_of(int(run[0]))
        stored = (height, width) if size is None else stored_size(store)
        for batch in run.split(min(BATCH_IMAGES, images_at_once(height * width))):
            images = decode(store, batch, size=(height, width), supersample=samples_a_pixel(stored, (height, width)))
            yield from images.permute(0, 2, 3, 1).cpu()
