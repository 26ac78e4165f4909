"""Counted work against numbers worked out by hand, and bounds against arithmetic."""

import pytest
import torch

from kernels.spec import SirenSpec
from kernels.tools import ceilings
from kernels.tools.bounds import Ceilings, Work, count_work, time_bounds


def work(depth: int, hidden: int, side: int, *, width: int, out_columns: int = 4) -> Work:
    return count_work(
        SirenSpec(depth, hidden, 30.0),
        n_pixels=side**2,
        batch=1,
        row_bytes=0,
        value_bytes=2,
        width=width,
        out_columns=out_columns,
    )


@pytest.mark.parametrize(
    ("size", "width", "sines", "matrix"),
    [
        # (2 * 256 + 4 * 16) * 1024 multiply-adds
        ((3, 16, 32), 16, 49_152, 589_824),
        # padded to 16: (4 * 256 + 4 * 16) * 1024
        ((5, 13, 32), 16, 66_560, 1_114_112),
        # (9 * 1024 + 4 * 32) * 50176
        ((10, 32, 224), 32, 16_056_320, 468_844_544),
        # padded to 64: (9 * 4096 + 4 * 64) * 50176
        ((10, 40, 224), 64, 20_070_400, 1_862_533_120),
    ],
)
def test_work_is_what_it_is_by_hand(size, width, sines, matrix):
    counted = work(*size, width=width)
    assert (counted.sines, counted.matrix_products) == (sines, matrix)
    assert counted.written_bytes == 6 * size[2] ** 2


def test_work_grows_with_the_batch_and_reads_its_rows():
    spec = SirenSpec(3, 16, 15.0)
    one, ten = (
        count_work(spec, n_pixels=64, batch=batch, row_bytes=900, value_bytes=1, width=16, out_columns=3) for batch in (1, 10)
    )
    assert [getattr(ten, name) for name in vars(ten)] == [10 * value for value in vars(one).values()]
    assert (ten.read_bytes, ten.written_bytes) == (9000, 1920)


def test_the_fraction_is_the_least_time_over_the_measured():
    bounds = time_bounds(Work(100, 300, 10, 30), Ceilings(sines_per_s=50, matrix_flop_per_s=60, bytes_per_s=4))
    assert (bounds.sine_s, bounds.matrix_s, bounds.bandwidth_s) == (2.0, 10.0, 10.0)
    assert bounds.binding == "matrix"
    assert bounds.fractions(20.0) == {"sine": 0.1, "matrix": 0.5, "bandwidth": 0.5}


def test_ceilings_of_this_processor_are_measured(monkeypatch):
    for name, value in {"CPU_SIDE": 64, "CPU_COPY_BYTES": 2**16, "CPU_PASSES": 2, "REPEATS": 2}.items():
        monkeypatch.setattr(ceilings, name, value)
    measured = ceilings.measure_ceilings(torch.device("cpu"), SirenSpec(3, 16, 15.0), n_pixels=64)
    assert 1e6 < measured.sines_per_s < 1e13
    assert 1e6 < measured.matrix_flop_per_s < 1e15
    assert 1e6 < measured.bytes_per_s < 1e14
