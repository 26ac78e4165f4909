"""Sample the augmentation parameters of all images of a dataset for one epoch.

They depend only on (seed, epoch) and the image's position, so an image gets the same ones in every batch, pipeline and process.
Each kind of augmentation has its own random stream, so turning one off does not change the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rapid_inr.errors import UserError, require

PADDINGS = ("reflection", "zeros", "border")
MIXES = ("none", "mixup", "cutmix")
_STREAM = 1  # separates these random numbers from others with the same (seed, epoch)
_SHIFT, _FLIP, _BOX, _ANGLE, _CUTOUT, _COLOUR, _MIX = range(1, 8)  # one stream a kind


@dataclass(frozen=True)
class AugmentConfig:
    """Which augmentations an image gets, and how strong they are.

    Args:
        crop_padding: pixels added on each side before a crop of the original size; 0 for no crop.
        flip: whether to mirror half of the images; ``alternate`` mirrors the other half in every second epoch, so that two epochs
            show each image both ways (Jordan 2024, arXiv 2404.00498).
        padding: padding mode: ``reflection`` (edge not repeated), ``zeros`` (black) or ``border`` (edge repeated).
        scale: (least, most) in (0, 1], the fraction of the image's area that a random resized crop takes; None for no such crop.
        ratio: (least, most) width over height of that crop, in pixels; log-uniform.
        rotation_degrees: images are rotated by up to this angle, either way.
        cutout: side in pixels of a square set to the dataset's mean colour; it may reach beyond the image.
        mix: ``none``; ``mixup`` blends each image with the one before it in the batch; ``cutmix`` pastes a rectangle of that one.
        mix_alpha: the share that an image keeps has the distribution Beta(alpha, alpha).
        brightness: factors are uniform in [1 - brightness, 1 + brightness].
        contrast: likewise, about the image's mean grey.
        saturation: likewise, about each pixel's grey.

    Raises:
        ValueError: if a value is out of range, or both kinds of crop are on.
    """

    crop_padding: int = 4
    flip: bool | str = True
    padding: str = "reflection"
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rotation_degrees: float = 0.0
    cutout: int = 0
    mix: str = "none"
    mix_alpha: float = 0.2
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "crop_padding": (self.crop_padding >= 0, "at least 0"),
            "flip": (self.flip in (True, False, "alternate"), "true, false or alternate"),
            "padding": (self.padding in PADDINGS, f"one of {', '.join(PADDINGS)}"),
            "scale": (
                self.scale is None or (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1),
                "[least, most] in (0, 1], or null",
            ),
            "ratio": (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1], "[least, most], both above 0"),
            "rotation_degrees": (0 <= self.rotation_degrees <= 180, "0 to 180"),
            "cutout": (self.cutout >= 0, "at least 0"),
            "mix": (self.mix in MIXES, f"one of {', '.join(MIXES)}"),
            "mix_alpha": (self.mix_alpha > 0, "above 0"),
            **{name: (0 <= getattr(self, name) <= 1, "0 to 1") for name in ("brightness", "contrast", "saturation")},
        }
        for name, (ok, expected) in checks.items():
            require(ok, f"augment.{name}", repr(getattr(self, name)), expected)
        if self.scale is not None and self.crop_padding:
            raise UserError("augment.scale and augment.crop_padding both crop; set scale=null or crop_padding=0")

    @property
    def jitters(self) -> bool:
        return max(self.brightness, self.contrast, self.saturation) > 0

    @property
    def changes_anything(self) -> bool:
        asked = (self.crop_padding, self.flip, self.scale, self.rotation_degrees, self.cutout, self.mix != "none", self.jitters)
        return any(asked)


@dataclass(frozen=True)
class AugmentParams:
    """The augmentation parameters of each of N images in an epoch; None where an augmentation is off.

    Args:
        shifts: int64 [N, 2], rows and columns by which the crop window moves, in [-crop_padding, crop_padding].
        flips: bool [N].
        boxes: int64 [N, 4], the box of the random resized crop: top, left, height, width in pixels.
        angles: float32 [N], radians, positive for counter-clockwise.
        cutouts: float32 [N, 2], centre of the square as fractions of height and width.
        colours: float32 [N, 3], factors of brightness, contrast and saturation.
        keeps: float32 [N], the share that an image keeps when it is mixed.
        pastes: float32 [N, 2], centre of the pasted rectangle as fractions of height and width.
    """

    shifts: Tensor
    flips: Tensor
    boxes: Tensor | None = None
    angles: Tensor | None = None
    cutouts: Tensor | None = None
    colours: Tensor | None = None
    keeps: Tensor | None = None
    pastes: Tensor | None = None

    def to(self, device: torch.device | str) -> AugmentParams:
        return self._each(lambda tensor: tensor.to(device))

    def __getitem__(self, ids: Tensor) -> AugmentParams:
        """Return the parameters of the images `ids`."""
        return self._each(lambda tensor: tensor[ids])

    def _each(self, change) -> AugmentParams:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return AugmentParams(**{name: None if value is None else change(value) for name, value in values.items()})


def sample_params(n_images: int, config: AugmentConfig, *, seed: int, epoch: int, image_size: tuple[int, int]) -> AugmentParams:
    """Sample the augmentation parameters of every image of a dataset for one epoch, on the CPU.

    Args:
        image_size: (height, width) of the images; only a random resized crop uses it.
    """

    def stream(kind: int, at: int = epoch) -> np.random.Generator:
        return np.random.default_rng((seed, at, _STREAM, kind))

    pad = config.crop_padding
    shifts = stream(_SHIFT).integers(-pad, pad + 1, (n_images, 2)) if pad else np.zeros((n_images, 2), dtype=np.int64)
    alternate = config.flip == "alternate"
    flips = stream(_FLIP, 0 if alternate else epoch).random(n_images) < (0.5 if config.flip else 0)
    params = {"shifts": shifts, "flips": ~flips if alternate and epoch % 2 else flips}
    if config.scale is not None:
        params["boxes"] = _boxes(stream(_BOX), n_images, config.scale, config.ratio, image_size)
    if config.rotation_degrees:
        most = math.radians(config.rotation_degrees)
        params["angles"] = stream(_ANGLE).uniform(-most, most, n_images)
    if config.cutout:
        params["cutouts"] = stream(_CUTOUT).random((n_images, 2))
    if config.jitters:
        ranges = np.array([config.brightness, config.contrast, config.saturation])
        params["colours"] = 1 + stream(_COLOUR).uniform(-1, 1, (n_images, 3)) * ranges
    if config.mix != "none":
        rng = stream(_MIX)
        params |= {"keeps": rng.beta(config.mix_alpha, config.mix_alpha, n_images), "pastes": rng.random((n_images, 2))}
    return AugmentParams(**{name: _tensor(values) for name, values in params.items()})


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values)


def _boxes(
    rng: np.random.Generator, n_images: int, scale: tuple[float, float], ratio: tuple[float, float], image_size: tuple[int, int]
) -> np.ndarray:
    """Draw crops in whole pixels, int64 [N, 4]: area uniform, ratio log-uniform over the ratios that fit the image.

    Torchvision draws again until a crop fits, which favours small crops.
    """
    height, width = image_size
    area = rng.uniform(*scale, n_images) * height * width
    least = np.clip(area / height**2, *ratio)  # the ratio of a crop as high as the image; a narrower one does not fit
    most = np.clip(width**2 / area, *ratio)
    lean = np.exp(np.log(least) + rng.random(n_images) * (np.log(np.maximum(least, most)) - np.log(least)))
    wide = np.clip(np.rint(np.sqrt(area * lean)), 1, width)
    high = np.clip(np.rint(np.sqrt(area / lean)), 1, height)
    top = np.floor(rng.random(n_images) * (height - high + 1))
    left = np.floor(rng.random(n_images) * (width - wide + 1))
    return np.stack([top, left, high, wide], axis=1).astype(np.int64)
