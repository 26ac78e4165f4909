"""The first links of the chain of trust: the formula in plain Python <- the twin in float64 <- the twin in float32."""

import math

import pytest
import torch

from kernels.decode import torch as siren_decode_torch
from kernels.decode.io import ImageFormat
from kernels.decode.torch import decode_siren_torch
from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from rapid_inr.evaluation.metrics import to_8bit
from tests.kernels.random_rows import random_batch
from tests.tolerances import FAST_TWIN_RGB, FORMULA_RGB, TWIN_RGB

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 16), (2, 7), (3, 13), (5, 24), (4, 64), (2, 65)]  # depth, hidden
KINDS = {
    **{f"{bits} bits": {"bits": bits} for bits in range(2, 9)},
    "float16": {"bits": 16},
    "float32": {"bits": 32, "ends": torch.float32},
    "int8 ends": {"ends": torch.int8},
    "a scale a layer": {"bits": 5, "scales": 1},
    "shared scales": {"bits": 6, "scales": 1, "shared_scales": True},
    "own masks": {"bits": 5, "masks": "own"},
    "a shared mask": {"bits": 4, "masks": "shared", "ends": torch.int8},
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
        kept = bits_by_hand(rows.masks[row if len(rows.masks) > 1 else 0].tolist(), 1, n)
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


@pytest.mark.parametrize(("depth", "hidden"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_float64_twin_is_the_formula(depth, hidden, kind):
    spec = SirenSpec(depth, hidden, 12.0)
    batch = random_batch(spec, CPU, height=3, width=5, **KINDS[kind])
    images = batch.decode(decode_siren_torch, compute_dtype=torch.float64)
    (yi, yj, y0), (xi, xj, x0) = batch.affine.tolist()
    for image, row in zip(images, batch.ids.tolist(), strict=True):
        for i, j in ((0, 0), (1, 2), (2, 4), (0, 3)):
            y, x = yi * i + yj * j + y0, xi * i + xj * j + x0
            expected = rgb_by_hand(*row_by_hand(batch.rows, row, spec), spec, y, x)
            assert image[:, i, j].tolist() == pytest.approx(expected, abs=FORMULA_RGB, rel=0)


@pytest.mark.parametrize(("depth", "hidden"), [*SIZES, (12, 32)])
@pytest.mark.parametrize(("exact_sine", "tolerance"), [(True, TWIN_RGB), (False, FAST_TWIN_RGB)])
def test_float32_is_as_good_as_float64(depth, hidden, exact_sine, tolerance):
    batch = random_batch(SirenSpec(depth, hidden, 30.0), CPU, height=9, width=8)
    oracle = batch.decode(decode_siren_torch, compute_dtype=torch.float64)
    torch.testing.assert_close(batch.decode(decode_siren_torch, exact_sine=exact_sine), oracle, atol=tolerance, rtol=0)


def test_an_outer_product_is_the_first_layer_under_any_affine_map_an_image():
    batch = random_batch(SirenSpec(2, 16, 30.0), CPU, height=9, width=8)
    maps = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))  # shears and rotations, far outside too
    alone = [
        batch.decode(decode_siren_torch, ids=batch.ids[i : i + 1], affine=maps[i], compute_dtype=torch.float64) for i in range(4)
    ]
    torch.testing.assert_close(batch.decode(decode_siren_torch, affine=maps), torch.cat(alone), atol=FAST_TWIN_RGB, rtol=0)


def test_an_endless_weight_is_a_black_image():
    batch = random_batch(SirenSpec(2, 7, 12.0), CPU, height=3, width=5)
    batch.rows.ends[3, 0] = math.inf
    images = batch.decode(decode_siren_torch, dtype=torch.uint8, round_8bit=True)
    assert images[0].eq(0).all()
    assert images[1].any()


def test_threads_do_not_show():
    batch = random_batch(SirenSpec(3, 16, 12.0), CPU, height=11, width=3, ids=(4, 1, 1, 0, 2))
    alone, before = batch.decode(decode_siren_torch), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.inference_mode():
            shared = batch.decode(decode_siren_torch)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(shared, alone, atol=FAST_TWIN_RGB, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("chunk_values", [1, 7 * 16, 3 * 16 * 33, 2**19])
def test_chunks_do_not_show(monkeypatch, chunk_values, channels_last):
    batch = random_batch(SirenSpec(3, 16, 12.0), CPU, height=11, width=3, ids=(4, 1, 1, 0, 2))
    whole = batch.decode(decode_siren_torch)
    monkeypatch.setattr(siren_decode_torch, "CHUNK_VALUES", chunk_values)
    monkeypatch.setattr(siren_decode_torch, "PART_VALUES", 2 * chunk_values)
    chunked = batch.decode(decode_siren_torch, channels_last=channels_last)
    torch.testing.assert_close(chunked, whole, atol=FAST_TWIN_RGB, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_become_8_bits_as_the_metrics_have_it(dtype):
    """The twin clamps and rounds in place, so it has lines of its own for what `to_8bit` defines."""
    steps = torch.arange(-64, 256 * 4 + 64, dtype=dtype) / 4 / 255  # levels, ties between them, and what is outside
    special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1.0, 0.5], dtype=dtype)
    values = torch.cat([steps, torch.nextafter(steps, steps + 1), torch.nextafter(steps, steps - 1), special])
    images = ImageFormat(1, len(values), torch.uint8, None, None, round_8bit=True, channels_last=False)
    finished = siren_decode_torch._finish(values.clone().expand(1, 3, -1).contiguous(), images)
    assert torch.equal(finished.to(torch.uint8), to_8bit(values).expand(1, 3, -1))


def test_only_float32_and_float64_are_computed_in():
    batch = random_batch(SirenSpec(1, 8, 12.0), CPU, height=2, width=2)
    with pytest.raises(ValueError, match=r"compute_dtype is torch.float16, expected torch.float32 or torch.float64"):
        batch.decode(decode_siren_torch, compute_dtype=torch.float16)
