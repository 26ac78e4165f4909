"""The CPU backend <- the reference, and what its cutting into pieces must not change."""

import math

import pytest
import torch

from kernels.decode import torch as cpu_backend
from kernels.decode.io import ImageFormat
from kernels.spec import SirenSpec
from rapid_inr.evaluation.metrics import to_8bit
from tests.kernels.random_rows import random_batch
from tests.tolerances import FAST_TORCH_RGB, TORCH_RGB

CPU = torch.device("cpu")


@pytest.mark.parametrize(("depth", "hidden"), [(1, 1), (1, 16), (2, 7), (3, 13), (5, 24), (4, 64), (2, 65), (12, 32)])
@pytest.mark.parametrize(("exact_sine", "tolerance"), [(True, TORCH_RGB), (False, FAST_TORCH_RGB)])
def test_float32_is_as_good_as_the_reference(depth, hidden, exact_sine, tolerance):
    batch = random_batch(SirenSpec(depth, hidden, 30.0), CPU, height=9, width=8)
    torch.testing.assert_close(batch.decode("torch", exact_sine=exact_sine), batch.reference(), atol=tolerance, rtol=0)


def test_an_outer_product_is_the_first_layer_under_any_affine_map_an_image():
    batch = random_batch(SirenSpec(2, 16, 30.0), CPU, height=9, width=8)
    maps = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))  # shears and rotations, far outside too
    torch.testing.assert_close(batch.decode("torch", affine=maps), batch.reference(affine=maps), atol=FAST_TORCH_RGB, rtol=0)


def test_an_infinite_weight_is_a_black_image():
    batch = random_batch(SirenSpec(2, 7, 12.0), CPU, height=3, width=5)
    batch.rows.ends[3, 0] = math.inf
    images = batch.decode("torch", dtype=torch.uint8, round_8bit=True)
    assert images[0].eq(0).all()
    assert images[1].any()


def test_the_number_of_threads_does_not_show():
    batch = random_batch(SirenSpec(3, 16, 12.0), CPU, height=11, width=3, ids=(4, 1, 1, 0, 2))
    alone, before = batch.decode("torch"), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.inference_mode():
            shared = batch.decode("torch")
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(shared, alone, atol=FAST_TORCH_RGB, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("chunk_values", [1, 7 * 16, 3 * 16 * 33, 2**19])
def test_the_size_of_chunks_does_not_show(monkeypatch, chunk_values, channels_last):
    batch = random_batch(SirenSpec(3, 16, 12.0), CPU, height=11, width=3, ids=(4, 1, 1, 0, 2))
    whole = batch.decode("torch")
    monkeypatch.setattr(cpu_backend, "CHUNK_VALUES", chunk_values)
    monkeypatch.setattr(cpu_backend, "PART_VALUES", 2 * chunk_values)
    torch.testing.assert_close(batch.decode("torch", channels_last=channels_last), whole, atol=FAST_TORCH_RGB, rtol=0)


def test_values_become_8_bits_as_in_the_metrics():
    """The backend clamps and rounds in place, so it has lines of its own for what `to_8bit` defines."""
    steps = torch.arange(-64, 256 * 4 + 64) / 4 / 255  # levels, ties between them, and values outside [0, 1]
    special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1.0, 0.5])
    values = torch.cat([steps, torch.nextafter(steps, steps + 1), torch.nextafter(steps, steps - 1), special])
    images = ImageFormat(1, len(values), torch.uint8, None, None, round_8bit=True, channels_last=False)
    finished = images.finish_(values.clone().expand(1, 3, -1).contiguous())
    assert torch.equal(finished.to(torch.uint8), to_8bit(values).expand(1, 3, -1))
