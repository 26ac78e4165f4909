"""The first link of the chain of trust: the formula in plain Python, one pixel at a time <- the reference in float64."""

import math

import pytest
import torch

from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from tests.kernels.random_rows import random_batch
from tests.tolerances import FORMULA_RGB

CPU = torch.device("cpu")
KINDS = {
    **{f"{bits} bits": {"bits": bits} for bits in range(2, 9)},
    "float16": {"bits": 16},
    "float32": {"bits": 32, "ends": torch.float32},
    "int8 ends": {"ends": torch.int8},
    "a scale a layer": {"bits": 5, "scales": 1},
    "shared scales": {"bits": 6, "scales": 1, "shared_scales": True},
    "masks": {"bits": 5, "masked": True},
}


def bits_by_hand(packed: list[int], bits: int, n: int) -> list[int]:
    """Read n unsigned integers of a row of bytes as one long number."""
    number = int.from_bytes(bytes(packed), "little")
    return [number >> bits * i & (1 << bits) - 1 for i in range(n)]


def codes_by_hand(rows: PackedRows, row: int, n: int) -> list[float]:
    """Read the codes of a row as docs/format.md states it in words."""
    if rows.bits > 8:
        return rows.codes[row].tolist()
    packed = rows.codes[row] if rows.starts is None else rows.codes[rows.starts[row] : rows.starts[row + 1]]
    kept = [1] * n
    if rows.masks is not None:
        kept = bits_by_hand(rows.masks[row].tolist(), 1, n)
    codes = iter(bits_by_hand(packed.tolist(), rows.bits, sum(kept)))
    half = 1 << rows.bits - 1
    return [((next(codes) + half) % (2 * half)) - half if keep else 0 for keep in kept]


def row_by_hand(rows: PackedRows, row: int, spec: SirenSpec) -> tuple[list[float], list[float], list[float]]:
    """Return codes, ends and scales, one a column, of a row."""
    d, h = spec.depth, spec.hidden
    ends = rows.ends[row].tolist()
    if rows.end_scales is not None:
        sizes = (2 * h, d * h, 3 * h, 3)
        steps = [step for step, size in zip(rows.end_scales[row].tolist(), sizes, strict=True) for _ in range(size)]
        ends = [code * step for code, step in zip(ends, steps, strict=True)]
    scales = [1.0] * ((d - 1) * h)
    if rows.scales is not None:
        scales = rows.scales[row if len(rows.scales) > 1 else 0].tolist()
        scales = scales if len(scales) == (d - 1) * h else [scale for scale in scales for _ in range(h)]
    return codes_by_hand(rows, row, (d - 1) * h * h), ends, scales


def rgb_by_hand(codes: list[float], ends: list[float], scales: list[float], spec: SirenSpec, y: float, x: float) -> list[float]:
    """Evaluate one row at one coordinate, reading it by the layout that kernels/spec.py states in words."""
    d, h = spec.depth, spec.hidden
    bias = [ends[(2 + i) * h : (3 + i) * h] for i in range(d)]
    last = ends[(2 + d) * h :]
    a = [math.sin(spec.omega * (y * ends[j] + x * ends[h + j] + bias[0][j])) for j in range(h)]
    for i in range(1, d):
        weight = [[codes[((i - 1) * h + k) * h + j] * scales[(i - 1) * h + j] for j in range(h)] for k in range(h)]
        a = [math.sin(spec.omega * (sum(a[k] * weight[k][j] for k in range(h)) + bias[i][j])) for j in range(h)]
    return [min(max(sum(a[k] * last[3 * k + c] for k in range(h)) + last[3 * h + c], 0.0), 1.0) for c in range(3)]


def moved_by_hand(c: float, edge: float, padding: str) -> float:
    """Bring a coordinate back between -edge and edge, one fold after the other."""
    if padding == "border":
        return min(max(c, -edge), edge)
    while padding == "reflection" and abs(c) > edge:
        c = math.copysign(2 * edge, c) - c
    return c


def assert_is_by_hand(batch, *, maps, padding="none", edges=(0.0, 0.0), supersample=1):
    images = batch.reference(affine=maps, padding=padding, edges=torch.tensor(edges), supersample=supersample)
    spec, n = batch.keywords["spec"], supersample
    for image, row, ((yi, yj, y0), (xi, xj, x0)) in zip(images, batch.ids.tolist(), maps.tolist(), strict=True):
        weights = row_by_hand(batch.rows, row, spec)
        for pixel in ((0, 0), (1, 2), (2, 4), (0, 3)):
            samples = []
            for k in range(n * n):
                i, j = pixel[0] + (k // n + 0.5) / n - 0.5, pixel[1] + (k % n + 0.5) / n - 0.5
                y, x = yi * i + yj * j + y0, xi * i + xj * j + x0
                black = padding == "zeros" and max(abs(y), abs(x)) > 1
                y, x = (moved_by_hand(c, torch.tensor(edge).item(), padding) for c, edge in zip((y, x), edges, strict=True))
                samples.append([0.0] * 3 if black else rgb_by_hand(*weights, spec, y, x))
            expected = [sum(channel) / n**2 for channel in zip(*samples, strict=True)]
            assert image[:, pixel[0], pixel[1]].tolist() == pytest.approx(expected, abs=FORMULA_RGB, rel=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_reads_every_kind_of_row(kind):
    batch = random_batch(SirenSpec(3, 13, 12.0), CPU, height=3, width=5, **KINDS[kind])
    assert_is_by_hand(batch, maps=batch.affine.expand(4, 2, 3))


@pytest.mark.parametrize(("depth", "hidden"), [(1, 1), (1, 16), (2, 7), (5, 24), (4, 64), (2, 65)])
def test_the_reference_is_the_formula_at_every_size(depth, hidden):
    batch = random_batch(SirenSpec(depth, hidden, 12.0), CPU, height=3, width=5, bits=5, ends=torch.int8)
    assert_is_by_hand(batch, maps=batch.affine.expand(4, 2, 3))


@pytest.mark.parametrize("supersample", [1, 3])
@pytest.mark.parametrize("padding", ["none", "zeros", "reflection", "border"])
def test_the_reference_samples_where_the_map_leads(padding, supersample):
    batch = random_batch(SirenSpec(2, 7, 3.0), CPU, height=3, width=5)
    maps = batch.affine + 0.5 * torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))  # shears, turns, far outside
    assert_is_by_hand(batch, maps=maps, padding=padding, edges=(0.625, 0.75), supersample=supersample)
