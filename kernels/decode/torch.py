"""The CPU backend of the decode: torch operations on buffers that fit the cache, with a fast sine.

It does not need triton. It also runs on a GPU, slowly, for SIRENs that are too wide for the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels.decode.cpu_sine import GAIN, PHASE, SHIFT, TURN, double_cosine_, sine_
from kernels.decode.io import ImageFormat, cut
from kernels.decode.sampling import Sampling
from kernels.rows import PackedRows
from kernels.spec import OUT_FEATURES, SirenSpec
from kernels.unpack.torch import unpack_layers
from kernels.workers import for_each

# activations in a buffer (2 MB in float32), and in the part that a thread takes at a time, whose weights are unpacked once;
# measured: kernels/what-was-tried.md
CHUNK_VALUES = 2**19
PART_VALUES = 2**21
GPU_VALUES = 2**26  # both of these on a GPU, where few large operations are faster

Layers = list[tuple[Tensor, Tensor]]  # (weight [b, out, in], bias [b, out, 1]) of each layer


def decode_siren_torch(
    rows: PackedRows, ids: Tensor, affine: Tensor, *, spec: SirenSpec, images: ImageFormat, sampling: Sampling, exact_sine: bool
) -> Tensor:
    """Decode by torch on inputs that `decode_siren` has checked.

    Activations are [image, feature, pixel], few enough for the cache, so a layer is one batched product with long rows. On a CPU,
    each thread takes different images and, unless `exact_sine`, sines come from cpu_sine.py and the first layer's sines are an
    outer product.
    """
    on_cpu, affine = rows.device.type == "cpu", affine.reshape(-1, 2, 3)
    fast = on_cpu and not exact_sine
    tile_values = CHUNK_VALUES if on_cpu else GPU_VALUES
    n_images, n_lines = _part_size(len(ids), spec, images, threads=torch.get_num_threads() if on_cpu else None)
    out = images.empty(len(ids), rows.device)
    flat = images.planes(out)

    def decode_part(corner: tuple[int, int]) -> None:
        chunk = range(corner[0], min(corner[0] + n_images, len(ids)))
        lines = range(corner[1], min(corner[1] + n_lines, images.height))
        layers = _unpack_layers(rows, ids[chunk.start : chunk.stop], spec, fast=fast)
        tile_images, tile_lines = cut(len(chunk), len(lines), images.width * spec.hidden, tile_values)
        buffers = affine.new_empty((2, tile_images * tile_lines * images.width * max(spec.hidden, OUT_FEATURES)))
        j = torch.arange(images.width, dtype=affine.dtype, device=affine.device)
        for first in chunk[::tile_images]:
            tile = slice(first, min(first + tile_images, chunk.stop))
            maps = affine[tile] if len(affine) > 1 else affine
            in_chunk = slice(tile.start - chunk.start, tile.stop - chunk.start)
            tile_layers = [(weight[in_chunk], bias[in_chunk]) for weight, bias in layers]
            for top in lines[::tile_lines]:
                end = min(top + tile_lines, lines.stop)
                i = torch.arange(top, end, dtype=affine.dtype, device=affine.device)
                rgb = _sample(tile_layers, maps, (i, j), buffers, sampling=sampling, images=tile, fast=fast)
                flat[tile, :, top * images.width : end * images.width] = images.finish_(rgb)

    corners = [(i, y) for i in range(0, len(ids), n_images) for y in range(0, images.height, n_lines)]
    if on_cpu:
        for_each(decode_part, corners)
    else:
        for corner in corners:
            decode_part(corner)
    return out


def _part_size(batch: int, spec: SirenSpec, images: ImageFormat, *, threads: int | None) -> tuple[int, int]:
    """Return the (images, lines) that a GPU or a CPU thread takes at a time, few enough to keep all threads busy."""
    if threads is None:
        return cut(batch, images.height, images.width * spec.hidden, GPU_VALUES)
    n_images, n_lines = cut(batch, images.height, images.width * spec.hidden, PART_VALUES)
    if batch >= threads:
        return min(n_images, math.ceil(batch / threads)), n_lines
    shared = math.ceil(images.height * batch / threads)
    return 1, max(1, min(n_lines, max(shared, CHUNK_VALUES // (images.width * spec.hidden))))


def _unpack_layers(rows: PackedRows, ids: Tensor, spec: SirenSpec, *, fast: bool) -> Layers:
    """Return the layers of rows, with omega folded in and, after the first layer, the constants of the fast sine."""
    layers = [(weight.mT, bias[:, :, None]) for weight, bias in unpack_layers(rows, ids, spec, torch.float32)]
    layers = [*((weight * spec.omega, bias * spec.omega) for weight, bias in layers[:-1]), layers[-1]]
    return [layers[0], *_fold_fast_sine(layers[1:])] if fast else layers


def _sample(
    layers: Layers, maps: Tensor, grid: tuple[Tensor, Tensor], buffers: Tensor, *, sampling: Sampling, images: slice, fast: bool
) -> Tensor:
    """Return RGB [b, 3, P] of the pixels of a grid: at their centres, or the mean of their clamped samples.

    Args:
        maps: [1 or b, 2, 3], from (line, column, 1) to coordinates.
        grid: lines and columns.
        images: the images of the batch that the layers belong to.
    """
    first, following = layers[0], layers[1:]
    (n_images, hidden), n_pixels = first[1].shape[:2], len(grid[0]) * len(grid[1])
    start = buffers[0, : n_images * hidden * n_pixels].view(n_images, hidden, n_pixels)

    def sample(row: float, column: float) -> Tensor:
        i, j = grid[0] + row, grid[1] + column
        coords = None
        if not fast or sampling.padding != "none":
            coords = (
                maps[:, :, :2] @ torch.stack(torch.meshgrid(i, j, indexing="ij")).flatten(1) + maps[:, :, 2:]
            )  # [1 or b, 2, P]
        if fast and not sampling.folds:
            _separable_first_layer(first, maps, i, j, out=start)
        else:
            _direct_first_layer(first, sampling.bend(coords, images), fast=fast, out=start)
        rgb = _evaluate(following, start, buffers, double_cosine_ if fast else torch.sin_)
        return rgb if coords is None else sampling.blacken(rgb, *coords.unbind(1))

    return sampling.average(sample)


def _direct_first_layer(layer: tuple[Tensor, Tensor], coords: Tensor, *, fast: bool, out: Tensor) -> None:
    """Write the first layer's sines at coords [1 or b, 2, P] to `out`, [b, H, P]."""
    weight, bias = (tensor / TURN for tensor in layer) if fast else layer
    torch.baddbmm(bias, weight, coords.expand(len(weight), -1, -1), out=out)
    sine_(out) if fast else out.sin_()


def _separable_first_layer(layer: tuple[Tensor, Tensor], maps: Tensor, i: Tensor, j: Tensor, *, out: Tensor) -> None:
    """Write the first layer's sines at lines `i` and columns `j` under affine maps to `out`, [b, H, P].

    The phase is a_i + b_j, so only a_i and b_j need sines; the rest is an outer product.
    """
    weight, bias = layer
    by_line, by_column, constant = (weight @ maps).div(TURN).split(1, dim=2)  # [b, H, 1] each, in turns
    a, b = by_line * i + (constant + bias / TURN), by_column * j  # [b, H, lines], [b, H, columns]
    sin_a, cos_a, sin_b, cos_b = sine_(torch.cat((a, a + 0.25, b, b + 0.25), 2)).split((len(i), len(i), len(j), len(j)), 2)
    h = out.view(*a.shape, len(j))
    torch.mul(sin_a[..., None], cos_b[:, :, None], out=h).addcmul_(cos_a[..., None], sin_b[:, :, None])


def _fold_fast_sine(layers: Layers) -> Layers:
    """Return the layers after the first with the constants before and after `double_cosine_` folded in."""
    folded = []
    for number, (weight, bias) in enumerate(layers):
        if number > 0:  # its input is y, not the sine
            weight, bias = weight * GAIN, bias + SHIFT * weight.sum(2, keepdim=True)
        if number < len(layers) - 1:
            weight, bias = weight / TURN, bias / TURN + PHASE
        folded.append((weight, bias))
    return folded


def _evaluate(layers: Layers, h: Tensor, buffers: Tensor, sine_: Callable[[Tensor], Tensor]) -> Tensor:
    """Return RGB [b, 3, P] of the first activations h [b, H, P], which lie in buffer 0; layers alternate between the buffers."""
    for number, (weight, bias) in enumerate(layers, start=1):
        size = (len(weight), weight.shape[1], h.shape[2])
        z = buffers[number % 2, : math.prod(size)].view(size)
        torch.baddbmm(bias, weight, h, out=z)
        h = sine_(z) if number < len(layers) else z
    return h
