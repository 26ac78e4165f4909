"""The unit of a metric, read from the end of its name: ``psnr_db``, ``epoch_s``, ``images_per_s``."""

from __future__ import annotations

import re

UNITS = {
    "db": "dB", "pct": "%", "ms": "ms", "us": "µs", "s": "s", "bytes": "bytes", "mb": "MB", "gb": "GB", "bpp": "bits/pixel",
    "loss": "nats",
}  # fmt: skip
_NAME = re.compile(r"(?:.*?_)??(?:(?P<count>[a-z]+)_per_s|(?P<cost>[a-z]+)_per_image|(?P<unit>[a-z]+))(?:_p\d\d)?")


def unit_of(metric: str) -> str | None:
    """Return the unit of a metric, or None for a pure number; a quantile such as ``psnr_db_p05`` has its metric's unit."""
    match = _NAME.fullmatch(metric)
    if match is None:
        return None
    if match["count"]:
        return f"{UNITS.get(match['count'], match['count'])}/s"
    if match["cost"]:
        return f"{UNITS.get(match['cost'], match['cost'])} an image"
    return UNITS.get(match["unit"])
