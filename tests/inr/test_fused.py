"""The fit by the kernel against the fit in float32, and who takes which."""

import warnings
from dataclasses import replace

import pytest
import torch

from kernels.fit.launch import kernel_runs_on
from kernels.spec import SirenSpec
from rapid_inr.compress.projection import Projection
from rapid_inr.data import load_all
from rapid_inr.data.shapes import shapes
from rapid_inr.errors import UserError
from rapid_inr.inr import fit as fit_module
from rapid_inr.inr import fused
from rapid_inr.inr.fit import STARTS, FitConfig, fit, fit_rows, images_per_batch, optimise
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


@needs_kernel
def test_pruned_weights_stay_zero(device):
    images, rows = smooth_images(2, 8, 8).to(device), STARTS["siren"](SPEC, range(2), seed=0).to(device)
    masks = torch.rand(2, SPEC.n_hidden_weights, generator=torch.Generator().manual_seed(0)).to(device) < 0.5
    constraint = Projection.of(rows, SPEC, masks=masks)
    result = fit_rows(rows, images, SPEC, replace(CONFIG, steps=3), constraint=constraint)
    assert torch.equal(result, constraint.forward(result))
    assert not torch.equal(result, constraint.forward(rows))


@needs_kernel
def test_progress_is_reported_after_each_launch(device, monkeypatch):
    monkeypatch.setattr(fused, "LAUNCH_STEPS", 2)
    reported = []
    images, rows = smooth_images(3, 8, 8).to(device), STARTS["even"](SPEC, range(3), seed=0).to(device)
    fit_rows(rows, images, SPEC, replace(CONFIG, steps=5), on_progress=reported.append)
    assert reported == pytest.approx([1.2, 1.2, 0.6])


def test_auto_takes_the_kernel_on_a_gpu_where_it_takes_the_size_and_says_once_where_not():
    cuda, cpu, wide = torch.device("cuda"), torch.device("cpu"), SirenSpec(2, 65, 10.0)
    assert fits_fused("auto", SPEC, cuda)
    assert not fits_fused("auto", SPEC, cpu)
    assert not fits_fused("torch", SPEC, cuda)
    fused._warn_of_size.cache_clear()
    with pytest.warns(UserWarning, match="2x65 is fitted by torch"):
        assert not fits_fused("auto", wide, cuda)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fits_fused("auto", wide, cuda)


def test_a_kernel_that_cannot_be_had_is_the_users_error(monkeypatch):
    with pytest.raises(UserError, match=r"fit\.backend is kernel for 2x65 on cuda, expected .* use auto or torch"):
        fits_fused("kernel", SirenSpec(2, 65, 10.0), torch.device("cuda"))
    monkeypatch.setattr(fused, "kernel_runs_on", lambda device: False)
    with pytest.raises(UserError, match=r"fit\.backend is kernel for 2x8 on cpu"):
        fit(smooth_images(1, 8, 8), torch.arange(1), SPEC, CONFIG)
    with pytest.raises(UserError, match=r"fit\.backend is gpu, expected one of auto, torch, kernel"):
        FitConfig(backend="gpu")


def test_training_through_a_quantization_is_torchs(monkeypatch):
    constraint = Projection(SPEC, None, None, torch.empty(0))
    monkeypatch.setattr(Projection, "rounds", True)
    monkeypatch.setattr(fit_module, "optimise", lambda *args, **kwargs: "torch")
    monkeypatch.setattr(fused, "kernel_runs_on", lambda device: True)
    assert fit_rows(torch.zeros(1, SPEC.n_weights), smooth_images(1, 8, 8), SPEC, CONFIG, constraint=constraint) == "torch"
    n_images = {"n_pixels": 224 * 224, "device": torch.device("cpu")}
    assert images_per_batch(SPEC, CONFIG, constraint=constraint, **n_images) == images_per_batch(
        SPEC, replace(CONFIG, backend="torch"), **n_images
    )
