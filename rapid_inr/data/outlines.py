"""The outlines of the generated shapes, as signed distances: negative inside, in units of the shape's radius.

Each takes float32 arrays x (to the right) and y (downwards). Near the outline, the distance is exact or nearly so, which is all
that computing a pixel's coverage needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.9


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.float32(3**0.5 / 2) * np.abs(x) - 0.5 * y, y) - 0.5


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # five points: fold the plane into half a point, then take the distance to its one edge
    sector = np.float32(np.pi / 5)
    angle = np.abs((np.arctan2(x, y) + sector) % (2 * sector) - sector)
    r = np.hypot(x, y)
    # the edge runs from the tip (1, 0) to the notch at 0.42 of the radius
    along, across = 0.42 * math.cos(math.pi / 5) - 1, 0.42 * math.sin(math.pi / 5)
    length = math.hypot(along, across)
    return (r * np.cos(angle) - 1) * (across / length) - r * np.sin(angle) * (along / length)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(a - 0.95, b - 0.3), np.maximum(a - 0.3, b - 0.95))


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.22


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x + 0.1, y) - 0.95, 0.75 - np.hypot(x - 0.4, y))


def _half_disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y + 0.4) - 0.95, -0.4 - y)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # two discs side by side above a square on its corner
    a = np.abs(x)
    lobe = np.hypot(a - 0.44, y + 0.3) - 0.5
    tip = np.maximum(np.float32(0.5**0.5) * (a + y) - 0.67, -y - 0.3)
    return np.minimum(lobe, np.maximum(tip, a - 0.94))


def _bow_tie(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = np.abs(x)
    return np.maximum(a - 0.95, (np.abs(y) - 0.85 * a - 0.06) * np.float32(0.76))


_ALL = (_disc, _square, _triangle, _star, _cross, _ring, _crescent, _half_disc, _heart, _bow_tie)
OUTLINES: dict[str, Outline] = {outline.__name__[1:]: outline for outline in _ALL}
