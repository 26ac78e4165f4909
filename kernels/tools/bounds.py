"""The roofline of a decode: its work, and the least time for it on a device with measured ceilings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kernels.spec import OUT_FEATURES, SirenSpec


@dataclass(frozen=True)
class Work:
    """The work of decoding a batch.

    Args:
        sines: of the formula, without padding.
        matrix_products: multiply-adds of the layers after the first, at the width that a backend computes with; the first layer
            has too few inputs for a matrix unit.
        read_bytes: of packed rows.
        written_bytes: of images.
    """

    sines: int
    matrix_products: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Ceilings:
    """The measured ceilings of a device: a multiply-add is two FLOP, and a copied byte is both read and written."""

    sines_per_s: float
    matrix_flop_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Bounds:
    """The least seconds of each kind of work alone."""

    sine_s: float
    matrix_s: float
    bandwidth_s: float

    @property
    def binding(self) -> str:
        """The kind with the longest time: ``sine``, ``matrix`` or ``bandwidth``."""
        return max(asdict(self), key=lambda name: getattr(self, name)).removesuffix("_s")

    def fractions(self, seconds: float) -> dict[str, float]:
        """Return for each kind, named as in `binding`, its least time over the measured time."""
        return {name.removesuffix("_s"): least / seconds for name, least in asdict(self).items()}


def count_work(
    spec: SirenSpec, *, n_pixels: int, batch: int, row_bytes: int, value_bytes: int, width: int, out_columns: int
) -> Work:
    """Count the work of decoding a batch of images.

    Args:
        row_bytes: of one packed row.
        value_bytes: of one value of an image: 1 for uint8, 2 for bfloat16.
        width: hidden width that the backend computes with, at least `spec.hidden`.
        out_columns: width of the last layer there, at least 3.
    """
    pixels = n_pixels * batch
    return Work(
        sines=spec.depth * spec.hidden * pixels,
        matrix_products=((spec.depth - 1) * width**2 + width * out_columns) * pixels,
        read_bytes=row_bytes * batch,
        written_bytes=OUT_FEATURES * value_bytes * pixels,
    )


def time_bounds(work: Work, ceilings: Ceilings) -> Bounds:
    """Return the least seconds of each kind of work; padded sines are not counted, so padding shows as a loss."""
    return Bounds(
        sine_s=work.sines / ceilings.sines_per_s,
        matrix_s=2 * work.matrix_products / ceilings.matrix_flop_per_s,
        bandwidth_s=(work.read_bytes + work.written_bytes) / ceilings.bytes_per_s,
    )
