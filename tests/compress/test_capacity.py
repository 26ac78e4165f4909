import pytest

from kernels.spec import SirenSpec
from rapid_inr.compress.capacity import IMAGENET_IMAGES, Constants, dense_row_bytes, project
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.shapes import shapes
from rapid_inr.encoding.encode import encode
from rapid_inr.inr.fit import FitConfig

CONFIGS = {
    "8 bits": QuantizeConfig(),
    "5 bits, ends of 8": QuantizeConfig(bits=5, ends_bits=8),
    "a scale a tensor": QuantizeConfig(granularity="tensor"),
    "a scale a dataset": QuantizeConfig(granularity="dataset"),
    "half precision": QuantizeConfig(bits=16, ends_bits=16),
    "full precision": QuantizeConfig(bits=32, ends_bits=32),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("spec", [SirenSpec(3, 7, 15.0), SirenSpec(1, 8, 15.0)], ids=["3x7", "1x8"])
def test_the_bytes_of_a_row_are_those_that_its_store_takes(config, spec):
    store, _ = encode(shapes("train", count=6, size=8), spec, FitConfig(steps=1), config)
    shared = store.scales.nbytes if config.granularity == "dataset" else 0
    assert 6 * dense_row_bytes(spec, config) == store.nbytes - store.labels.nbytes - shared


MEASURED = Constants(raw_bytes=150_528, inr_bytes=7_500, encode_ms=36.0, decode_images_per_s=10_000.0)


def test_imagenet_on_four_cards_is_arithmetic():
    found = {gb: project(MEASURED, images=IMAGENET_IMAGES, card_gb=gb, reserve_gb=4) for gb in (24, 48, 80, 141)}
    assert {gb: p.raw_fit_images for gb, p in found.items()} == {24: 132_865, 48: 292_304, 80: 504_889, 141: 910_129}
    assert found[24].inr_fit_images == 2_666_666
    assert found[24].inr_fit_pct == 100  # more than there are
    assert found[80].raw_fit_pct == pytest.approx(100 * 504_889 / 1_281_167)
    for p in found.values():  # the same whatever the card
        assert (p.raw_gb, p.inr_gb) == (pytest.approx(192.8515, abs=1e-4), pytest.approx(9.6088, abs=1e-4))
        assert p.encode_hours == pytest.approx(12.81167)
        assert p.decode_s == pytest.approx(128.1167)


def test_an_image_more_than_fits_does_not_fit():
    exact = Constants(raw_bytes=1e8, inr_bytes=1e7, encode_ms=1.0)
    assert project(exact, images=20, card_gb=3, reserve_gb=1).raw_fit_images == 20
    assert project(exact, images=20, card_gb=2.999, reserve_gb=1).raw_fit_images == 19
    assert project(exact, images=20, card_gb=3, reserve_gb=1).decode_s is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images is 0, expected above 0"),
        ({"card_gb": 0.0}, "card_gb is 0.0, expected above 0"),
        ({"reserve_gb": 24}, "reserve_gb is 24, expected at least 0 and less than card_gb=24"),
        ({"reserve_gb": -1}, "reserve_gb is -1, expected"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        project(MEASURED, **{"images": 10, "card_gb": 24, "reserve_gb": 4} | options)
