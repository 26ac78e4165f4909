"""What the kernel alone must keep: its grid, its arithmetic of places, its unpacking, and the memory that it may touch."""

import pytest
import torch
import triton
import triton.language as tl

from kernels.decode.pixels import places
from kernels.spec import SirenSpec
from kernels.unpack.torch import gather_codes
from kernels.unpack.triton import unpack_rows, unpacks_before
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
def test_masks_of_more_than_one_program_are_read(device, hidden):
    assert_is_the_reference(random_batch(SirenSpec(4, hidden, 12.0), device, height=3, width=5, bits=5, masked=True))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_rows_are_unpacked_once_where_an_image_has_many_programs(monkeypatch, device, bits):
    batch = random_batch(SirenSpec(4, 19, 12.0), device, height=3, width=5, bits=bits)  # 1,083 codes: more than one program
    monkeypatch.setattr("kernels.unpack.triton.UNPACK_FROM_PASSES", 1)
    codes = gather_codes(batch.rows.codes, batch.ids, bits=bits, n_codes=batch.keywords["spec"].n_hidden_weights)
    assert torch.equal(unpack_rows(batch.rows, batch.ids, batch.keywords["spec"]).view(torch.int8), codes)
    assert_is_the_reference(batch)


def test_small_images_and_whole_bytes_are_unpacked_by_their_programs():
    kinds = [(5, False), (8, False), (8, True)]
    assert [unpacks_before(bits=bits, masked=masked, passes=15) for bits, masked in kinds] == [False, False, True]
    assert [unpacks_before(bits=bits, masked=masked, passes=16) for bits, masked in kinds] == [True, False, True]


@pytest.mark.parametrize("masked", [True, False])
def test_every_unpacked_code_is_written(monkeypatch, device, masked):
    monkeypatch.setattr("kernels.unpack.triton.UNPACK_FROM_PASSES", 1)
    batch, empty = random_batch(SirenSpec(4, 19, 12.0), device, height=2, width=3, bits=3, masked=masked), torch.empty
    clean = batch.decode("kernel")
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(77))
    assert torch.equal(batch.decode("kernel"), clean)


def test_no_value_is_written_beyond_its_image(monkeypatch, device):
    """A guard on both sides of the output stays as it was."""
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7)
    empty, guards = torch.empty, []

    def guarded(size, *, dtype, device, memory_format):
        del memory_format
        n = torch.Size(size).numel()
        guards.append(torch.full((n + 2048,), -7.0, dtype=dtype, device=device))
        return guards[-1][1024 : 1024 + n].view(size)

    clean = batch.decode("kernel")
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
