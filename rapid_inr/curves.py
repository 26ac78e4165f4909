"""Curves of rate and distortion: what is worth drawing of them, and their PSNR at a rate, never beyond their ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """A setting of a codec, and what it costs and gives on a dataset; None where it is not known."""

    bpp: float
    psnr_db: float
    ssim: float | None = None
    setting: str = ""
    run: str = ""


@dataclass(frozen=True)
class Curve:
    """A codec on a dataset.

    Args:
        kind: ``inr``, ``coin`` or ``classical``.
        origin: ``measured``, or where a published curve was taken from.
        published: whether others measured it.
        note: what else a reader must know, such as the steps of a fit.
    """

    dataset: str
    label: str
    kind: str
    points: tuple[CurvePoint, ...]
    published: bool = False
    origin: str = "measured"
    note: str = ""


def front(points: Iterable[CurvePoint]) -> list[CurvePoint]:
    """Return the points that no other beats in both rate and PSNR, by rising rate."""
    best: list[CurvePoint] = []
    for point in sorted(points, key=lambda point: (point.bpp, -point.psnr_db)):
        if not best or point.psnr_db > best[-1].psnr_db:
            best.append(point)
    return best


def psnr_at(points: Sequence[CurvePoint], bpp: float) -> float | None:
    """Return the PSNR at a rate, interpolated on the front over the logarithm of the rate; None outside of its ends."""
    best = front(points)
    for left, right in zip(best, best[1:] or best, strict=False):
        if math.isclose(bpp, left.bpp):
            return left.psnr_db
        if left.bpp < bpp <= right.bpp:
            share = math.log(bpp / left.bpp) / math.log(right.bpp / left.bpp)
            return left.psnr_db + share * (right.psnr_db - left.psnr_db)
    return None
