"""What the kernel alone must keep: its grid, its arithmetic of places, its unpacking, and the memory that it may touch."""

import pytest
import torch
import triton
import triton.language as tl

from kernels.decode.launch import bias_in_product, padded_width
from kernels.decode.pixels import places
from kernels.reference import decode_reference
from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from kernels.unpack.torch import unpack_layers
from kernels.unpack.triton import prepare_rows
from tests.kernels.random_rows import random_batch
from tests.tolerances import KERNEL_RGB


def assert_is_the_reference(batch):
    torch.testing.assert_close(batch.decode("kernel"), batch.reference(), atol=KERNEL_RGB, rtol=0)


def test_a_batch_of_more_images_than_a_grid_is_high_is_decoded_whole(monkeypatch, device):
    monkeypatch.setattr("kernels.decode.launch.MAX_GRID", 3)
    # 7 images are 3 layers of 3, two of them empty
    assert_is_the_reference(random_batch(SirenSpec(2, 8, 12.0), device, height=5, width=17, ids=(3, 0, 1, 2, 0, 2, 3)))


@triton.jit(do_not_specialize=["first_block", "width"])  # as in the kernel: a width of 1 is no constant
def _write_places(out_ptr, first_block, width, inverse_width, BLOCK: tl.constexpr):
    rows, columns = places(first_block + tl.program_id(0), width, inverse_width, BLOCK)
    place = tl.program_id(0) * 2 * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + place, rows)
    tl.store(out_ptr + place + BLOCK, columns)


@pytest.mark.parametrize("block", [64, 256])
@pytest.mark.parametrize("width", [1, 3, 32, 97, 224, 255, 256, 257, 4095, 100_003, 4_000_000])
def test_a_pixel_has_its_row_and_column_at_any_width(device, width, block):
    for first in (0, max(0, width // block - 2), (5 * width + 7) // block):  # the image's start, a row's end, further down
        written = torch.empty(8, 2, block, device=device)
        _write_places[(8,)](written, first, width, 1.0 / width, BLOCK=block)
        pixels = torch.arange(first * block, (first + 8) * block).view(8, block)
        assert torch.equal(written.long().cpu(), torch.stack([pixels // width, pixels % width], 1))


@pytest.mark.parametrize("hidden", [1, 33])
def test_masks_of_many_layers_are_read(device, hidden):
    assert_is_the_reference(random_batch(SirenSpec(6, hidden, 12.0), device, height=3, width=5, bits=5, masked=True))


def as_rows(weights, ends, *, depth, width):
    """Return prepared rows as those of the SIREN that they are."""
    first, last = ends[:, : (2 + depth) * width], ends[:, (2 + depth) * width :].unflatten(1, (width + 1, 4))
    assert (last[:, :, 3] == 0).all()
    return PackedRows(weights, torch.cat([first, last[:, :, :3].flatten(1)], 1), None, None, 16)


@pytest.mark.parametrize("hidden", [13, 15, 16, 33, 47, 64])
@pytest.mark.parametrize(
    "kind", [{"bits": 3, "ends": torch.int8}, {"bits": 5, "masked": True}, {"bits": 32, "ends": torch.float32}]
)
def test_a_prepared_row_is_that_of_a_wider_siren_without_omega(device, hidden, kind):
    spec = SirenSpec(3, hidden, 12.0)
    batch = random_batch(spec, device, height=5, width=7, **kind)
    rows, wide = prepare_rows(batch.rows, batch.ids, spec), SirenSpec(3, padded_width(spec), 1.0)
    layers = unpack_layers(as_rows(*rows, depth=3, width=wide.hidden), torch.arange(len(batch.ids)), wide, torch.float64)
    images = decode_reference(layers, batch.affine, omega=1.0, height=5, width=7).float()
    torch.testing.assert_close(images, batch.reference(), atol=KERNEL_RGB, rtol=0)


def test_a_prepared_row_is_exact_but_for_its_float16_weights(device):
    """Values worked out by hand: a layer's bias lies in the product where two neurons are padding."""
    spec = SirenSpec(2, 14, 3.0)
    assert [bias_in_product(SirenSpec(2, hidden, 3.0)) for hidden in (14, 15, 16, 30, 31, 46, 47)] == [1, 0, 0, 1, 0, 1, 0]
    batch = random_batch(spec, device, height=1, width=1, ids=(2,), ends=torch.int8, bits=4)
    (weight, bias), (hidden, hidden_bias), (last, last_bias) = unpack_layers(batch.rows, batch.ids, spec, torch.float64)
    weights, ends = (rows[0].double() for rows in prepare_rows(batch.rows, batch.ids, spec))
    weights, ends, last_ends = weights.view(16, 16), ends[: 4 * 16].view(4, 16), ends[4 * 16 :].view(17, 4)
    torch.testing.assert_close(weights[:14, :14], 3 * hidden[0], rtol=2**-11, atol=2**-24)
    torch.testing.assert_close(weights[14:, :14].sum(0), 3 * hidden_bias[0], rtol=2**-21, atol=2**-24)
    torch.testing.assert_close(weights[14:, 14:].sum(0), torch.full((2,), torch.pi / 2).double().to(device), rtol=0, atol=1e-6)
    torch.testing.assert_close(ends[:3, :14], 3 * torch.cat([weight[0], bias]), rtol=2**-22, atol=0)
    torch.testing.assert_close(ends[2, 14:], torch.full((2,), torch.pi / 2).to(ends).float().double(), rtol=0, atol=0)
    torch.testing.assert_close(last_ends[:14, :3], last[0], rtol=2**-23, atol=0)
    torch.testing.assert_close(last_ends[16, :3], last_bias[0], rtol=2**-23, atol=0)
    for padding in (weights[:14, 14:], ends[3], ends[:2, 14:], last_ends[14:16], last_ends[:, 3]):
        assert (padding == 0).all()


def test_no_value_is_written_beyond_its_image(monkeypatch, device):
    """A guard on both sides of the output stays as it was."""
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7)
    empty, guards, prepared = torch.empty, [], prepare_rows(batch.rows, batch.ids, batch.keywords["spec"])

    def guarded(size, *, dtype, device, memory_format):
        del memory_format
        n = torch.Size(size).numel()
        guards.append(torch.full((n + 2048,), -7.0, dtype=dtype, device=device))
        return guards[-1][1024 : 1024 + n].view(size)

    clean = batch.decode("kernel")
    monkeypatch.setattr("kernels.decode.triton.prepare_rows", lambda *_: prepared)
    monkeypatch.setattr(torch, "empty", guarded)
    assert torch.equal(batch.decode("kernel"), clean)
    monkeypatch.setattr(torch, "empty", empty)
    assert (guards[0][:1024] == -7).all()
    assert (guards[0][-1024:] == -7).all()


@pytest.mark.parametrize("kind", [{}, {"bits": 5, "masked": True}, {"bits": 3, "ends": torch.int8}])
def test_the_kernel_reads_no_row_that_is_not_there(monkeypatch, device, kind):
    """As on a GPU, where ids are not looked at before the launch."""
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7, **kind)
    monkeypatch.setattr("kernels.decode.op.check_batch", lambda *_: None)
    images = batch.decode("kernel", ids=torch.tensor([-1, 5, 2**40, 0], device=batch.ids.device))
    assert (images[:3] == 0).all()
    assert torch.equal(images[3], batch.decode("kernel")[1])
