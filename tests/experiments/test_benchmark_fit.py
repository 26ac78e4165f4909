"""Both backends of the fit are timed beside their bound, and a kernel that is wrong has no speed."""

import pytest
import torch

from experiments.benchmarks import fit as benchmark
from experiments.benchmarks.fit import COLUMNS, SIZES, FitSize, time_backends
from experiments.reporting.markdown import formatted_table
from kernels.fit.launch import kernel_runs_on, supports_fit
from kernels.tools.bounds import Ceilings
from rapid_inr.inr.fit import FitConfig

TINY = FitSize(2, 8, 8, FitConfig(steps=3, pixels_per_step=32), 100.0, {"kernel": 3, "torch": 2})


@pytest.mark.skipif(not kernel_runs_on(torch.device("cuda" if torch.cuda.is_available() else "cpu")), reason="needs triton")
@pytest.mark.parametrize("wrong", [False, True])
def test_both_backends_are_timed_unless_the_kernel_is_wrong(device, monkeypatch, wrong):
    monkeypatch.setattr(benchmark, "measure_ceilings", lambda *args, **kwargs: Ceilings(1e9, 1e9, 1e9))
    if wrong:
        monkeypatch.setattr(benchmark, "MAX_BACKEND_PSNR_GAP_DB", -1.0)
    rows = time_backends(TINY, device)
    assert [row["backend"] for row in rows] == ["torch", "kernel"]
    assert [row["images_per_s"] is None for row in rows] == [False, wrong]
    lines = formatted_table(rows, COLUMNS).splitlines()
    assert lines[2].startswith("| 2x8 at 8 px | torch | 7,812 | — |") == (TINY.bound_images_per_s(1e9) < 7813)
    assert ("| — | — |" in lines[3]) == wrong


def test_the_bound_counts_the_pixels_of_every_step():
    pixels = 3 * (0.7 * 32 + 0.3 * 64)
    assert TINY.bound_images_per_s(1e9) == pytest.approx(1e9 / (2 * 2 * 16 * pixels))


def test_the_kernel_takes_every_size_that_is_timed():
    assert all(supports_fit(size.spec) for size in SIZES)
