"""GPTQ: round the weights of a SIREN one after another, each corrected for the errors of those already rounded.

With J the Jacobian of an image's RGB [3P] by all weights [S], an error e of the weights changes the image by about J e. So the
rounding minimises e^T H e with H = J^T J / 3P, which needs the size of the image but not its pixels. With H = R^T R, R upper
triangular, weights are rounded from the last to the first, and each is first moved to where it best corrects the errors so far:

    c[i] = w[i] + sum_{j > i} R[i, j] / R[i, i] (w[j] - w'[j]),   w'[i] = scale[i] round(c[i] / scale[i])

This is GPTQ (Frantar et al. 2022, arXiv 2210.17323) with the Hessian of the whole network instead of one layer. It equals Babai's
nearest plane algorithm (Babai 1986; equivalence: Chen et al. 2025, arXiv 2507.18553).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.spec import OUT_FEATURES, SirenSpec, n_ends, weight_sections
from rapid_inr.compress.quantize import MAX_END, QuantizeConfig, Quantized, dequantize, quantize
from rapid_inr.inr.batches import map_batches
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.layout import split_rows
from rapid_inr.memory import gpu_budget_bytes
from rapid_inr.runlog.progress import Report

MAX_WEIGHTS = 2500  # of a SIREN: its Hessian then takes 25 MB, and 0.4 s at 32 px on one core
DAMPING = 1e-2  # added to the diagonal, as a fraction of its mean; docs/compression.md
PIXELS_AT_ONCE = 1024  # processed together; fewer are not faster
CPU_FACTOR_BYTES = 64 << 20  # of the factors of a batch: enough images to hide Python's overhead


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
    """Quantize flat rows like `quantize`, but let later weights correct the errors of earlier ones.

    Hidden weights are rounded first, since their steps are the largest. Integer ends have the same scales as with `quantize`;
    floating ends are rounded only when stored. On a CPU the result of a row does not depend on its batch, bit for bit.

    Args:
        rows: float32 [B, S] on the CPU, finite, at the end of training.
        height, width: of the images.
        masks: bool [B, K], true where a hidden weight is kept; the others are zero and stay zero.
        scales: as for `quantize`.
        device: to work on.

    Returns:
        The codes, ends and scales, on the CPU. A row whose Hessian cannot be factored is rounded to the nearest codes.

    Raises:
        ValueError: if a value is not finite or does not fit its type.
    """
    device = torch.device(device)
    nearest = quantize(rows, spec, config, scales=scales)
    order, coords = _order(spec).to(device), pixel_coords(height, width).to(device)
    ones = replace(nearest, codes=torch.ones_like(nearest.codes), ends=torch.ones_like(nearest.ends))
    steps = dequantize(ones, spec).to(device)  # [B, S], the value of code 1; 1 for floating ends
    kept = None if masks is None else masks.flip(1)

    def round_batch(chunk: slice, report: Report) -> tuple[Tensor, Tensor]:
        batch_rows, batch_kept = rows[chunk].to(device), None if kept is None else kept[chunk].to(device)
        factors, sound = _factors(batch_rows, spec, coords, order, batch_kept)
        codes = _round_in_turn(batch_rows[:, order], factors, steps[chunk][:, order], config, n_ends=n_ends(spec))
        return codes.cpu(), sound.cpu()

    batches = map_batches(round_batch, len(rows), at_once=_images_per_batch(spec, device), device=device)
    codes, sound = (torch.cat(columns) for columns in zip(*batches, strict=True))
    return _or_nearest(codes, sound, nearest)


def _or_nearest(rounded: Tensor, sound: Tensor, nearest: Quantized) -> Quantized:
    """Return the codes of `rounded`, [B, S], but the nearest codes in rows that are not `sound` or do not fit their types."""
    ends, codes = rounded.split([nearest.ends.shape[1], nearest.codes.shape[1]], 1)
    ends, codes = ends.to(nearest.ends.dtype), codes.flip(1)
    sound = (sound & codes.isfinite().all(1) & ends.isfinite().all(1))[:, None]
    codes = torch.where(sound, codes, nearest.codes).to(torch.int8)
    return replace(nearest, codes=codes, ends=torch.where(sound, ends, nearest.ends))


def hessian(rows: Tensor, spec: SirenSpec, coords: Tensor) -> Tensor:
    """Return J^T J / 3P of each SIREN, where J is the Jacobian of its RGB at P coordinates by its weights.

    The derivative by a weight is an input of its layer times the derivative by an output of the layer, and only the latter
    depends on the channel. So the block of H between two layers is a matrix product over pixels: products of inputs times
    products of output derivatives, summed over channels. It takes a third of the work of J^T J, or a sixth with symmetry.

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
    """Return the slice of each layer in a row: its weights, then its biases as the weights of a constant input 1."""
    sections = weight_sections(spec)
    return [slice(sections[f"weight_{i}"].start, sections[f"bias_{i}"].stop) for i in range(len(spec.fans))]


def _derivatives(rows: Tensor, spec: SirenSpec, coords: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return for each layer its inputs [B, fan_in + 1, P], the last one 1, and RGB's slopes by its outputs [B, 3, fan_out, P]."""
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
    """Return all m n products of [B, C, m, P] and [B, C, n, P], summed over channels: [B, m n, P]."""
    products = a[:, 0, :, None] * b[:, 0, None]
    for channel in range(1, a.shape[1]):
        products.addcmul_(a[:, channel, :, None], b[:, channel, None])
    return products.flatten(1, 2)


def _order(spec: SirenSpec) -> Tensor:
    """Return the positions [S] in a row such that rounding from the last to the first takes hidden weights before ends."""
    hidden, ends = split_rows(torch.arange(spec.n_weights)[None], spec)
    return torch.cat([ends[0], hidden[0].flip(0)])


def _factors(rows: Tensor, spec: SirenSpec, coords: Tensor, order: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return R [B, S, S] of each row with its weights in `order`, and whether it exists in float32, bool [B].

    A CPU takes rows one by one, so that no sum depends on the batch and the buffers fit a cache.
    """
    factors = rows.new_empty(len(rows), len(order), len(order)).mT  # column-major, since columns are written and read
    sound = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    at_once = 1 if rows.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), at_once):
        chunk = slice(start, start + at_once)
        damped = hessian(rows[chunk], spec, coords).index_select(1, order).index_select(2, order)
        if kept is not None:  # a weight that stays zero cannot correct errors
            free = torch.nn.functional.pad(kept[chunk].to(damped.dtype), (n_ends(spec), 0), value=1.0)
            damped.mul_(free[:, :, None]).mul_(free[:, None])
        diagonal = damped.diagonal(dim1=1, dim2=2)
        diagonal.add_(DAMPING * diagonal.mean(1, keepdim=True))
        factors[chunk], info = torch.linalg.cholesky_ex(damped, upper=True)
        sound[chunk] = info == 0
    return factors, sound


def _round_in_turn(rows: Tensor, factors: Tensor, steps: Tensor, config: QuantizeConfig, *, n_ends: int) -> Tensor:
    """Return the codes [B, S] of rows, or the values of floating ends, in the order of the factors.

    `wanted` is R[i, i] c[i], which avoids dividing the factors.
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
        # not addcmul_: whether it rounds the product before the sum depends on the position in the batch
        wanted[:, :i].add_(factors[:, :i, i] * error[:, None])
    return codes


def _images_per_batch(spec: SirenSpec, device: torch.device) -> int:
    """Return how many rows to round at once: a CPU holds only their factors together, a GPU also all intermediate results."""
    factor = spec.n_weights**2
    if device.type == "cpu":
        return max(1, CPU_FACTOR_BYTES // (4 * factor))
    # at most four more matrices of this size: blocks, Hessian, its reordered copy, and its factor before the copy
    floats = 5 * factor + PIXELS_AT_ONCE * (2 * (spec.hidden + 1) ** 2 + 6 * (spec.depth + 1) * (spec.hidden + 1))
    return max(1, gpu_budget_bytes(device) // (4 * floats))
