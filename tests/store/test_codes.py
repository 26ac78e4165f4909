import pytest
import torch

from kernels.rows import packed_bytes
from kernels.unpack.torch import gather_codes
from rapid_inr.store.codes import has_lowest_code, pack_codes, pack_masks, pad_rows, row_starts

IDS = torch.tensor([4, 0, 0, 2])


def codes_of(bits, n=5, k=29, seed=0):
    low = -(1 << bits - 1)
    return torch.randint(low, -low, (n, k), generator=torch.Generator().manual_seed(seed)).to(torch.int8)


@pytest.mark.parametrize("bits", range(2, 9))
def test_dense_rows_are_read_back(bits):
    codes = codes_of(bits)
    packed = pack_codes(codes, bits)
    assert packed.shape == (5, packed_bytes(29, bits))
    assert torch.equal(gather_codes(packed, IDS, bits=bits, n_codes=29), codes[IDS])


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_code_of_every_width_is_read_back(bits):
    codes = torch.arange(-(1 << bits - 1), 1 << bits - 1).to(torch.int8)[None]
    packed = pack_codes(codes, bits)
    assert torch.equal(gather_codes(packed, torch.tensor([0]), bits=bits, n_codes=codes.shape[1]), codes)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_rows_with_a_mask_each_hold_the_kept_codes_alone(bits):
    codes, masks = codes_of(bits), torch.rand(5, 29, generator=torch.Generator().manual_seed(1)) < 0.4
    masks[2] = False  # an image that keeps nothing
    masks[3] = True
    packed, packed_masks = pack_codes(codes, bits, masks), pack_masks(masks)
    starts = row_starts(packed_masks, bits)
    assert packed.shape == (sum(packed_bytes(int(mask.sum()), bits) for mask in masks),) == (int(starts[-1]),)
    there = gather_codes(packed, IDS, bits=bits, n_codes=29, masks=packed_masks, starts=starts)
    assert torch.equal(there, torch.where(masks, codes, 0)[IDS])


def test_rows_that_keep_nothing_are_zero():
    codes, masks = codes_of(5), torch.zeros(5, 29, dtype=torch.bool)
    packed, packed_masks = pack_codes(codes, 5, masks), pack_masks(masks)
    found = gather_codes(packed, IDS, bits=5, n_codes=29, masks=packed_masks, starts=row_starts(packed_masks, 5))
    assert found.shape == (4, 29)
    assert not found.any()


def test_eight_bit_rows_are_the_bytes_of_int8():
    codes = codes_of(8)
    assert torch.equal(pack_codes(codes, 8).view(torch.int8), codes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_lowest_code_is_noticed_wherever_it_lies(bits):
    lowest = -(1 << bits - 1)
    others = codes_of(bits, n=3).clamp(min=lowest + 1)
    assert not has_lowest_code(pack_codes(others, bits), bits)
    masks = torch.rand(3, 29, generator=torch.Generator().manual_seed(1)) < 0.5
    starts = row_starts(pack_masks(masks), bits)
    assert not has_lowest_code(pad_rows(pack_codes(others, bits, masks), starts), bits)
    for place in range(29):
        codes = others.clone()
        codes[1, place] = lowest
        assert has_lowest_code(pack_codes(codes, bits), bits)
        assert has_lowest_code(pad_rows(pack_codes(codes, bits, masks), starts), bits) == bool(masks[1, place])
