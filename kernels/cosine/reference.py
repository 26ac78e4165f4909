"""The reference of the cosine decode, the formula of kernels/cosine/spec.py; both backends are tested against it in float64."""

import torch
from torch import Tensor

from kernels.reference import sample_reference


def decode_cosine_reference(z: Tensor, colour: Tensor, mean: Tensor, affine: Tensor, **sampling) -> Tensor:
    """Decode images from dense coefficients, in their dtype.

    Args:
        z: coefficients [B, 3, F, F].
        colour, mean: as in `CosineRows`.
        affine, sampling: as in `sample_reference`.

    Returns:
        RGB [B, 3, height, width] in [0, 1], not rounded to 8 bits.
    """
    f = torch.arange(z.shape[-1]).to(z)

    def evaluate(coords: Tensor) -> Tensor:  # [P, 2] or [B, P, 2]
        phi = (1 + (f > 0).to(f)).sqrt() * torch.cos(torch.pi * f * (coords[..., None] + 1) / 2)  # [..., P, 2, F]
        v, u = phi.expand(len(z), -1, -1, -1).unbind(2)
        return torch.einsum("bcij,bpi,bpj->bpc", z, v, u) @ colour.to(z).mT + mean.to(z)

    return sample_reference(evaluate, affine.to(z), **sampling)
