"""Curves of rate and distortion: what is worth drawing of them, and their PSNR at a rate, never beyond their ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """A setting of a codec, and what it costs and gives on a dataset; None where it is not known.

    Args:
        branch: the mode that the setting belongs to, such as a chroma subsampling; between two modes nothing is interpolated.
    """

    bpp: float
    psnr_db: float
    ssim: float | None = None
    setting: str = ""
    branch: str = ""
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
    """Return the PSNR at a rate, of the branch that is best there; None beyond the ends of all.

    Within a branch it is interpolated on the front, over the logarithm of the rate.
    """
    branches = (front(p for p in points if p.branch == branch) for branch in {p.branch for p in points})
    found = [psnr for psnr in (_interpolated(best, bpp) for best in branches) if psnr is not None]
    return max(found, default=None)


def _interpolated(best: Sequence[CurvePoint], bpp: float) -> float | None:
    for left, right in zip(best, best[1:] or best, strict=False):
        for end in (left, right):
            if math.isclose(bpp, end.bpp):
                return end.psnr_db
        if left.bpp < bpp < right.bpp:
            share = math.log(bpp / left.bpp) / math.log(right.bpp / left.bpp)
            return left.psnr_db + share * (right.psnr_db - left.psnr_db)
    return None


def envelope(points: Sequence[CurvePoint]) -> list[tuple[float, float]]:
    """Return rates and PSNR as `psnr_at` has them, at every rate of a point, as far as they rise."""
    line: list[tuple[float, float]] = []
    for rate in sorted({p.bpp for p in points}):
        psnr = psnr_at(points, rate)
        if psnr is not None and (not line or psnr > line[-1][1]):
            line.append((rate, psnr))
    return line
