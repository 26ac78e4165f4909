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


def largest_coefficients(z: Tensor, n: int) -> Tensor:
    """Return the places of the coefficients of the largest weighted energy, int64 [n], ascending; all if there are fewer."""
    frequencies = math.isqrt(z.shape[1] // 3)
    energy = sum(chunk.square().sum(0) for chunk in z.split(1024)) * weights(torch.arange(z.shape[1]), frequencies)
    return energy.argsort(descending=True, stable=True)[:n].sort().values


def principal_components(z: Tensor, n_coefficients: int, n_components: int) -> tuple[Tensor, Tensor]:
    """Return the components of images and mirrored images, the largest first.

    Args:
        z: float32 [N, 3 F^2].
        n_coefficients: most coefficients that they may have; see `largest_coefficients`.
        n_components: most components.

    Returns:
        the basis, int8 [K, J], and the places of the coefficients, int64 [J], ascending.
    """
    frequencies = math.isqrt(z.shape[1] // 3)
    places = largest_coefficients(z, n_coefficients)
    scale, odd = weights(places, frequencies).sqrt(), places % frequencies % 2
    moments = sum((chunk[:, places].T @ chunk[:, places]).double() for chunk in z.split(1024)) * scale[:, None] * scale
    moments *= odd[:, None] == odd  # mirroring changes the signs of odd columns
    rows = torch.linalg.eigh(moments)[1].flip(1).T[:n_components] / scale
    return (rows * (LARGEST_ENTRY / rows.abs().amax(1, keepdim=True))).round().to(torch.int8), places


def project(z: Tensor, basis: Tensor | None, places: Tensor, frequencies: int) -> tuple[Tensor, Tensor]:
    """Return the nearest amplitudes of images times the components' lengths in the weighted metric, and these lengths.

    So errors of all amplitudes count the same.

    Args:
        z: float32 [N, 3 F^2].
        basis: float32 [K, J]; None if each component is a single coefficient.
        places: int64 [J].

    Returns:
        float32 [N, K] and [K].
    """
    scale = weights(places, frequencies).sqrt()
    if basis is None:
        return z[:, places] * scale, scale
    rows = basis * scale
    lengths = rows.norm(dim=1)
    unit = rows / lengths[:, None]
    matrix = scale[:, None] * torch.linalg.solve(unit @ unit.T, unit).T
    return torch.cat([chunk[:, places] @ matrix for chunk in z.split(1024)]), lengths


def mirror_signs(basis: Tensor | None, places: Tensor, frequencies: int) -> Tensor:
    """Return the signs of the amplitudes, [K], when an image is mirrored left to right; for `basis` see `project`."""
    odd = places % frequencies % 2 == 1
    return torch.where(odd if basis is None else (basis.bool() & odd).any(1), -1, 1)
