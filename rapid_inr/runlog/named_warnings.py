"""The failure signatures, each by its name: pure functions from what was measured to the warnings that it deserves, mostly none.

store_does_not_fit       the store takes more than the memory of the GPU that is to hold it
accuracy_below_baseline  more than `MAX_DROP_POINTS` are lost against training from raw images
decode_below_roofline    the decode takes more than five times what the device's measured ceilings allow
decode_slower_than_step  a training step waits for its images
fits_not_converged       images that are stored all the same, poorly
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

STORE_DOES_NOT_FIT = "store_does_not_fit"  # also told by whoever is refused the memory
MAX_DROP_POINTS = 2.0
LEAST_OF_ROOFLINE = 0.2
NAMED_IMAGES = 5  # of those that did not converge: images.csv of the run has all
IN_USE = ("kernel", "torch")  # the backends that a decode takes, the first that there is


class NamedWarning(NamedTuple):
    """A warning: a name that tables and searches know it by, and what happened in numbers."""

    name: str
    message: str


def store_does_not_fit(*, store_bytes: int, n_images: int, memory_bytes: int | None) -> list[NamedWarning]:
    """Return a warning for a store that takes more bytes on the device than it has; None where it is not known."""
    if memory_bytes is None or store_bytes <= memory_bytes:
        return []
    fitting = memory_bytes * n_images // store_bytes
    message = f"{n_images:,} images take {store_bytes:,} bytes, the GPU has {memory_bytes:,}: about {fitting:,} images fit"
    return [NamedWarning(STORE_DOES_NOT_FIT, f"{message}; fewer layers or bits, or pruning, make them smaller")]


def accuracy_below_baseline(mark_pct: float, *, baseline_pct: float, what: str = "top-1") -> list[NamedWarning]:
    """Return a warning for an accuracy, or a mIoU, that is more than `MAX_DROP_POINTS` percentage points under its baseline."""
    lost = baseline_pct - mark_pct
    if lost <= MAX_DROP_POINTS:
        return []
    message = f"{what} is {mark_pct:.2f}%, {lost:.2f} points under the baseline's {baseline_pct:.2f}%"
    return [NamedWarning("accuracy_below_baseline", f"{message}, where at most {MAX_DROP_POINTS:g} are expected")]


def decodes_in_use(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Return those rows of the decode benchmark that are of the backend in use, each with what it reaches of the binding bound.

    Args:
        rows: with ``size``, ``batch``, ``backend``, ``binding`` and ``of_<binding>``. In use is the kernel, or torch where
            there is none; rival methods may be as slow as they are.
    """
    chosen: dict[tuple[str, int], Mapping[str, Any]] = {}
    for row in sorted((row for row in rows if row["backend"] in IN_USE), key=lambda row: IN_USE.index(row["backend"])):
        chosen.setdefault((row["size"], row["batch"]), row)
    return [(row, row[f"of_{row['binding']}"]) for row in chosen.values()]


def decode_below_roofline(rows: Iterable[Mapping[str, Any]]) -> list[NamedWarning]:
    """Return a warning for each size and batch whose decode reaches less than `LEAST_OF_ROOFLINE`; see `decodes_in_use`."""
    warnings_found = []
    for row, reached in decodes_in_use(rows):
        if reached < LEAST_OF_ROOFLINE:
            message = (
                f"{row['backend']} at {row['size']}, batches of {row['batch']:,}: {reached:.1%} of the {row['binding']} bound"
            )
            warnings_found.append(NamedWarning("decode_below_roofline", f"{message}, expected at least {LEAST_OF_ROOFLINE:.0%}"))
    return warnings_found


def decode_slower_than_step(*, decode_images_per_s: float, step_images_per_s: float) -> list[NamedWarning]:
    """Return a warning for a decode that makes fewer images than a training step consumes."""
    if decode_images_per_s >= step_images_per_s:
        return []
    rates = f"decoding makes {decode_images_per_s:,.0f} images/s, the training step takes {step_images_per_s:,.0f}"
    return [NamedWarning("decode_slower_than_step", f"{rates}: the network waits for its images; a smaller inr decodes faster")]


def fits_not_converged(names: Sequence[str], *, n_images: int, min_psnr_db: float) -> list[NamedWarning]:
    """Return a warning for images whose fit ended below the PSNR that counts as converged."""
    if not names:
        return []
    told = ", ".join(names[:NAMED_IMAGES]) + (", ..." if len(names) > NAMED_IMAGES else "")
    message = f"{len(names):,} of {n_images:,} images are below fit.min_psnr_db={min_psnr_db:g}"
    return [NamedWarning("fits_not_converged", f"{message}; more fit.steps, or a larger inr, may help: {told}")]
