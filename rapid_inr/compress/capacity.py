"""How many images a GPU's memory holds: the bytes of rows before anything is fitted, and projections of what was measured.

A projection multiplies: bytes and milliseconds an image, measured on some images, times the number of images. It holds as far as
the images are alike, and the time as far as the machine is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernels.rows import packed_bytes
from kernels.spec import SirenSpec, end_sections, n_ends
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.errors import UserError

IMAGENET_IMAGES = 1_281_167  # of the training set (Russakovsky et al. 2015, table 2)
GB = 1e9


def dense_row_bytes(spec: SirenSpec, config: QuantizeConfig) -> int:
    """Return what an image takes on the device where nothing is pruned: codes, ends and its own scales."""
    codes = packed_bytes(spec.n_hidden_weights, config.bits) if config.is_integer else spec.n_hidden_weights * config.bits // 8
    own_scales = math.prod(config.scales_shape(1, spec)[1:]) if config.granularity != "dataset" and config.is_integer else 0
    end_scales = len(end_sections(spec)) if config.ends_bits == 8 else 0
    return codes + n_ends(spec) * config.ends_bits // 8 + (own_scales + end_scales) * config.scales_dtype.itemsize


@dataclass(frozen=True)
class Constants:
    """What was measured, an image.

    Args:
        raw_bytes: height x width x 3.
        inr_bytes: of the store's tensors on the device.
        encode_ms: fitting and compressing.
        decode_images_per_s: of the pipeline that feeds a network from INRs, or None.
    """

    raw_bytes: float
    inr_bytes: float
    encode_ms: float
    decode_images_per_s: float | None = None


@dataclass(frozen=True)
class Projection:
    """What the constants mean for a dataset and a card; bytes in GB of 10^9.

    Args:
        raw_fit_images: raw images that the card holds, of any number.
        inr_fit_images: images as INRs that it holds.
        raw_fit_pct: share of the dataset that it holds raw.
        inr_fit_pct: likewise as INRs.
        encode_hours: for the dataset, on the machine that was measured.
        decode_s: of an epoch, on that machine; None where no decode was measured.
    """

    raw_gb: float
    inr_gb: float
    raw_fit_images: int
    inr_fit_images: int
    raw_fit_pct: float
    inr_fit_pct: float
    encode_hours: float
    decode_s: float | None


def fitting_images(*, memory_gb: float, image_bytes: float) -> int:
    """Return how many images of so many bytes a memory holds."""
    return math.floor(memory_gb * GB / image_bytes)


def project(constants: Constants, *, images: int, card_gb: float, reserve_gb: float) -> Projection:
    """Project what was measured to a dataset of `images` on a card.

    Args:
        reserve_gb: of the card, for the network, its activations and the batches.

    Raises:
        ValueError: if a number is out of range, or the reserve leaves no memory.
    """
    for name, value in (("images", images), ("card_gb", card_gb)):
        if value <= 0:
            raise UserError(f"{name} is {value}, expected above 0")
    if not 0 <= reserve_gb < card_gb:
        raise UserError(f"reserve_gb is {reserve_gb:g}, expected at least 0 and less than card_gb={card_gb:g}")
    raw, inr = (
        fitting_images(memory_gb=card_gb - reserve_gb, image_bytes=size) for size in (constants.raw_bytes, constants.inr_bytes)
    )
    speed = constants.decode_images_per_s
    return Projection(
        raw_gb=images * constants.raw_bytes / GB, inr_gb=images * constants.inr_bytes / GB,
        raw_fit_images=raw, inr_fit_images=inr,
        raw_fit_pct=100 * min(raw, images) / images, inr_fit_pct=100 * min(inr, images) / images,
        encode_hours=images * constants.encode_ms / 3.6e6, decode_s=None if speed is None else images / speed,
    )  # fmt: skip
