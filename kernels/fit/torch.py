"""The reference of the fused fit in torch, with the same float16 roundings, on any device and for any size."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.fit.inputs import ADAM_EPS, AdamSteps, FitState
from kernels.spec import SirenSpec, weight_sections


def siren_fit_torch(state: FitState, *, first: int = 0, last: int | None = None) -> None:
    """Take steps of Adam on many SIRENs in place; arguments and errors are those of `fit_siren`.

    It differs from the kernel in the order of sums and in the phases of the first layer and the biases, which are float32 here
    and sums of two float16 products in the kernel (relative error 2^-22).
    """
    rows, pixels, steps, rounding, starts = state.rows, state.pixels, state.steps, state.rounding, state.pixels.starts.tolist()
    for step in state.chunk(first, last):
        lattice = step % len(pixels.sizes)
        seen = slice(None) if step >= steps.first_full else slice(starts[lattice], starts[lattice + 1])
        stored = rows if rounding is None else rounding.forward(rows)
        grad = siren_gradient(stored, pixels.coords[seen], state.targets[:, seen, :3], state.spec)
        if rounding is not None:
            grad, scale_grad = rounding.backward(rows, grad)
            scale_rate = steps.rates[step] * rounding.relative_rate
            _adam(rounding.log_scales, rounding.means, rounding.squares, scale_grad, scale_rate, step, steps)
        if state.masks is not None:
            grad = torch.where(state.masks, grad, 0)  # not a product, since a diverged fit has NaN
        _adam(rows, state.means, state.squares, grad, steps.rates[step], step, steps)


def _adam(values: Tensor, means: Tensor, squares: Tensor, grad: Tensor, rate: Tensor, step: int, steps: AdamSteps) -> None:
    beta_1, beta_2 = steps.betas
    means.lerp_(grad, 1 - beta_1)
    squares.mul_(beta_2).addcmul_(grad, grad, value=1 - beta_2)
    values.sub_(rate * means / (squares.sqrt() * steps.roots[step] + ADAM_EPS))


def siren_gradient(rows: Tensor, coords: Tensor, targets: Tensor, spec: SirenSpec) -> Tensor:
    """Return the gradient of each image's mean squared error, with the roundings of the kernel.

    Args:
        rows: float32 [B, S].
        coords: float32 [P, 2].
        targets: float16 [B, P, 3].

    Returns:
        float32 [B, S].
    """
    sections = weight_sections(spec)
    grad = torch.empty_like(rows)

    def part(of: Tensor, name: str) -> Tensor:
        section = sections[name]
        return of[:, section.start : section.stop].view(-1, *section.shape)

    scale, omega, depth = 2 / (3 * len(coords)), spec.omega, spec.depth
    weights = [part(rows, f"weight_{i}") * omega for i in range(depth)]  # [B, fan_in, H]
    weights[1:] = map(_round_16, weights[1:])
    last_weight, last_bias = _round_16(part(rows, f"weight_{depth}")), part(rows, f"bias_{depth}")

    h, inputs, slopes = coords.expand(len(rows), -1, -1), [_round_16(coords).expand(len(rows), -1, -1)], []
    for i, weight in enumerate(weights):
        z = torch.baddbmm(part(rows, f"bias_{i}")[:, None] * omega, h, weight)  # [B, P, H]
        h = _round_16(z.sin())
        inputs.append(h)
        slopes.append(_round_16(z.cos()))
    error = _round_16(torch.baddbmm(last_bias[:, None], h, last_weight) - targets.float())  # [B, P, 3]

    def write(i: int, d_out: Tensor, factor: float) -> None:
        part(grad, f"weight_{i}").copy_(torch.bmm(inputs[i].mT, d_out).mul_(factor))
        part(grad, f"bias_{i}").copy_(d_out.sum(1).mul_(factor))

    write(depth, error, scale)
    d_h = torch.bmm(error, last_weight.mT)
    for i in reversed(range(depth)):
        dz = _round_16(_round_16(d_h) * slopes[i])
        write(i, dz, scale * omega)
        if i > 0:
            d_h = torch.bmm(dz, weights[i].mT)
    return grad


def _round_16(value: Tensor) -> Tensor:
    return value.half().float()
