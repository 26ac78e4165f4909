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
    assert lines[2].startswith("| 2x8 at 8 px | torch | 250,401 | — |")
    assert ("| — | — |" in lines[3]) == wrong


def test_a_machine_without_the_kernel_measures_torch_and_shows_what_is_predicted(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure_ceilings", lambda *args, **kwargs: Ceilings(1e9, 1e9, 1e9))
    monkeypatch.setattr(benchmark, "kernel_runs_on", lambda device: False)
    rows = time_backends(TINY, torch.device("cpu"))
    assert rows[0]["images_per_s"] > 0
    assert "images_per_s" not in rows[1]
    assert formatted_table(rows, COLUMNS).splitlines()[3].split(" | ")[2:] == ["517,077,324", "100", "—", "—", "— |"]


def test_the_bound_counts_the_pixels_of_every_step_at_the_width_of_the_backend():
    pixels = 3 * (0.7 * 32 + 0.3 * 64)
    for backend, width in (("kernel", 16), ("torch", 8)):
        assert TINY.bound_images_per_s(backend, 1e9) == pytest.approx(1e9 / (2 * 2 * width * pixels))


def test_a_cpu_fits_few_images_but_one_for_each_thread():
    counts = [size.count("torch", torch.device("cpu")) for size in SIZES]
    assert counts == [64, 16, max(1, torch.get_num_threads()), max(1, torch.get_num_threads())]


def test_the_kernel_takes_every_size_that_is_timed():
    assert all(supports_fit(size.spec) for size in SIZES)
