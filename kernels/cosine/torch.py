"""The CPU backend of the cosine decode: two batched products if maps keep rows and columns separate, else one and a sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.cosine.spec import WORDS, CosineRows, CosineSpec
from kernels.decode.io import ImageFormat, cut
from kernels.decode.sampling import Sampling
from kernels.spec import OUT_FEATURES
from kernels.workers import for_each

TILE_VALUES = 2**19  # of the largest tensor of a tile


def dense_coefficients(rows: CosineRows, ids: Tensor, spec: CosineSpec) -> Tensor:
    """Return the coefficients of images, float32 [b, 3, F, F]; NaN for an unknown id or profile, which a GPU is not asked for."""
    known = (ids >= 0) & (ids < len(rows))
    codes = rows.codes.index_select(0, ids.where(known, 0)).long()
    profile = torch.zeros_like(ids)
    if spec.profiles > 1:
        known = known & (codes[:, 0] < spec.profiles)
        profile = codes[:, 0].where(known, 0)
    book = torch.arange(spec.groups, device=ids.device) + spec.groups * profile[:, None]  # [b, G]
    words = (codes[:, -spec.groups :] + WORDS * book).flatten()
    values = rows.books.flatten(0, 2).index_select(0, words).view(len(ids), -1).float()  # [b, G D]
    entries = rows.table.long().where(rows.table < values.shape[1], -1).index_select(0, profile)
    amplitudes = torch.nn.functional.pad(values, (1, 0)).gather(1, entries + 1)  # entry -1 is the padded zero
    z = values.new_zeros(len(ids), OUT_FEATURES * spec.frequencies**2)
    amplitudes.masked_fill_(~known[:, None], torch.nan)
    z.index_copy_(1, rows.places, amplitudes if rows.basis is None else amplitudes @ rows.basis)
    return z.view(len(ids), OUT_FEATURES, spec.frequencies, spec.frequencies)


def cosine_gains(frequencies: int, device: torch.device) -> Tensor:
    """Return the scales of the products of two cosines, [F, F]: sqrt(2) for each frequency above 0."""
    gain = torch.where(torch.arange(frequencies, device=device) > 0, 2**0.5, 1)
    return gain[:, None] * gain


def decode_cosine_torch(
    rows: CosineRows, ids: Tensor, affine: Tensor, *, spec: CosineSpec, images: ImageFormat, sampling: Sampling
) -> Tensor:
    """Decode by torch on inputs that `decode_cosine` has checked; each thread of a CPU takes different images."""
    on_cpu, affine = rows.device.type == "cpu", affine.reshape(-1, 2, 3)
    separable = on_cpu and not bool(affine[:, (0, 1), (1, 0)].any())  # on a GPU this would wait for the device
    line_values = OUT_FEATURES * images.width * (1 if separable else spec.frequencies)
    n_images, n_lines = cut(len(ids), images.height, line_values, TILE_VALUES)
    n_images = min(n_images, math.ceil(len(ids) / torch.get_num_threads()))
    out = images.empty(len(ids), rows.device)
    flat = images.planes(out)

    def decode_tile(corner: tuple[int, int]) -> None:
        tile = slice(corner[0], min(corner[0] + n_images, len(ids)))
        top, end = corner[1], min(corner[1] + n_lines, images.height)
        z = dense_coefficients(rows, ids[tile], spec) * cosine_gains(spec.frequencies, ids.device)
        maps = affine[tile] if len(affine) > 1 else affine
        i, j = (torch.arange(*bounds, dtype=torch.float32, device=ids.device) for bounds in ((top, end), (0, images.width)))

        def sample(row: float, column: float) -> Tensor:
            return _sample(z, rows, maps, (i + row, j + column), sampling=sampling, images=tile, separable=separable)

        flat[tile, :, top * images.width : end * images.width] = images.finish_(sampling.average(sample))

    corners = [(image, line) for image in range(0, len(ids), n_images) for line in range(0, images.height, n_lines)]
    if on_cpu:
        for_each(decode_tile, corners)
    else:
        for corner in corners:
            decode_tile(corner)
    return out


def _sample(
    z: Tensor, rows: CosineRows, maps: Tensor, grid: tuple[Tensor, Tensor], *, sampling: Sampling, images: slice, separable: bool
) -> Tensor:
    """Return RGB [b, 3, P] of the pixels of a grid.

    Args:
        z: coefficients [b, 3, F, F], times sqrt(2) for each frequency above 0.
        maps: [1 or b, 2, 3], from (line, column, 1) to coordinates.
        grid: lines and columns.
        images: the images of the batch that the coefficients belong to.
        separable: whether the maps keep lines and columns separate, so that the cosines of a line are the same in all columns.
    """
    i, j = grid
    if separable:
        longest = torch.arange(max(len(i), len(j)), device=i.device)
        pixels = torch.stack((longest + i[0], longest + j[0]))  # [2, P]; each axis uses only its length
    else:
        pixels = torch.stack(torch.meshgrid(i, j, indexing="ij")).flatten(1)
    coords = maps[:, :, :2] @ pixels + maps[:, :, 2:]  # [1 or b, 2, P]
    f = torch.arange(z.shape[-1], device=z.device)[:, None]
    phi = ((sampling.bend(coords, images) + 1) * (math.pi / 2))[:, :, None].mul(f).cos_()  # [1 or b, 2, F, P]
    (v, u), (y, x) = phi.unbind(1), coords.unbind(1)
    if separable:
        v, u, y, x = v[:, :, : len(i)], u[:, :, : len(j)], y[:, : len(i), None], x[:, None, : len(j)]
    else:
        y, x = y[:, None], x[:, None]
    series = (z.flatten(1, 2) @ u).unflatten(1, z.shape[1:3])  # [b, 3, F, P]
    series = v.mT[:, None] @ series if separable else series.mul_(v[:, None]).sum(2, keepdim=True)  # [b, 3, lines, columns]
    rgb = torch.baddbmm(rows.mean[:, None], rows.colour.expand(len(z), -1, -1), series.flatten(2))
    sampling.blacken(rgb.view_as(series), y, x)
    return rgb
