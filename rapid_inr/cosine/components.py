"""The components of cosine series: patterns of coefficients that are large in many images, and what an error of them counts.

A network that learns from images reacts to fine detail far more than its share of the squared error. So an error of a
coefficient counts by a weight: in brightness more for higher frequencies, in colour the same for all. docs/compression.md has
what was measured. In the weighted metric, the components are orthogonal but for the rounding of the basis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BASIS_UNIT = 2**-10  # of the integers of a basis
LARGEST_ENTRY = 127


def weights(places: Tensor, frequencies: int) -> Tensor:
    """Return what the squared errors of coefficients count, float32 [J]."""
    channel, row, column = places // frequencies**2, places // frequencies % frequencies, places % frequencies
    return torch.where(channel == 0, 1 + (row**2 + column**2).float().sqrt() / 5, 2.5)


def principal_components(z: Tensor, n_coefficients: int, n_components: int) -> tuple[Tensor, Tensor]:
    """Return the components of images and mirrored images, the largest first.

    Args:
        z: float32 [N, 3 F^2].
        n_coefficients: most coefficients that they may have, those of the largest weighted energy.
        n_components: most components.

    Returns:
        the basis, int8 [K, J], and the places of the coefficients, int64 [J], ascending.
    """
    frequencies = math.isqrt(z.shape[1] // 3)
    scale = weights(torch.arange(z.shape[1]), frequencies).sqrt()
    energy = sum(chunk.square().sum(0) for chunk in z.split(1024))
    places = (energy * scale.square()).argsort(descending=True, stable=True)[:n_coefficients].sort().values
    scale, odd = scale[places], places % frequencies % 2
    moments = sum((chunk[:, places].T @ chunk[:, places]).double() for chunk in z.split(1024)) * scale[:, None] * scale
    moments *= odd[:, None] == odd  # mirroring changes the signs of odd columns
    rows = torch.linalg.eigh(moments)[1].flip(1).T[:n_components] / scale
    return (rows * (LARGEST_ENTRY / rows.abs().amax(1, keepdim=True))).round().to(torch.int8), places


def projection(basis: Tensor, places: Tensor, frequencies: int) -> tuple[Tensor, Tensor]:
    """Return the matrix from coefficients to the nearest amplitudes, and the components' lengths in the weighted metric.

    Args:
        basis: float32 [K, J].

    Returns:
        float32 [J, K], to amplitudes times lengths, so that errors of all components count the same; and the lengths, [K].
    """
    scale = weights(places, frequencies).sqrt()
    rows = basis * scale
    lengths = rows.norm(dim=1)
    unit = rows / lengths[:, None]
    return scale[:, None] * torch.linalg.solve(unit @ unit.T, unit).T, lengths


def mirror_signs(basis: Tensor, places: Tensor, frequencies: int) -> Tensor:
    """Return the signs of the amplitudes, [K], when an image is mirrored left to right."""
    return torch.where((basis.bool() & (places % frequencies % 2 == 1)).any(1), -1, 1)
