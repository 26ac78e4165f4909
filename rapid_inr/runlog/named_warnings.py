"""The named warnings: pure functions from measurements to a list of warnings, empty if all is well.

store_does_not_fit       the store is larger than the GPU's memory
accuracy_below_baseline  training from INRs loses more than `MAX_DROP_POINTS` against training from raw images
decode_below_roofline    the decode takes more than five times the time that the device's measured ceilings allow
decode_slower_than_step  a training step waits for its images
fits_not_converged       some images are stored in poor quality
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

STORE_DOES_NOT_FIT = "store_does_not_fit"  # also given when an allocation fails
MAX_DROP_POINTS = 2.0
LEAST_OF_ROOFLINE = 0.2
NAMED_IMAGES = 5  # images listed in a warning; the run's images.csv has all
IN_USE = ("kernel", "torch")  # a decode uses the first of these backends that is available


class NamedWarning(NamedTuple):
    """A warning: its name, for tables and searches, and a message with the numbers."""

    name: str
    message: str


def store_does_not_fit(*, store_bytes: int, n_images: int, memory_bytes: int | None) -> list[NamedWarning]:
    """Warn if a store takes more bytes than the device has; `memory_bytes` is None if unknown."""
    if memory_bytes is None or store_bytes <= memory_bytes:
        return []
    fitting = memory_bytes * n_images // store_bytes
    message = f"{n_images:,} images take {store_bytes:,} bytes, the GPU has {memory_bytes:,}: about {fitting:,} images fit"
    return [NamedWarning(STORE_DOES_NOT_FIT, f"{message}; fewer layers or bits, or pruning, make them smaller")]


def accuracy_below_baseline(score_pct: float, *, baseline_pct: float, what: str = "top-1") -> list[NamedWarning]:
    """Warn if an accuracy, or a mIoU, is more than `MAX_DROP_POINTS` percentage points below its baseline."""
    lost = baseline_pct - score_pct
    if lost <= MAX_DROP_POINTS:
        return []
    message = f"{what} is {score_pct:.2f}%, {lost:.2f} points below the baseline's {baseline_pct:.2f}%"
    return [NamedWarning("accuracy_below_baseline", f"{message}, expected at most {MAX_DROP_POINTS:g}")]


def decodes_in_use(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Return the rows of the decode benchmark for the backend in use, each with the fraction of the binding bound it reaches.

    Args:
        rows: with ``size``, ``batch``, ``backend``, ``binding`` and ``of_<binding>``. The backend in use is the kernel, or torch
            without a kernel; rows of rival methods are dropped.
    """
    chosen: dict[tuple[str, int], Mapping[str, Any]] = {}
    for row in sorted((row for row in rows if row["backend"] in IN_USE), key=lambda row: IN_USE.index(row["backend"])):
        chosen.setdefault((row["size"], row["batch"]), row)
    return [(row, row[f"of_{row['binding']}"]) for row in chosen.values()]


def decode_below_roofline(rows: Iterable[Mapping[str, Any]]) -> list[NamedWarning]:
    """Warn for each size and batch whose decode reaches less than `LEAST_OF_ROOFLINE` of its bound; see `decodes_in_use`."""
    warnings = []
    for row, reached in decodes_in_use(rows):
        if reached < LEAST_OF_ROOFLINE:
            message = (
                f"{row['backend']} at {row['size']}, batches of {row['batch']:,}: {reached:.1%} of the {row['binding']} bound"
            )
            warnings.append(NamedWarning("decode_below_roofline", f"{message}, expected at least {LEAST_OF_ROOFLINE:.0%}"))
    return warnings


def decode_slower_than_step(*, decode_images_per_s: float, step_images_per_s: float) -> list[NamedWarning]:
    """Warn if the decode produces fewer images a second than the training step consumes."""
    if decode_images_per_s >= step_images_per_s:
        return []
    rates = f"decoding makes {decode_images_per_s:,.0f} images/s, the training step takes {step_images_per_s:,.0f}"
    return [NamedWarning("decode_slower_than_step", f"{rates}: the network waits for its images; a smaller inr decodes faster")]


def fits_not_converged(names: Sequence[str], *, n_images: int, min_psnr_db: float) -> list[NamedWarning]:
    """Warn if fits ended below the PSNR that counts as converged."""
    if not names:
        return []
    listed = ", ".join(names[:NAMED_IMAGES]) + (", ..." if len(names) > NAMED_IMAGES else "")
    message = f"{len(names):,} of {n_images:,} images are below fit.min_psnr_db={min_psnr_db:g}"
    return [NamedWarning("fits_not_converged", f"{message}; more fit.steps, or a larger inr, may help: {listed}")]
