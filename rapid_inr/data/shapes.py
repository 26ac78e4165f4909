"""Generated images: a shape in front of a background, with a class label and a segmentation mask.

The background is 1/f noise, which has the spectrum of photographs (Field 1987), with a colour gradient. The shape has a random
pose, colour and texture. A bar or a blob may cover it; uneven light, slight blur and noise are added. The class is the kind of
shape and, beyond ten classes, its texture. Image i depends on (seed, split, i) and the options, but not on the number of images.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from rapid_inr.data.outlines import OUTLINES
from rapid_inr.data.source import ImageSource, of_splits, require_split
from rapid_inr.errors import require

TEXTURES = ("mottled", "striped")
MAX_CLASSES = len(OUTLINES) * len(TEXTURES)
_SPLIT_CODE = {"train": 0, "test": 1}


def shapes(
    split: str,
    *,
    count: int = 2000,
    test_count: int = 500,
    classes: int = 10,
    size: int | Sequence[int] = 32,
    seed: int = 0,
) -> ImageSource:
    """Make a source of generated images; image i is of class i modulo `classes`.

    Args:
        count: images in train.
        test_count: images in test.
        classes: 2 to 20; up to 10, a class is a kind of shape; beyond, a kind of shape with one of two textures.
        size: side of a square image, or (height, width); at least 8.

    Raises:
        ValueError: if an argument is out of range.
    """
    require_split(split)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    require(count >= 1, "dataset.count", count, "at least 1")
    require(test_count >= 1, "dataset.test_count", test_count, "at least 1")
    require(2 <= classes <= MAX_CLASSES, "dataset.classes", classes, f"in 2..{MAX_CLASSES}")
    require(seed >= 0, "dataset.seed", seed, "at least 0")
    require(len(sides) == 2 and min(sides) >= 8, "dataset.size", size, "a side of at least 8, or (height, width)")
    counts = {key: n for key, n in (("train", count), ("test", test_count)) if split in (key, "all")}
    n_train = counts.get("train", 0)

    def render(image_id: int) -> tuple[np.ndarray, np.ndarray]:
        split, index = ("train", image_id) if image_id < n_train else ("test", image_id - n_train)
        return _render(int(sides[0]), int(sides[1]), classes, seed, split, index)

    return of_splits(
        "shapes",
        split,
        counts,
        labels=np.concatenate([np.arange(n) % classes for n in counts.values()]),
        class_names=_class_names(classes),
        read=lambda image_id: render(image_id)[0],
        read_mask=lambda image_id: render(image_id)[1],
        offset=count if split == "test" else 0,
    )


def _class_names(classes: int) -> tuple[str, ...]:
    kinds = tuple(OUTLINES)
    if classes <= len(kinds):
        return kinds[:classes]
    return tuple(f"{TEXTURES[label // len(kinds)]} {kinds[label % len(kinds)]}" for label in range(classes))


def _render(height: int, width: int, classes: int, seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the image, uint8 [height, width, 3], and the mask, uint8 [height, width], of one scene."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SPLIT_CODE[split], index])))
    label = index % classes
    texture = label // len(OUTLINES) if classes > len(OUTLINES) else int(rng.integers(len(TEXTURES)))
    rows, columns = _pixel_grid(height, width)
    noise = _pink_noise(rng, height, width)  # [4, height, width]

    image = _background(rng, rows, columns, noise)
    cover = _shape_cover(rng, rows, columns, label % len(OUTLINES))
    paint = _paint(rng, rows, columns, noise[3], texture, image.mean(axis=(1, 2)))
    image += cover * (paint - image)
    visible = cover
    for _ in range(int(rng.integers(0, 2))):
        front = _bar_cover(rng, rows, columns)
        image += front * ((_colour(rng) + 0.08 * noise[int(rng.integers(3))]) - image)
        visible = visible * (1 - front)

    light = 1 + rng.uniform(-0.35, 0.35) * rows + rng.uniform(-0.35, 0.35) * columns
    image = _blur(image * light, rng.uniform(0, 0.2))
    image += rng.uniform(0, 0.02) * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    mask = np.where(visible > 0.5, label + 1, 0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), mask


@functools.lru_cache(maxsize=8)
def _pixel_grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [height, 1] and columns [1, width], float32, where the shorter side spans -1 to 1."""
    scale = 1 / min(height, width)
    rows = ((2 * np.arange(height) + 1 - height) * scale).astype(np.float32)[:, None]
    columns = ((2 * np.arange(width) + 1 - width) * scale).astype(np.float32)[None, :]
    rows.flags.writeable = columns.flags.writeable = False
    return rows, columns


@functools.lru_cache(maxsize=8)
def _log_frequency(height: int, width: int) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf  # zero mean, since the colours are chosen elsewhere
    return np.log(frequency).astype(np.float32)


def _pink_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return four fields of standard deviation 1 whose amplitude falls as 1/f^a, a around 1.3: float32 [4, height, width]."""
    white = rng.standard_normal((4, height, width // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    amplitude = np.exp(-rng.uniform(1.0, 1.6) * _log_frequency(height, width))
    fields = np.fft.irfft2(white * amplitude, s=(height, width)).astype(np.float32)
    return fields / fields.std(axis=(1, 2), keepdims=True)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Return a colour [3, 1, 1] typical of photographs: any lightness, mostly low saturation."""
    colour = rng.uniform(0.1, 0.9) + 0.3 * rng.uniform(0, 1) * rng.uniform(-1, 1, size=3)
    return np.clip(colour, 0.02, 0.98).astype(np.float32)[:, None, None]


def _direction(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the distance along a random direction, [height, width]."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.float32(np.sin(angle)) * rows + np.float32(np.cos(angle)) * columns


def _background(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, noise: np.ndarray) -> np.ndarray:
    start, end = _colour(rng), _colour(rng)
    ramp = np.clip(0.5 + 0.5 * _direction(rng, rows, columns), 0, 1)
    image = start + (end - start) * ramp  # [3, height, width]
    tint = rng.uniform(-0.03, 0.03, size=(3, 1, 1)).astype(np.float32)
    return image + rng.uniform(0.04, 0.12) * noise[0] + tint * noise[1]


def _pixel_side(rows: np.ndarray) -> float:
    return float(rows[1, 0] - rows[0, 0])


def _shape_cover(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, kind: int) -> np.ndarray:
    """Return the fraction of each pixel that the shape covers, [height, width]."""
    radius = rng.uniform(0.5, 0.85)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    angle = rng.uniform(-0.7, 0.7)  # objects in photographs are mostly upright
    reach = 1.0 - 0.8 * radius  # the shape may be slightly cut off at the border
    limits = np.maximum(reach, [-rows[0, 0] - 1 + reach, -columns[0, 0] - 1 + reach])
    row, column = rows - np.float32(rng.uniform(-1, 1) * limits[0]), columns - np.float32(rng.uniform(-1, 1) * limits[1])
    cosine, sine = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    x = (cosine * column + sine * row) * np.float32(stretch)
    y = (cosine * row - sine * column) / np.float32(stretch)
    outside = tuple(OUTLINES.values())[kind](x, y)  # signed distance in units of the radius, negative inside
    return np.clip(0.5 - outside * np.float32(radius / _pixel_side(rows)), 0, 1)


def _paint(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, noise: np.ndarray, texture: int, behind: np.ndarray
) -> np.ndarray:
    """Return the surface of the shape, [3, height, width], in a colour that differs from the mean colour `behind` it."""
    colour = _colour(rng)
    while np.abs(colour[:, 0, 0] - behind).max() < 0.25:
        colour = _colour(rng)
    shade = 1 + rng.uniform(0.05, 0.3) * _direction(rng, rows, columns)
    if TEXTURES[texture] == "striped":
        period = max(rng.uniform(0.2, 0.5), 4 * _pixel_side(rows))
        wave = np.sin(2 * np.pi / period * (_direction(rng, rows, columns) + 0.05 * noise))
        return colour * shade + rng.uniform(0.06, 0.12) * wave
    return colour * shade + rng.uniform(0.02, 0.08) * noise


def _bar_cover(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the fraction of each pixel that a bar or a blob in front covers, [height, width]."""
    if rng.random() < 0.5:
        across = np.abs(_direction(rng, rows, columns) - np.float32(rng.uniform(-0.7, 0.7)))
        distance = across - np.float32(rng.uniform(0.03, 0.1))
    else:
        row, column = rng.uniform(-1, 1, size=2).astype(np.float32)
        distance = np.hypot(rows - row, columns - column) - np.float32(rng.uniform(0.1, 0.3))
    return np.clip(0.5 - distance / np.float32(_pixel_side(rows)), 0, 1)


def _blur(image: np.ndarray, weight: float) -> np.ndarray:
    """Blur by the filter (weight, 1 - 2 weight, weight) along rows and columns, with repeated borders."""
    w = np.float32(weight)
    for axis in (1, 2):
        first, last = image.take([0], axis), image.take([-1], axis)
        padded = np.concatenate([first, image, last], axis)
        inner = [slice(None)] * 3
        inner[axis] = slice(0, -2)
        before = padded[tuple(inner)]
        inner[axis] = slice(2, None)
        image = (1 - 2 * w) * image + w * (before + padded[tuple(inner)])
    return image
