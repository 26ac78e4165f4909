"""The pixels of a block, for all families: their positions, their coordinates, and how their values are written."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.decode.fast_math import ROUND_TO_INTEGER


@triton.jit
def places(block, width, inverse_width, BLOCK: tl.constexpr):
    """Return the rows and columns of a block's pixels, float32 [BLOCK].

    A program makes one integer division; each pixel's division is a rounded product with 1 / width. It is exact while a block
    ends less than 2^22 pixels after the start of its first row.
    """
    first = block * BLOCK
    top = first // width
    column = (first - top * width + tl.arange(0, BLOCK)).to(tl.float32)
    # column / width - 1/2 + 1 / (2 width) is at least 1 / (2 width) from the points where its rounding changes
    rows = (column * inverse_width + (0.5 * inverse_width - 0.5) + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
    return top.to(tl.float32) + rows, column - rows * width.to(tl.float32)


@triton.jit
def _bend(c, edge, PADDING: tl.constexpr):
    """Fold coordinates into [-edge, edge]: clamped, or reflected at both edges repeatedly."""
    if PADDING == "border":
        c = tl.minimum(tl.maximum(c, -edge), edge)
    elif PADDING == "reflection":
        turns = (c + edge) / tl.where(edge > 0, 2 * edge, 1.0)  # the two edges of a single pixel coincide
        half = (turns * 0.5 + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
        c = tl.where(tl.abs(c) <= edge, c, tl.abs(turns - 2 * half) * (2 * edge) - edge)
    return c


@triton.jit
def map_pixels(i, j, affine_ptr, edges_ptr, PADDING: tl.constexpr):
    """Return the coordinates of output pixels, and whether they lie within the image."""
    y = tl.load(affine_ptr) * i + tl.load(affine_ptr + 1) * j + tl.load(affine_ptr + 2)
    x = tl.load(affine_ptr + 3) * i + tl.load(affine_ptr + 4) * j + tl.load(affine_ptr + 5)
    inside = tl.full(y.shape, True, tl.int1)
    if PADDING == "zeros":
        inside = (tl.abs(y) <= 1) & (tl.abs(x) <= 1)
    elif PADDING != "none":
        y = _bend(y, tl.load(edges_ptr), PADDING)
        x = _bend(x, tl.load(edges_ptr + 1), PADDING)
    return y, x, inside


@triton.jit
def write_pixels(
    value, out_ptr, image, block, n_pixels, gain_0, gain_1, gain_2, shift_0, shift_1, shift_2,
    ROUND: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write RGB in [0, 1] and a padding column, [BLOCK, 4], in the format of `ImageFormat`."""
    if ROUND:
        value = (value * 255.0 + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
    c = tl.arange(0, 4)
    gain = tl.where(c == 0, gain_0, tl.where(c == 1, gain_1, gain_2))
    shift = tl.where(c == 0, shift_0, tl.where(c == 1, shift_1, shift_2))
    value = value * gain[None, :] + shift[None, :]
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    offset = pixel[:, None] * 3 + c[None, :] if CHANNELS_LAST else c[None, :] * n_pixels + pixel[:, None]
    out_ptr += image * 3 * n_pixels
    tl.store(out_ptr + offset, value.to(out_ptr.dtype.element_ty), mask=(pixel < n_pixels)[:, None] & (c < 3)[None, :])
