import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.rows import packed_bytes
from kernels.unpack.torch import unpack_bits
from rapid_inr.compress.bits import pack_bits


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_value_of_every_width_survives_at_every_offset(bits):
    everything = torch.arange(1 << bits).repeat(2)[None]
    for offset in range(9):
        values = torch.cat([torch.zeros(1, offset, dtype=torch.int64), everything], 1)
        packed = pack_bits(values, bits)
        assert packed.shape == (1, packed_bytes(values.shape[1], bits))
        assert torch.equal(unpack_bits(packed, bits, values.shape[1]), values.to(torch.uint8))


@given(bits=st.integers(1, 8), n=st.integers(0, 40), seed=st.integers(0, 10))
def test_rows_are_packed_independently(bits, n, seed):
    values = torch.randint(0, 1 << bits, (3, n), generator=torch.Generator().manual_seed(seed))
    packed = pack_bits(values, bits)
    assert torch.equal(unpack_bits(packed, bits, n), values.to(torch.uint8))
    assert torch.equal(packed[1:2], pack_bits(values[1:2], bits))


def test_the_first_value_takes_the_lowest_bits():
    assert pack_bits(torch.tensor([[1, 2, 7]]), 3).tolist() == [[0b11_010_001, 0b1]]
    assert pack_bits(torch.tensor([[True, False, False, True, True, False, False, False, True]]), 1).tolist() == [[0b11001, 1]]


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected 0\.\.7"):
        pack_bits(torch.tensor([[8]]), 3)
    with pytest.raises(ValueError, match="bits is 9"):
        pack_bits(torch.tensor([[8]]), 9)
    with pytest.raises(ValueError, match="have 2 bytes, expected 1"):
        unpack_bits(torch.zeros(1, 2, dtype=torch.uint8), 4, 2)
