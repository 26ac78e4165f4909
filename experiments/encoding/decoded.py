"""Images as a store decodes them, and how near decoded images are to the originals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from rapid_inr.data import ImageSource
from rapid_inr.data.source import CorruptImage
from rapid_inr.evaluation.metrics import SSIM_WINDOW, psnr_db, ssim
from rapid_inr.store.decode import decode, samples_a_pixel
from rapid_inr.store.packed import PackedStore

SSIM_IMAGES = 256


def as_decoded(source: ImageSource, store: PackedStore, *, size: tuple[int, int] | None = None) -> ImageSource:
    """Return a source whose images are what a store of them decodes to, all of one size if it is given."""
    stored_ids = source.ids.tolist() if store.source_ids is None else store.source_ids.tolist()
    places = {image_id: place for place, image_id in enumerate(stored_ids)}

    def read(image_id: int) -> np.ndarray:
        if image_id not in places:
            raise CorruptImage(f"{source.name_of(image_id)}: is not in the store")
        place = places[image_id]
        supersample = 1 if size is None else samples_a_pixel(store.size_of(place), size)
        image = decode(store, torch.tensor([place]), size=size, supersample=supersample)
        return image[0].permute(1, 2, 0).cpu().numpy()

    return replace(source, read=read)


def measure_decoded(source: ImageSource, store: PackedStore, *, device: torch.device) -> dict[str, float]:
    """Return the mean ``ssim`` of what a store decodes to, and the processor time of a decode, ``decode_cpu_ms``.

    They are of an even sample of its images: of all it would take longer than fits. A GPU has no such time.
    """
    places = np.unique(np.linspace(0, len(store) - 1, min(SSIM_IMAGES, len(store))).round().astype(int))
    sample = store.take(torch.from_numpy(places)).to(device)
    decode_one, spent_s = as_decoded(source, sample).read, []

    def timed(image_id: int) -> np.ndarray:
        began = time.process_time()
        image = decode_one(image_id)
        spent_s.append(time.process_time() - began)
        return image

    means = likeness(sample.source_ids.tolist(), timed, source.read)
    means.pop("psnr_db", None)  # known of all images
    return means if device.type == "cuda" else means | {"decode_cpu_ms": 1e3 * sum(spent_s) / len(spent_s)}


def likeness(ids: Iterable[int], decoded: Callable[[int], np.ndarray], original: Callable[[int], np.ndarray]) -> dict[str, float]:
    """Return the means of ``psnr_db`` and ``ssim`` over images that can be read; SSIM where none is smaller than its window."""
    values: dict[str, list[float]] = {"psnr_db": [], "ssim": []}
    for image_id in ids:
        try:
            pair = [torch.from_numpy(read(image_id))[None] for read in (decoded, original)]
        except CorruptImage:
            continue
        values["psnr_db"].append(psnr_db(*pair).item())
        if min(pair[0].shape[1:3]) >= SSIM_WINDOW:
            values["ssim"].append(ssim(*pair).item())
    n_images = len(values["psnr_db"])
    return {name: sum(column) / n_images for name, column in values.items() if column and len(column) == n_images}
