"""The fit by the kernel against the fit in float32, and who takes which."""

import warnings
from dataclasses import replace

import pytest
import torch

from kernels.fit.launch import kernel_runs_on
from kernels.spec import SirenSpec
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig, compress
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data import load_all
from rapid_inr.data.shapes import shapes
from rapid_inr.errors import UserError
from rapid_inr.inr import fused
from rapid_inr.inr.fit import STARTS, FitConfig, fit, fit_rows, measure_psnr, optimise
from rapid_inr.inr.fused import fits_fused
from tests.images import smooth_images
from tests.inr.test_fit import formula_psnr_db
from tests.tolerances import FUSED_PSNR_DB

SPEC = SirenSpec(2, 8, 10.0)
CONFIG = FitConfig(steps=30, pixels_per_step=64, backend="kernel")
needs_kernel = pytest.mark.skipif(
    not kernel_runs_on(torch.device("cuda" if torch.cuda.is_available() else "cpu")), reason="needs triton"
)


@needs_kernel
def test_images_are_on_average_as_good_as_in_float32(device):
    images, rows = smooth_images(4, 16, 16).to(device), STARTS["even"](SPEC, range(4), seed=0).to(device)
    psnr = [
        formula_psnr_db(function(rows, images, SPEC, CONFIG).cpu(), images.cpu(), SPEC).mean()
        for function in (fit_rows, optimise)
    ]
    assert abs(psnr[0] - psnr[1]) < FUSED_PSNR_DB


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: the interpreter takes minutes")
@pytest.mark.parametrize(
    ("depth", "hidden", "side", "steps"), [(3, 16, 32, 200), (4, 14, 32, 400), (6, 44, 64, 200), (10, 32, 64, 200)]
)
def test_a_whole_fit_on_a_gpu_is_as_good_as_in_float32(depth, hidden, side, steps):
    images = load_all(shapes("train", count=64, size=side)).images
    spec, config = SirenSpec(depth, hidden, 15.0), FitConfig(steps=steps)
    psnr = [
        fit(images, torch.arange(64), spec, replace(config, backend=backend), device="cuda").psnr_db.mean()
        for backend in ("kernel", "torch")
    ]
    assert abs(psnr[0] - psnr[1]) < FUSED_PSNR_DB


@needs_kernel
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, which the interpreter computes with
def test_a_fit_that_diverges_ends_as_not_converged(device):
    images = smooth_images(2, 8, 8)
    result = fit(images, torch.arange(2), SPEC, replace(CONFIG, steps=4, lr=10.0, decay="none", retries=0), device=device)
    assert not result.converged.any()
    assert result.weights.isfinite().all()


@pytest.fixture
def launches(monkeypatch):
    """The states of the fits that the kernel was launched for."""
    from kernels.fit import triton as kernel

    states, fit_siren = [], kernel.fit_siren
    monkeypatch.setattr(kernel, "fit_siren", lambda state, **steps: states.append(state) or fit_siren(state, **steps))
    return states


@needs_kernel
def test_pruning_trains_what_is_left_by_the_kernel(device, launches):
    images, config = smooth_images(2, 8, 8), replace(CONFIG, steps=3)
    result = fit(images, torch.arange(2), SPEC, config, device=device)
    configs = {
        "prune_config": PruneConfig("fixed", step=0.3, max_ratio=0.6, finetune_steps=2), "quantize_config": QuantizeConfig(16),
        "refine_config": RefineConfig(),
    }  # fmt: skip
    stored = compress(result, images, SPEC, config, device=device, **configs)
    assert stored.masks.sum(1).tolist() == [26, 26]
    assert (stored.rows.codes[~stored.masks] == 0).all()
    assert (stored.rows.codes[stored.masks] != 0).all()
    kept = [int(mask.sum()) for state in launches if state.masks is not None for mask in state.masks]
    n_ends = SPEC.n_weights - SPEC.n_hidden_weights
    assert kept == [45 + n_ends] * 2 + [26 + n_ends] * 2  # of 64, in two rounds


@needs_kernel
@pytest.mark.parametrize("granularity", ["tensor", "dataset"])
def test_quantized_weights_are_trained_by_the_kernel(device, launches, granularity):
    images, config = smooth_images(2, 12, 12), FitConfig(steps=150, pixels_per_step=None)
    result, psnr = fit(images, torch.arange(2), SPEC, config, device=device), []
    for steps in (0, 30):
        stored = compress(
            result, images, SPEC, replace(config, backend="kernel"), device=device, prune_config=PruneConfig(),
            quantize_config=QuantizeConfig(3, 8, granularity), refine_config=RefineConfig(steps=steps),
        )  # fmt: skip
        psnr.append(measure_psnr(stored.rows.packed(device), images, SPEC).mean())
    assert psnr[1] > psnr[0] + 1.5  # measured: 3.1 and 4.6
    assert sum(len(state.rows) for state in launches if state.rounding is not None) == 2


@needs_kernel
def test_progress_is_reported_after_each_launch(device, monkeypatch):
    monkeypatch.setattr(fused, "LAUNCH_STEPS", 2)
    reported = []
    images, rows = smooth_images(3, 8, 8).to(device), STARTS["even"](SPEC, range(3), seed=0).to(device)
    fit_rows(rows, images, SPEC, replace(CONFIG, steps=5), on_progress=reported.append)
    assert reported == pytest.approx([1.2, 1.2, 0.6])


def test_auto_takes_the_kernel_on_a_gpu_where_it_takes_the_size_and_says_once_where_not():
    cuda, cpu, wide, auto = torch.device("cuda"), torch.device("cpu"), SirenSpec(2, 65, 10.0), FitConfig(backend="auto")
    assert fits_fused(auto, SPEC, cuda)
    assert not fits_fused(auto, SPEC, cpu)
    assert not fits_fused(replace(auto, backend="torch"), SPEC, cuda)
    assert not fits_fused(replace(auto, optimizer="soap"), SPEC, cuda)
    fused._warn_of_size.cache_clear()
    with pytest.warns(UserWarning, match="2x65 is fitted by torch"):
        assert not fits_fused(auto, wide, cuda)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fits_fused(auto, wide, cuda)


def test_a_kernel_that_cannot_be_had_is_the_users_error(monkeypatch):
    with pytest.raises(UserError, match=r"fit\.backend is kernel for 2x65 on cuda, expected .* use auto or torch"):
        fits_fused(CONFIG, SirenSpec(2, 65, 10.0), torch.device("cuda"))
    monkeypatch.setattr(fused, "kernel_runs_on", lambda device: False)
    with pytest.raises(UserError, match=r"fit\.backend is kernel for 2x8 on cpu"):
        fit(smooth_images(1, 8, 8), torch.arange(1), SPEC, CONFIG)
    with pytest.raises(UserError, match=r"fit\.backend is gpu, expected one of auto, torch, kernel"):
        FitConfig(backend="gpu")
