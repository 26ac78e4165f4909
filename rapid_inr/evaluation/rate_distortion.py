"""Rate-distortion curves: their front, their envelope, and their PSNR at a given rate, without extrapolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MEASURED = ("psnr_db", "ssim", "encode_ms", "decode_ms")  # of a point at its rate


@dataclass(frozen=True)
class CurvePoint:
    """The rate, quality and cost of a codec at one setting on a dataset; None where unknown.

    Args:
        encode_ms, decode_ms: processor time an image.
        branch: the mode of the setting, such as its chroma subsampling; nothing is interpolated between modes.
    """

    bpp: float
    psnr_db: float
    ssim: float | None = None
    encode_ms: float | None = None
    decode_ms: float | None = None
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


def point_at(points: Sequence[CurvePoint], bpp: float) -> CurvePoint | None:
    """Return the point of the best branch at a rate; None where no branch reaches that rate.

    Within a branch, values are interpolated on the front over the logarithm of the rate.
    """
    branches = (front(p for p in points if p.branch == branch) for branch in {p.branch for p in points})
    reached = [point for best in branches if (point := _interpolated(best, bpp)) is not None]
    return max(reached, key=lambda point: point.psnr_db, default=None)


def psnr_at(points: Sequence[CurvePoint], bpp: float) -> float | None:
    """Return the PSNR of `point_at`."""
    point = point_at(points, bpp)
    return None if point is None else point.psnr_db


def _interpolated(best: Sequence[CurvePoint], bpp: float) -> CurvePoint | None:
    for left, right in zip(best, best[1:] or best, strict=False):
        for end in (left, right):
            if math.isclose(bpp, end.bpp):
                return end
        if left.bpp < bpp < right.bpp:
            share = math.log(bpp / left.bpp) / math.log(right.bpp / left.bpp)
            pairs = {name: (getattr(left, name), getattr(right, name)) for name in MEASURED}
            known = {name: a + share * (b - a) for name, (a, b) in pairs.items() if None not in (a, b)}
            return CurvePoint(bpp, **known)
    return None


def envelope(points: Sequence[CurvePoint]) -> list[tuple[float, float]]:
    """Return (rate, PSNR) by `psnr_at` at the rate of each point, leaving out those where PSNR does not rise."""
    line: list[tuple[float, float]] = []
    for rate in sorted({p.bpp for p in points}):
        psnr = psnr_at(points, rate)
        if psnr is not None and (not line or psnr > line[-1][1]):
            line.append((rate, psnr))
    return line
