"""What the cosine kernel alone must keep: its grid, its blocks, and the memory that it may read."""

import pytest
import torch

from kernels.cosine import CosineSpec
from kernels.cosine.launch import PROGRAM_PIXELS
from tests.kernels.random_codes import random_codes
from tests.tolerances import COSINE_KERNEL_RGB

SPEC = CosineSpec(9, 20, 4, 3)


def assert_is_the_reference(batch):
    torch.testing.assert_close(batch.decode("kernel"), batch.reference(), atol=COSINE_KERNEL_RGB, rtol=0)


def test_an_image_of_more_pixels_than_a_program_is_decoded_whole(device):
    height, width = 33, 67
    assert 2 * PROGRAM_PIXELS < height * width < 3 * PROGRAM_PIXELS
    assert_is_the_reference(random_codes(SPEC, device, height=height, width=width, ids=(3, 0)))


def test_a_batch_of_more_images_than_a_grid_is_high_is_decoded_whole(monkeypatch, device):
    monkeypatch.setattr("kernels.decode.launch.MAX_GRID", 3)
    # 7 images are 3 layers of 3, two of them empty
    assert_is_the_reference(random_codes(SPEC, device, height=2, width=3, ids=(3, 0, 1, 2, 0, 2, 3)))


def test_the_kernel_reads_no_row_profile_or_word_that_is_not_there(monkeypatch, device):
    """As on a GPU, where values are not looked at before the launch."""
    batch = random_codes(SPEC, device, height=5, width=7)
    monkeypatch.setattr("kernels.cosine.op.check_batch", lambda *_: None)
    monkeypatch.setattr("kernels.cosine.op.check_rows", lambda *_: None)
    clean = batch.decode("kernel", ids=torch.tensor([0], device=device))
    batch.rows.codes[1, 0], batch.rows.codes[2, 0] = 3, 255  # profiles are 0 to 2
    batch.rows.table[batch.rows.table < 0] = 80  # words have 20 x 4 components
    images = batch.decode("kernel", ids=torch.tensor([-1, 5, 2**40, 1, 2, 0], device=device))
    assert (images[:5] == 0).all()
    assert torch.equal(images[5:], clean)


def test_the_kernel_needs_a_gpu_where_it_is_compiled(monkeypatch):
    monkeypatch.setattr("kernels.cosine.triton.INTERPRETED", False)
    batch = random_codes(SPEC, torch.device("cpu"), height=2, width=3)
    with pytest.raises(ValueError, match=r"rows.device is cpu, expected a CUDA device, or TRITON_INTERPRET=1 for .*'torch'"):
        batch.decode("kernel")
