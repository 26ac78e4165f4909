"""What a decode must do, counted, and how long that takes at least on a device whose ceilings were measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kernels.spec import OUT_FEATURES, SirenSpec


@dataclass(frozen=True)
class Work:
    """What decoding a batch takes.

    Args:
        sines: of the formula, no padding counted.
        matrix_products: multiply-adds of the layers after the first at the width a backend computes with; the first
            has too few inputs for a matrix unit.
        read_bytes: packed rows.
        written_bytes: images.
    """

    sines: int
    matrix_products: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Ceilings:
    """What a device does at most, measured: a FLOP is half a multiply-add, and a copy's bytes are read and written."""

    sines_per_s: float
    matrix_flop_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Bounds:
    """The least seconds that each kind of work takes alone."""

    sine_s: float
    matrix_s: float
    bandwidth_s: float

    @property
    def binding(self) -> str:
        """The kind that takes longest: ``sine``, ``matrix`` or ``bandwidth``."""
        return max(asdict(self), key=lambda name: getattr(self, name)).removesuffix("_s")

    def fractions(self, seconds: float) -> dict[str, float]:
        """Return for each kind its least time over the measured one, by the names of `binding`."""
        return {name.removesuffix("_s"): least / seconds for name, least in asdict(self).items()}


def count_work(
    spec: SirenSpec, *, n_pixels: int, batch: int, row_bytes: int, value_bytes: int, width: int, out_columns: int
) -> Work:
    """Count the work of decoding a batch of images.

    Args:
        row_bytes: of one packed row.
        value_bytes: of one value of an image: 1 of uint8, 2 of bfloat16.
        width: that the backend computes with, at least `spec.hidden`.
        out_columns: that the last layer has there, at least 3.
    """
    pixels = n_pixels * batch
    return Work(
        sines=spec.depth * spec.hidden * pixels,
        matrix_products=((spec.depth - 1) * width**2 + width * out_columns) * pixels,
        read_bytes=row_bytes * batch,
        written_bytes=OUT_FEATURES * value_bytes * pixels,
    )


def time_bounds(work: Work, ceilings: Ceilings) -> Bounds:
    """Return the least seconds of each kind of work; sines are those of the formula, so padding counts as a loss."""
    return Bounds(
        sine_s=work.sines / ceilings.sines_per_s,
        matrix_s=2 * work.matrix_products / ceilings.matrix_flop_per_s,
        bandwidth_s=(work.read_bytes + work.written_bytes) / ceilings.bytes_per_s,
    )
