"""The cosine series of an image: which sum of cosines passes through its pixels.

    s_c(v, u) = sum over (fy, fx) of z[c, fy, fx] phi(fy, v) phi(fx, u),   phi(0, t) = 1,   phi(f, t) = sqrt(2) cos(pi f t)
    rgb = colour s + mean

v and u run from 0 to 1, from edge to edge. At the centres of the pixels the cosines are orthogonal (the DCT-II; Ahmed et al.
1974, "Discrete cosine transform"), and the colour transform is a rotation, so the mean squared error of an image is a third of
the sum of the squared errors of its coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

COLOURS = 1 << 20  # that tell their axes


def cosines(frequencies: int, size: int) -> Tensor:
    """Return phi(f, t) at the centres of `size` pixels, float32 [frequencies, size]."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    values = math.sqrt(2) * torch.cos(math.pi * torch.arange(frequencies)[:, None] * centres)
    values[0] = 1
    return values.float()


def colour_transform(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the axes along which the colours of images do not correlate, and their mean.

    Args:
        images: uint8 [n, H, W, 3] of each size.

    Returns:
        float32 [3, 3], a column an axis, the longest first, and float32 [3], of values in [0, 1].
    """
    colours = torch.cat([of_size.reshape(-1, 3) for of_size in images])
    colours = colours[:: max(1, len(colours) // COLOURS)].double() / 255
    mean = colours.mean(0)
    _, axes = torch.linalg.eigh((colours - mean).T @ (colours - mean))
    axes = axes.flip(1)
    return (axes * axes.sum(0).sign()).float().contiguous(), mean.float()


def analyse(images: Tensor, colour: Tensor, mean: Tensor, frequencies: int) -> Tensor:
    """Return the coefficients of images, uint8 [N, H, W, 3] with sides of at least `frequencies`.

    Returns:
        float32 [N, 3 F^2], in the order [channel, fy, fx].
    """
    height, width = images.shape[1:3]
    channels = ((images.float() / 255 - mean) @ colour).permute(0, 3, 1, 2)  # [N, 3, H, W]
    rows, columns = cosines(frequencies, height) / height, cosines(frequencies, width) / width
    return (rows @ channels @ columns.T).flatten(1)


def synthesise(z: Tensor, colour: Tensor, mean: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the images of coefficients, float32 [N, height, width, 3], nominally in [0, 1]."""
    frequencies = math.isqrt(z.shape[1] // 3)
    rows, columns = (cosines(frequencies, side) for side in size)
    channels = rows.T @ z.view(len(z), 3, frequencies, frequencies) @ columns
    return channels.permute(0, 2, 3, 1) @ colour.T + mean
