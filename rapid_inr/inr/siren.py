"""SIRENs batched over images: initial weights, forward pass and gradient.

A batch is a tensor of flat rows [B, S] in the layout of `kernels.spec.weight_sections`; each row is independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.decode.cpu_sine import GAIN, PHASE, SHIFT, TURN, double_cosine_
from kernels.spec import IN_FEATURES, SirenSpec, weight_sections

SOBOL_BITS = 30  # of a coordinate in torch's sequence
_GAMMA, _MIX_ROUNDS = 0x9E3779B97F4A7C15 - 2**64, ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
# tensors of no dimension, because a number can only be the second operand of an addition
_SINE, _COSINE, _SINE_SHIFT = torch.tensor(PHASE), torch.tensor(PHASE + 0.25), torch.tensor(SHIFT)
Layers = list[tuple[Tensor, Tensor]]  # (weight [B, fan_in, fan_out], bias [B, 1, fan_out]) of each layer


def layer_views(rows: Tensor, spec: SirenSpec) -> Layers:
    """Return views of the layers in flat rows [B, S]; writing to a view writes to the row."""
    sections = weight_sections(spec)
    views = []
    for i in range(len(spec.fans)):
        weight, bias = sections[f"weight_{i}"], sections[f"bias_{i}"]
        views.append(
            (rows[:, weight.start : weight.stop].unflatten(1, weight.shape), rows[:, bias.start : bias.stop].unsqueeze(1))
        )
    return views


def random_words(ids: Tensor, count: int, *key: int) -> Tensor:
    """Draw 64-bit integers for many images at once, which depend only on the image's id and the key.

    Each image has a stream of SplitMix64 (Steele et al. 2014): word j is mix(state + (j + 1) gamma), computed only for the
    requested words. Integer operations give the same result on all devices.

    Args:
        ids: int64 [B].

    Returns:
        int64 [B, count], on the device of the ids.
    """
    state = _mix(ids + _GAMMA)
    for number in key:
        state = _mix(state ^ number)
    return _mix(state[:, None] + torch.arange(1, count + 1, device=ids.device) * _GAMMA)


def _mix(z: Tensor) -> Tensor:
    """Return SplitMix64's bijection of 64-bit integers, in which each input bit changes half of the output bits."""
    for shift, factor in _MIX_ROUNDS:
        z = z.bitwise_xor(_shifted(z, shift)).mul_(factor)
    return z.bitwise_xor_(_shifted(z, 31))


def _shifted(z: Tensor, shift: int) -> Tensor:
    return (z >> shift).bitwise_and_((1 << (64 - shift)) - 1)  # torch's shift repeats the sign bit


def initial_weights(spec: SirenSpec, ids: Tensor | Sequence[int], *, seed: int, attempt: int = 0) -> Tensor:
    """Draw the initial weights of a fit, which depend only on (seed, id, attempt), not on the batch.

    Weights follow Sitzmann et al. 2020, section 3.2: U(-1/2, 1/2) in the first layer, U(-1, 1) sqrt(6 / fan_in) / omega in the
    others. Biases of the sine layers follow torch.nn.Linear: U(-1, 1) / sqrt(fan_in). The last bias is mid-grey, 0.5, which gains
    1.4 dB over a random one after 100 steps at 32x32.

    Args:
        ids: int64 [B], index of each image in its source.
        attempt: 0 for the first fit of an image, 1 for its first retry, ...

    Returns:
        float32 [B, S] on the device of the ids.
    """
    ids = torch.as_tensor(ids)
    bounds = torch.empty(spec.n_weights)
    for i, ((weight, bias), (fan_in, _)) in enumerate(zip(layer_views(bounds[None], spec), spec.fans, strict=True)):
        weight.fill_(1 / fan_in if i == 0 else math.sqrt(6 / fan_in) / spec.omega)
        bias.fill_(1 / math.sqrt(fan_in))
    halves = random_words(ids, -(-spec.n_weights // 2), seed, attempt, 0).view(torch.int32)[:, : spec.n_weights]
    weights = (halves >> 8) * (bounds.to(ids.device) / 2**23)  # 24 bits, which float32 holds
    layer_views(weights, spec)[-1][1].fill_(0.5)
    return weights


def even_start(spec: SirenSpec, ids: Tensor | Sequence[int], *, seed: int, attempt: int = 0) -> Tensor:
    """Draw initial weights like `initial_weights`, but with evenly spread waves: 0.3 to 1 dB more after 200 steps (docs/fit.md).

    The first layer decides the waves that an image is built from, and 16 random waves leave gaps. Here frequency (row, column)
    and phase are points of a Sobol sequence (Sobol 1967), spread evenly over the range of `initial_weights` and over a full
    period. A digital shift (Owen 2003) differs for each image. The other biases and the last weights are zero, so the fit starts
    from a mid-grey image.
    """
    ids = torch.as_tensor(ids)
    weights = initial_weights(spec, ids, seed=seed, attempt=attempt)
    (first_weight, first_bias), *layers = layer_views(weights, spec)
    points = (torch.quasirandom.SobolEngine(3).draw(spec.hidden, dtype=torch.float64) * 2**SOBOL_BITS).long().to(ids.device)
    shifts = random_words(ids, 3, seed, attempt, 1) & (2**SOBOL_BITS - 1)
    spread = ((points ^ shifts[:, None]).double() / 2 ** (SOBOL_BITS - 1) - 1).float()  # [B, H, 3] in [-1, 1)
    first_weight.copy_(spread[..., :2].transpose(1, 2) / IN_FEATURES)
    first_bias.copy_(spread[:, None, :, 2] * (math.pi / spec.omega))
    for _, bias in layers[:-1]:
        bias.zero_()
    layers[-1][0].zero_()
    return weights


def default_omega(height: int, width: int) -> float:
    """Return a suitable omega for an image size: 15 up to 64 px, 30 (Sitzmann et al. 2020) above.

    Small images lack the high frequencies of omega 30: at 32x32 and 3x16, omega 15 ends about 3 dB higher.
    """
    return 15.0 if max(height, width) <= 64 else 30.0


def omega_factors(spec: SirenSpec) -> Tensor:
    """Return the factors [S] that fold omega into a row: omega in the sine layers, 1 in the last.

    With folded weights a sine layer is ``sin(h @ weight + bias)``, which saves two passes over the activations a step.
    """
    factors = torch.full((spec.n_weights,), float(spec.omega))
    for view in layer_views(factors[None], spec)[-1]:
        view.fill_(1.0)
    return factors


def siren(rows: Tensor, coords: Tensor, spec: SirenSpec) -> Tensor:
    """Evaluate each SIREN at the coordinates, in differentiable torch.

    Args:
        rows: floating [B, S], omega not folded in.
        coords: the same dtype, [P, 2].

    Returns:
        [B, P, 3], nominally in [0, 1] and not clamped.
    """
    *sine_layers, (last_weight, last_bias) = layer_views(rows, spec)
    h = coords.expand(len(rows), -1, -1)  # [B, P, 2]
    for weight, bias in sine_layers:
        h = torch.sin(spec.omega * (h @ weight + bias))  # [B, P, H]
    return h @ last_weight + last_bias


class GradientWorkspace:
    """Buffers and a hand-written backward pass for B images of up to P pixels.

    A step allocates only the gradient of a layer's weights and biases. Autograd would allocate all activations in each step,
    keep a copy of z for cos(z), and multiply by omega twice a layer. Here the backward pass overwrites z by its cosine. The
    order is [B, P, H], since MKL then takes 5 us an image for the weight gradient h^T dz, but 17 us with pixels last (3x16,
    32x32); the other products take the same time.
    """

    def __init__(self, spec: SirenSpec, *, n_images: int, n_pixels: int, device: torch.device) -> None:
        self.spec, self.n_images = spec, n_images
        size = n_images * n_pixels * spec.hidden
        self.pre_activations = [torch.empty(size, device=device) for _ in range(spec.depth)]
        self.activations = [torch.empty(size, device=device) for _ in range(spec.depth)]
        self.grad_activation = torch.empty(size, device=device)
        self.rgb = torch.empty(n_images * n_pixels * 3, device=device)

    def _view(self, buffer: Tensor, n_pixels: int, n_features: int) -> Tensor:
        """Return the start of a buffer as a contiguous [B, n_pixels, n_features]."""
        return buffer[: self.n_images * n_pixels * n_features].view(self.n_images, n_pixels, n_features)

    def add_gradient(self, layers: Layers, grads: Layers, coords: Tensor, target: Tensor, *, scale: float) -> None:
        """Add the gradient of ``scale / 2 * sum of squared errors`` of each image to `grads`.

        Args:
            layers: views of rows with omega folded in.
            grads: views of the gradient rows.
            coords: float32 [B, P', 2] (expanded), P' at most P.
            target: float32 [B, P', 3] in [0, 1].
        """
        *sine_layers, (last_weight, last_bias) = layers
        n_pixels, hidden = target.shape[1], self.spec.hidden
        pre_activations = [self._view(z, n_pixels, hidden) for z in self.pre_activations]
        inputs = [coords, *(self._view(s, n_pixels, hidden) for s in self.activations)]  # of each layer
        for i, (weight, bias) in enumerate(sine_layers):
            torch.baddbmm(bias, inputs[i], weight, out=pre_activations[i])
            _sine(pre_activations[i], _SINE, out=inputs[i + 1])
        rgb = torch.baddbmm(last_bias, inputs[-1], last_weight, out=self._view(self.rgb, n_pixels, 3))

        d_out = rgb.sub_(target).mul_(scale)
        _add_layer_gradient(grads[-1], inputs[-1], d_out)
        d_h = torch.bmm(d_out, last_weight.transpose(1, 2), out=self._view(self.grad_activation, n_pixels, hidden))
        for i in reversed(range(len(sine_layers))):
            d_z = _sine(pre_activations[i], _COSINE, out=pre_activations[i]).mul_(d_h)
            _add_layer_gradient(grads[i], inputs[i], d_z)
            if i > 0:
                torch.bmm(d_z, sine_layers[i][0].transpose(1, 2), out=d_h)


def _sine(phase: Tensor, shift: Tensor, *, out: Tensor) -> Tensor:
    """Write the sine of a phase that is shifted by `_SINE` or `_COSINE`; on a CPU the fast one of the decode, off by 1e-5."""
    if phase.device.type != "cpu":
        return torch.sin(phase, out=out) if shift is _SINE else torch.cos(phase, out=out)
    torch.add(shift, phase, alpha=1 / TURN, out=out)
    return torch.add(_SINE_SHIFT, double_cosine_(out), alpha=GAIN, out=out)


def _add_layer_gradient(grad: tuple[Tensor, Tensor], inputs: Tensor, d_out: Tensor) -> None:
    weight_grad, bias_grad = grad
    # not baddbmm_: rows are not contiguous, and it would compute one product an image, which takes half the time of a step
    weight_grad.add_(torch.bmm(inputs.transpose(1, 2), d_out))
    bias_grad.add_(d_out.sum(1, keepdim=True))
