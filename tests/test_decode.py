import pytest
import torch

from rapid_inr.compress.quantize import QuantizeConfig, dequantize
from rapid_inr.coords import pixel_coords
from rapid_inr.decode import decode, decode_each
from rapid_inr.metrics import to_8bit
from rapid_inr.siren import siren
from tests.store.stores import SPEC, small_store


def reference(store, ids, height, width):
    codes, floats, rows = store.rows(ids)
    rows = dequantize(codes[rows], floats[rows], store.header.spec).double()
    return (
        to_8bit(siren(rows, pixel_coords(height, width).double(), SPEC)).reshape(len(ids), height, width, 3).permute(0, 3, 1, 2)
    )


@pytest.mark.parametrize("config", [QuantizeConfig(), QuantizeConfig(bits=5, granularity="tensor"), QuantizeConfig(bits=32)])
@pytest.mark.parametrize("size", [None, (6, 4), (13, 5)])
def test_a_decode_is_the_formula_at_the_pixel_centres(size, config):
    store, ids = small_store(5, config=config), torch.tensor([4, 0, 0, 2])
    difference = decode(store, ids, size=size).int() - reference(store, ids, *(size or (6, 4))).int()
    assert difference.abs().max() <= 1  # a value on the edge of rounding
    assert difference.float().abs().mean() < 0.01


def test_normalised_images_are_the_8_bit_ones_less_mean_over_std():
    store, ids = small_store(4), torch.tensor([1, 3])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (store.header.mean, store.header.std))
    expected = (decode(store, ids).float() / 255 - mean) / std
    assert torch.allclose(decode(store, ids, dtype=torch.float32, normalize=True), expected, atol=1e-5)


def test_decoding_each_image_is_decoding_it_alone():
    for store in (small_store(5), small_store(5, mixed=True)):
        images = list(decode_each(store, batch_size=2))
        assert len(images) == 5
        for i, image in enumerate(images):
            assert image.shape == (*store.size_of(i), 3)
            assert torch.equal(image, decode(store, torch.tensor([i]))[0].permute(1, 2, 0))
    assert len(list(decode_each(small_store(5), limit=3))) == 3


@pytest.mark.parametrize("ids", [[], [-1], [0, 5]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match=r"positions in 0\.\.4"):
        decode(small_store(5), torch.tensor(ids, dtype=torch.int64))


@pytest.mark.parametrize("masks", ["own", "shared"])
@pytest.mark.parametrize("bits", [3, 8])
def test_weights_that_a_mask_leaves_out_are_zero(masks, bits):
    store, ids = small_store(5, config=QuantizeConfig(bits), masks=masks), torch.tensor([4, 0, 0, 2])
    codes, _, rows = store.rows(ids)
    zeros = (codes[rows] == 0).float().mean(1)
    assert (zeros > 0.2).all()
    difference = decode(store, ids).int() - reference(store, ids, 6, 4).int()
    assert difference.abs().max() <= 1
