import torch

from kernels.spec import SirenSpec
from rapid_inr.inr.fit import FitConfig, fit
from rapid_inr.inr.optimizers import WARMUP_STEPS, Adam, Soap, layer_matrices
from rapid_inr.inr.siren import layer_views
from tests.images import smooth_images

SPEC = SirenSpec(depth=3, hidden=6, omega=10.0)


def random_rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, SPEC.n_weights, generator=torch.Generator().manual_seed(seed))


def test_layer_matrices_hold_each_weight_with_its_bias_behind_and_are_views():
    rows = random_rows(2)
    first, hidden, last = layer_matrices(rows, SPEC)
    views = layer_views(rows, SPEC)
    for matrix, (weight, bias) in zip([first[:, 0], hidden[:, 0], hidden[:, 1], last[:, 0]], views, strict=True):
        assert torch.equal(matrix, torch.cat([weight, bias], 1))
    last.zero_()
    assert (views[-1][0] == 0).all()
    assert [matrices.shape[1:] for matrices in layer_matrices(torch.zeros(1, 39), SirenSpec(1, 6, 10.0))] == [
        (1, 3, 6),
        (1, 7, 3),
    ]


def test_adam_is_that_of_torch():
    values, grads = random_rows(1), [random_rows(1, seed) for seed in range(1, 6)]
    expected = values.clone().requires_grad_()
    reference = torch.optim.Adam([expected], lr=0.1, betas=(0.8, 0.9))
    adam = Adam(values, (0.8, 0.9))
    for grad in grads:
        expected.grad = grad
        reference.step()
        adam.step(values, grad, 0.1)
    torch.testing.assert_close(values, expected.detach())


def quadratic_descent(optimizer, rows: torch.Tensor, *, steps: int) -> float:
    """Return the loss after descending one whose curvature differs a thousandfold along axes that no weight lies on."""
    axes = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(5))).Q
    curvature = axes @ torch.diag(torch.logspace(0, -3, 7)) @ axes.T
    for step in range(steps):
        grad = torch.zeros_like(rows)
        layer_matrices(grad, SPEC)[1].copy_(curvature @ layer_matrices(rows, SPEC)[1])
        optimizer.step(rows, grad, 0.1 * (1 - step / steps))
    hidden = layer_matrices(rows, SPEC)[1]
    return (hidden * (curvature @ hidden)).sum().item()


def test_soap_descends_along_axes_that_adam_does_not_see():
    steps = 3 * WARMUP_STEPS
    rows, betas = random_rows(1), (0.9, 0.95)
    adam = quadratic_descent(Adam(rows, betas), rows.clone(), steps=steps)
    soap = quadratic_descent(Soap(rows, betas, SPEC), rows.clone(), steps=steps)
    assert soap < adam / 3


def test_an_image_fitted_with_soap_does_not_depend_on_its_batch():
    images, ids = smooth_images(3, 12, 12), torch.arange(3)
    config = FitConfig(steps=30, pixels_per_step=64, optimizer="soap")
    together = fit(images, ids, SPEC, config).weights
    for i in range(3):
        assert torch.equal(fit(images[i : i + 1], ids[i : i + 1], SPEC, config).weights[0], together[i])


def test_soap_fits_better_than_adam_in_the_same_steps():
    images, ids = smooth_images(4, 16, 16), torch.arange(4)
    adam, soap = (
        fit(images, ids, SPEC, FitConfig(steps=200, pixels_per_step=64, optimizer=name)).psnr_db.mean()
        for name in ("adam", "soap")
    )
    assert soap > adam


def test_a_fit_that_diverges_with_soap_is_a_black_image():
    result = fit(smooth_images(1, 8, 8), torch.arange(1), SPEC, FitConfig(steps=20, lr=10.0, optimizer="soap", retries=0))
    assert result.weights.isfinite().all()
    assert not result.converged.any()
