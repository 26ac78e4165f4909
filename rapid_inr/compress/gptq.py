"""Round the weights of a network one after another, each taking over what those before it got wrong.

With J the Jacobian of an image's RGB [3P] by all weights [S] of its network, an error e of the weights changes the image by
about J e. So e^T H e with H = J^T J / 3P is to be small, for which no image is needed, only its size. With H = R^T R, R upper
triangular, the last weight is rounded first, and each in its turn from where the errors of those before it, which lie behind it,
are best made up for:

    c[i] = w[i] + sum_{j > i} R[i, j] / R[i, i] (w[j] - w'[j]),   w'[i] = scale[i] round(c[i] / scale[i])

This is GPTQ (Frantar et al. 2022, arXiv 2210.17323), with the Hessian of the whole network in place of a layer's, or Babai's
nearest plane algorithm (Babai 1986; that they are the same: Chen et al. 2025, arXiv 2507.18553).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.spec import OUT_FEATURES, SirenSpec, n_ends, weight_sections
from rapid_inr.compress.quantize import MAX_END, QuantizeConfig, Quantized, dequantize, quantize
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.layout import split_rows
from rapid_inr.memory import gpu_budget_bytes

MAX_WEIGHTS = 2500  # of a network: its Hessian then takes 25 MB, and 0.4 s at 32 px on one core
DAMPING = 1e-2  # added to the diagonal, of its mean; docs/compression.md
PIXELS_AT_ONCE = 1024  # whose products are at work; fewer are no faster
CPU_FACTOR_BYTES = 64 << 20  # of the factors of a batch: enough images that the steps of Python hardly count


def gptq(
    rows: Tensor,
    spec: SirenSpec,
    config: QuantizeConfig,
    *,
    height: int,
    width: int,
    masks: Tensor | None = None,
    scales: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Quantized:
    """Quantize flat rows to what a store holds, as `quantize` but with the errors of weights made up for by others.

    Hidden weights, the coarsest, come first. Ends that are integers have the scales that they would have alone; floating ones
    are not rounded before they are stored. On a CPU the result of a row is the same, bit for bit, in any batch.

    Args:
        rows: float32 [B, S] on the CPU, finite, where training has ended.
        height, width: of the images.
        masks: bool [B, K], true where a hidden weight is kept; the others are zero, and stay so.
        scales: as for `quantize`.
        device: where to work.

    Returns:
        The codes and all that goes with them, on the CPU. A row whose Hessian cannot be factored is rounded to the nearest.

    Raises:
        ValueError: if a value is not finite or does not fit its type.
    """
    device = torch.device(device)
    nearest = quantize(rows, spec, config, scales=scales)
    order, coords = _order(spec).to(device), pixel_coords(height, width).to(device)
    ones = replace(nearest, codes=torch.ones_like(nearest.codes), ends=torch.ones_like(nearest.ends))
    steps = dequantize(ones, spec).to(device)  # [B, S], what a code of one is worth; 1 where ends are floating
    kept = None if masks is None else masks.flip(1)
    batch, codes, sound = _images_per_batch(spec, device), [], []
    for start in range(0, len(rows), batch):
        chunk = slice(start, start + batch)
        chunk_rows, chunk_kept = rows[chunk].to(device), None if kept is None else kept[chunk].to(device)
        factors, ok = _factors(chunk_rows, spec, coords, order, chunk_kept)
        codes.append(_round_in_turn(chunk_rows[:, order], factors, steps[chunk][:, order], config, n_ends=n_ends(spec)).cpu())
        sound.append(ok.cpu())
    return _or_nearest(torch.cat(codes), torch.cat(sound), nearest)


def _or_nearest(rounded: Tensor, sound: Tensor, nearest: Quantized) -> Quantized:
    """Return the codes of `rounded`, [B, S], and the nearest in rows that are not `sound` or do not fit their types."""
    ends, codes = rounded.split([nearest.ends.shape[1], nearest.codes.shape[1]], 1)
    ends, codes = ends.to(nearest.ends.dtype), codes.flip(1)
    sound = (sound & codes.isfinite().all(1) & ends.isfinite().all(1))[:, None]
    codes = torch.where(sound, codes, nearest.codes).to(torch.int8)
    return replace(nearest, codes=codes, ends=torch.where(sound, ends, nearest.ends))


def hessian(rows: Tensor, spec: SirenSpec, coords: Tensor) -> Tensor:
    """Return J^T J / 3P of each SIREN, J the Jacobian of its RGB at P coordinates by its weights.

    The slope by a weight is the input of its layer times the slope by what the layer puts out, which alone depends on the
    channel: so between two layers H is a product over pixels of products of inputs with sums over channels of products of slopes,
    and takes a third of the work of J^T J, or a sixth with its symmetry.

    Args:
        rows: floating [B, S].
        coords: the same dtype, [P, 2].

    Returns:
        [B, S, S].
    """
    spans = _spans(spec)
    blocks: dict[tuple[int, int], Tensor] = {}
    for chunk in coords.split(PIXELS_AT_ONCE):
        inputs, slopes = _derivatives(rows, spec, chunk)
        for i in range(len(spans)):
            for j in range(i + 1):
                block = _products(inputs[i][:, None], inputs[j][:, None]) @ _products(slopes[i], slopes[j]).mT
                blocks[i, j] = blocks[i, j].add_(block) if (i, j) in blocks else block  # [B, I_i I_j, O_i O_j]
    matrix = rows.new_empty(len(rows), spec.n_weights, spec.n_weights)
    for (i, j), block in blocks.items():
        (in_i, out_i), (in_j, out_j) = spec.fans[i], spec.fans[j]
        block = block.unflatten(2, (out_i, out_j)).unflatten(1, (in_i + 1, in_j + 1)).transpose(2, 3)  # [B, I_i, O_i, I_j, O_j]
        matrix[:, spans[i], spans[j]] = block.flatten(3).flatten(1, 2)
        matrix[:, spans[j], spans[i]] = matrix[:, spans[i], spans[j]].mT
    return matrix.div_(OUT_FEATURES * len(coords))


def _spans(spec: SirenSpec) -> list[slice]:
    """Return where the weights of each layer lie in a row, its biases behind them as if they were of an input that is 1."""
    sections = weight_sections(spec)
    return [slice(sections[f"weight_{i}"].start, sections[f"bias_{i}"].stop) for i in range(len(spec.fans))]


def _derivatives(rows: Tensor, spec: SirenSpec, coords: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return of each layer its inputs [B, fan_in + 1, P], the last of them 1, and slopes by its outputs [B, 3, fan_out, P]."""
    layers = [rows[:, span].unflatten(1, (-1, fan_out)) for span, (_, fan_out) in zip(_spans(spec), spec.fans, strict=True)]
    one, rgb = coords.new_ones(len(rows), 1, len(coords)), torch.eye(OUT_FEATURES, dtype=rows.dtype, device=rows.device)
    inputs, slopes, turns = [torch.cat([coords.T.expand(len(rows), -1, -1), one], 1)], [], []
    for layer in layers[:-1]:
        z = spec.omega * (layer.mT @ inputs[-1])  # [B, H, P]
        inputs.append(torch.cat([z.sin(), one], 1))
        turns.append(spec.omega * z.cos())
    slopes.append(rgb[:, :, None].expand(len(rows), -1, -1, len(coords)))
    for layer, turn in zip(reversed(layers[1:]), reversed(turns), strict=True):
        slopes.append((layer[:, None, :-1] @ slopes[-1]) * turn[:, None])  # [B, 3, H, P]
    return inputs, slopes[::-1]


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of each of m with each of n, summed over channels, [B, m n, P], of [B, C, m, P] and [B, C, n, P]."""
    products = a[:, 0, :, None] * b[:, 0, None]
    for channel in range(1, a.shape[1]):
        products.addcmul_(a[:, channel, :, None], b[:, channel, None])
    return products.flatten(1, 2)


def _order(spec: SirenSpec) -> Tensor:
    """Return the places [S] in a row of the weights in the order that they are rounded in, the last first: ends come last."""
    hidden, ends = split_rows(torch.arange(spec.n_weights)[None], spec)
    return torch.cat([ends[0], hidden[0].flip(0)])


def _factors(rows: Tensor, spec: SirenSpec, coords: Tensor, order: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return R [B, S, S] of each row, its weights in `order`, and whether it exists in float32, bool [B].

    On a CPU rows are taken one by one: so the sums of none depend on its batch, and what is at work stays in a cache.
    """
    factors = rows.new_empty(len(rows), len(order), len(order)).mT  # columns lie in a piece, as they are written and read
    sound = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    at_once = 1 if rows.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), at_once):
        chunk = slice(start, start + at_once)
        damped = hessian(rows[chunk], spec, coords).index_select(1, order).index_select(2, order)
        if kept is not None:  # what stays zero can make up for nothing
            free = torch.nn.functional.pad(kept[chunk].to(damped.dtype), (n_ends(spec), 0), value=1.0)
            damped.mul_(free[:, :, None]).mul_(free[:, None])
        diagonal = damped.diagonal(dim1=1, dim2=2)
        diagonal.add_(DAMPING * diagonal.mean(1, keepdim=True))
        factors[chunk], info = torch.linalg.cholesky_ex(damped, upper=True)
        sound[chunk] = info == 0
    return factors, sound


def _round_in_turn(rows: Tensor, factors: Tensor, steps: Tensor, config: QuantizeConfig, *, n_ends: int) -> Tensor:
    """Return the codes [B, S] of rows, floating ends as they are to be stored, all in the order of the factors.

    `wanted` is R[i, i] c[i]: the factors need not be divided then.
    """
    diagonal, codes = factors.diagonal(dim1=1, dim2=2), torch.empty_like(rows)
    wanted, widths = rows * diagonal, steps * diagonal
    for i in reversed(range(rows.shape[1])):
        code = wanted[:, i] / widths[:, i]
        if i >= n_ends or config.ends_bits == 8:
            limit = config.max_code if i >= n_ends else MAX_END
            code.round_().clamp_(-limit, limit)
        codes[:, i] = code
        error = rows[:, i] - code * steps[:, i]
        # not addcmul_: whether a product is rounded before it is added would depend on where it lies in the batch
        wanted[:, :i].add_(factors[:, :i, i] * error[:, None])
    return codes


def _images_per_batch(spec: SirenSpec, device: torch.device) -> int:
    """Return how many rows to round at once: on a CPU only their factors are there together, on a GPU all that leads to them."""
    factor = spec.n_weights**2
    if device.type == "cpu":
        return max(1, CPU_FACTOR_BYTES // (4 * factor))
    # four more of its size at most: blocks, Hessian, the same in order, its factor before it is copied
    floats = 5 * factor + PIXELS_AT_ONCE * (2 * (spec.hidden + 1) ** 2 + 6 * (spec.depth + 1) * (spec.hidden + 1))
    return max(1, gpu_budget_bytes(device) // (4 * floats))
