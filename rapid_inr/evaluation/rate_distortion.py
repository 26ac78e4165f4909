"""Rate-distortion curves: their front, their envelope, and their PSNR at a given rate, without extrapolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """The rate and quality of a codec at one setting on a dataset; None where unknown.

    Args:
        branch: the mode of the setting, such as its chroma subsampling; nothing is interpolated between modes.
    """

    bpp: float
    psnr_db: float
    ssim: float | None = None
    setting: str = ""
    branch: str = ""
    run: str = ""


@dataclass(frozen=True)
class Curve:
    """The curve of a codec on a dataset.

    Args:
        kind: ``inr``, ``coin`` or ``classical``.
        origin: ``measured``, or the source of a published curve.
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
    """Return the Pareto front, by rising rate: the points that no other point beats in both rate and PSNR."""
    best: list[CurvePoint] = []
    for point in sorted(points, key=lambda point: (point.bpp, -point.psnr_db)):
        if not best or point.psnr_db > best[-1].psnr_db:
            best.append(point)
    return best


def psnr_at(points: Sequence[CurvePoint], bpp: float) -> float | None:
    """Return the PSNR of the best branch at a rate; None where no branch reaches that rate.

    Within a branch, the PSNR is interpolated on the front over the logarithm of the rate.
    """
    branches = (front(p for p in points if p.branch == branch) for branch in {p.branch for p in points})
    return max((psnr for best in branches if (psnr := _interpolated(best, bpp)) is not None), default=None)


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
    """Return (rate, PSNR) by `psnr_at` at the rate of each point, leaving out those where PSNR does not rise."""
    line: list[tuple[float, float]] = []
    for rate in sorted({p.bpp for p in points}):
        psnr = psnr_at(points, rate)
        if psnr is not None and (not line or psnr > line[-1][1]):
            line.append((rate, psnr))
    return line
