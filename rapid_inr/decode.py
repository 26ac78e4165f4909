"""Decode images from a store, at their own size or any other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from kernels.decoder import decoder_for
from rapid_inr.coords import pixel_affine
from rapid_inr.metrics import images_at_once
from rapid_inr.store.packed import PackedStore


def decode(
    store: PackedStore,
    ids: Tensor,
    *,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.uint8,
    normalize: bool = False,
    channels_last: bool = False,
) -> Tensor:
    """Decode a batch of images on the store's device.

    Args:
        ids: int64 [B], positions in the store, in any order, repeated or not. Those on a GPU are not checked, since that would
            wait for it: an id out of range is a black image or an error of the device.
        size: (height, width) of the result; by default the images' own, which must then be one. With a size, or in a store of
            one size, ids on the store's GPU are decoded without waiting for it.
        dtype: uint8, or float16, bfloat16 or float32 with values in [0, 1] rounded to 8 bits.
        normalize: whether to subtract the store's mean and divide by its std; not with uint8.

    Returns:
        [B, 3, height, width].

    Raises:
        ValueError: if `ids` is empty or, on the CPU, out of range, or the images differ in size and `size` is not given.
    """
    if len(ids) == 0 or (ids.device.type == "cpu" and not 0 <= int(ids.min()) <= int(ids.max()) < len(store)):
        raise ValueError(f"ids are empty or out of range, expected positions in 0..{len(store) - 1}")
    height, width = size or one_size(store, ids)
    header = store.header
    return decoder_for(store.device, header.spec)(
        store.rows, ids.to(store.device), _affine_on(height, width, store.device),
        spec=header.spec, height=height, width=width, dtype=dtype, channels_last=channels_last,
        mean=header.mean if normalize else None, std=header.std if normalize else None,
    )  # fmt: skip


@lru_cache  # a copy to a GPU waits for it, too long for every batch
def _affine_on(height: int, width: int, device: torch.device) -> Tensor:
    return pixel_affine(height, width).to(device)


def one_size(store: PackedStore, ids: Tensor) -> tuple[int, int]:
    """Return the (height, width) that the images share.

    Raises:
        ValueError: if they differ.
    """
    if store.header.size is not None:
        return store.header.size
    sizes = store.sizes[ids.to(store.device)]
    if not bool((sizes == sizes[0]).all()):
        raise ValueError("the images of the batch differ in size; give the size to decode at, for instance size=[224,224]")
    return tuple(sizes[0].tolist())


def decode_each(
    store: PackedStore, *, size: tuple[int, int] | None = None, limit: int | None = None, batch_size: int = 256
) -> Iterator[Tensor]:
    """Decode the images in order, the first `limit` or all, uint8 [height, width, 3] on the CPU.

    Args:
        batch_size: images decoded at once, at most; large ones are fewer.
    """
    ids = torch.arange(min(len(store), limit or len(store)))
    if size is not None or store.header.size is not None:
        runs = (ids,)
    else:  # runs of equal size keep the order
        changes = (store.sizes[: len(ids)].diff(dim=0) != 0).any(1).nonzero().flatten() + 1
        runs = ids.tensor_split(changes.cpu())
    for run in runs:
        height, width = size or store.size_of(int(run[0]))
        for batch in run.split(min(batch_size, images_at_once(height * width))):
            yield from decode(store, batch, size=(height, width)).permute(0, 2, 3, 1).cpu()
