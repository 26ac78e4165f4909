"""The cosine series of an image: the sum of cosines that passes through its pixels.

    s_c(v, u) = sum over (fy, fx) of z[c, fy, fx] phi(fy, v) phi(fx, u),   phi(0, t) = 1,   phi(f, t) = sqrt(2) cos(pi f t)
    rgb = colour s + mean

v and u run from 0 to 1 between the edges of the image. At pixel centres the cosines are orthogonal (the DCT-II; Ahmed et al.
1974, "Discrete cosine transform"), and the colour transform is a rotation. So the mean squared error of an image is a third of
the sum of the squared errors of its coefficients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosines(frequencies: int, size: int) -> Tensor:
    """Return phi(f, t) at the centres of `size` pixels, float32 [frequencies, size]."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    values = math.sqrt(2) * torch.cos(math.pi * torch.arange(frequencies)[:, None] * centres)
    values[0] = 1
    return values.float()


def analyse(images: Tensor, frequencies: int) -> Tensor:
    """Return the series of red, green and blue of images, uint8 [N, H, W, 3] with sides of at least `frequencies`.

    Returns:
        float32 [N, 3, F^2] of values in [0, 1].
    """
    height, width = images.shape[1:3]
    channels = images.permute(0, 3, 1, 2).float() / 255
    rows, columns = cosines(frequencies, height) / height, cosines(frequencies, width) / width
    return (rows @ channels @ columns.T).flatten(2)


def colour_axes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the axes along which the colours of images are uncorrelated, and the mean colour, from their series.

    Returns:
        float32 [3, 3], one axis a column, the longest first, and float32 [3].
    """
    mean = z[:, :, 0].double().mean(0)
    products = sum((chunk @ chunk.mT).sum(0, dtype=torch.float64) for chunk in z.split(1024)) / len(z)
    axes = torch.linalg.eigh(products - mean[:, None] * mean)[1].flip(1)
    return (axes * axes.sum(0).sign()).float().contiguous(), mean.float()


def along_axes(z: Tensor, colour: Tensor, mean: Tensor) -> Tensor:
    """Rotate series of red, green and blue to the axes of `colour`, float32 [N, 3 F^2]."""
    z = colour.T @ z
    z[:, :, 0] -= colour.T @ mean
    return z.flatten(1)


def synthesise(z: Tensor, colour: Tensor, mean: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the images of series along the axes of `colour`, float32 [N, height, width, 3], nominally in [0, 1]."""
    frequencies = math.isqrt(z.shape[1] // 3)
    rows, columns = (cosines(frequencies, side) for side in size)
    channels = rows.T @ z.view(len(z), 3, frequencies, frequencies) @ columns
    return channels.permute(0, 2, 3, 1) @ colour.T + mean
