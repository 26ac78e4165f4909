import pytest
import torch

from kernels.spec import SirenSpec
from kernels.unpack.torch import gather_hidden, unpack_ends
from rapid_inr.augment.affine import crop, flip, rotation, scaling, to_coords
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.evaluation.metrics import psnr_db, to_8bit
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.layout import join_rows
from rapid_inr.inr.siren import siren
from rapid_inr.store.decode import _affine_on, decode, decode_each
from tests.store.stores import small_store
from tests.tolerances import CROP_PSNR_DB, DECODE_MEAN_LEVELS, RESAMPLED_PSNR_DB


def assert_is_the_formula(store, ids, *, size=None):
    difference = decode(store, ids, size=size).cpu().int() - reference(store.to("cpu"), ids.cpu(), *(size or (6, 4))).int()
    assert difference.abs().max() <= 1  # a value on the edge of rounding
    assert difference.float().abs().mean() < DECODE_MEAN_LEVELS


def reference(store, ids, height, width):
    spec, stored = store.header.code.spec, store.rows
    end_scales = None if stored.end_scales is None else stored.end_scales[ids]
    ends = unpack_ends(stored.ends[ids], end_scales, spec, torch.float64)
    rows = join_rows(gather_hidden(stored, ids, spec, torch.float64).flatten(1), ends, spec)
    rgb = to_8bit(siren(rows, pixel_coords(height, width).double(), spec))
    return rgb.reshape(len(ids), height, width, 3).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "config",
    [QuantizeConfig(), QuantizeConfig(5, granularity="tensor"), QuantizeConfig(6, 8, "dataset"), QuantizeConfig(bits=32)],
)
@pytest.mark.parametrize("size", [None, (6, 4), (13, 5)])
def test_a_decode_is_the_formula_at_the_pixel_centres(size, config, device):
    assert_is_the_formula(small_store(5, config=config).to(device), torch.tensor([4, 0, 0, 2]), size=size)


def test_ids_may_lie_on_the_device_of_the_store(device):
    store, ids = small_store(5).to(device), torch.tensor([4, 0, 2])
    assert torch.equal(decode(store, ids.to(device)), decode(store, ids))


@pytest.mark.filterwarnings("ignore:the decode kernel takes SIRENs")  # on a GPU
def test_a_siren_wider_than_the_kernel_takes_is_decoded(device):
    spec, ids = SirenSpec(2, 65, 15.0), torch.tensor([1, 0])
    assert_is_the_formula(small_store(2, spec=spec).to(device), ids)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CPU waits for nothing")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # is a prototype, it says of itself
@pytest.mark.parametrize("bits", [5, 8])
def test_a_batch_of_ids_on_the_gpu_is_decoded_without_waiting_for_it(device, bits):
    store, ids = small_store(5, config=QuantizeConfig(bits)).to(device), torch.tensor([4, 0, 2], device=device)
    decode(store, ids, dtype=torch.float32, normalize=True)  # compiles, and puts the map there
    try:
        torch.cuda.set_sync_debug_mode("error")
        decode(store, ids, dtype=torch.float32, normalize=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_normalised_images_are_the_8_bit_ones_less_mean_over_std(device):
    store, ids = small_store(4).to(device), torch.tensor([1, 3])
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (store.header.mean, store.header.std))
    expected = (decode(store, ids).float() / 255 - mean) / std
    assert torch.allclose(decode(store, ids, dtype=torch.float32, normalize=True), expected, atol=1e-5)


@pytest.mark.parametrize("batch_pixels", [1, 50, 1 << 22])  # one image, two, all at once
def test_decoding_each_image_is_decoding_it_alone(monkeypatch, device, batch_pixels):
    monkeypatch.setattr("rapid_inr.evaluation.metrics.BATCH_PIXELS", batch_pixels)
    monkeypatch.setattr("rapid_inr.store.decode.BATCH_IMAGES", 2)
    for store in (small_store(5).to(device), small_store(5, mixed=True).to(device)):
        images = list(decode_each(store))
        assert len(images) == 5
        for i, image in enumerate(images):
            assert image.shape == (*store.size_of(i), 3)
            assert torch.equal(image, decode(store, torch.tensor([i]))[0].permute(1, 2, 0).cpu())
    assert len(list(decode_each(small_store(5), limit=3))) == 3


def test_images_decoded_at_once_are_bounded_by_their_pixels(monkeypatch):
    taken = []
    monkeypatch.setattr(
        "rapid_inr.store.decode.decode", lambda store, ids, **options: taken.append(len(ids)) or decode(store, ids, **options)
    )
    monkeypatch.setattr("rapid_inr.evaluation.metrics.BATCH_PIXELS", 2 * 20 * 30)
    assert len(list(decode_each(small_store(5), size=(20, 30)))) == 5
    monkeypatch.setattr("rapid_inr.store.decode.BATCH_IMAGES", 3)
    assert len(list(decode_each(small_store(5), size=(2, 3)))) == 5
    assert taken == [2, 2, 1, 3, 2]


@pytest.mark.parametrize("ids", [[], [-1], [0, 5]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match=r"positions in 0\.\.4"):
        decode(small_store(5), torch.tensor(ids, dtype=torch.int64))


@pytest.mark.parametrize("bits", [3, 8])
def test_weights_that_a_mask_leaves_out_are_zero(bits, device):
    store, ids = small_store(5, config=QuantizeConfig(bits), masks=True).to(device), torch.tensor([4, 0, 0, 2], device=device)
    zeros = (gather_hidden(store.rows, ids, store.header.code.spec, torch.float32).flatten(1) == 0).float().mean(1)
    assert (zeros > 0.2).all()
    assert_is_the_formula(store, ids)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("reflection", "reflect"), ("border", "replicate")])
@pytest.mark.parametrize("mixed", [False, True])
def test_an_integer_crop_and_flip_are_those_of_the_decoded_image(padding, mode, mixed, device):
    store, ids = small_store(4, mixed=mixed).to(device), torch.tensor([1, 0, 3], device=device)
    sizes = [store.size_of(int(i)) for i in ids]
    operation = crop(-2, 1, 6, 5, size=(6, 5), device=device) @ flip(size=(6, 5), device=device)
    maps = torch.stack([to_coords(operation, size) for size in sizes])
    found = decode(store, ids, size=(6, 5), affine=maps, padding=padding)
    for image, i, size in zip(found.cpu(), ids.tolist(), sizes, strict=True):
        whole = decode(store, torch.tensor([i]), size=size).float().cpu()
        padded = torch.nn.functional.pad(whole, (2, 2, 2, 2), mode=mode)[0]
        expected = padded[:, :6, 3:8].flip(2).byte()
        assert psnr_db(image[None], expected[None]).item() > CROP_PSNR_DB


@pytest.mark.parametrize("operation", [scaling(1.5, size=(48, 64)), scaling(0.5, size=(48, 64)), rotation(20, size=(48, 64))])
def test_scaling_and_turning_are_near_resampling_the_decoded_image(operation, device):
    store, ids = small_store(3).to(device), torch.arange(3, device=device)
    supersample = 2 if operation[0, 0] > 1.5 else 1
    maps = to_coords(operation, (48, 64)).to(device)
    found = decode(store, ids, size=(48, 64), affine=maps, padding="zeros", supersample=supersample)
    whole = decode(store, ids, size=(48, 64), dtype=torch.float32)
    places = torch.cartesian_prod(torch.arange(48.0), torch.arange(64.0)).to(device)
    coords = (maps @ torch.cat((places, torch.ones_like(places[:, :1])), dim=1).T).T  # [P, 2], (row, column)
    grid = coords.flip(1).view(1, 48, 64, 2).expand(3, -1, -1, -1)
    resampled = torch.nn.functional.grid_sample(whole, grid, align_corners=False)
    inside = (coords.abs() < 0.95).all(1).view(48, 64)  # at the border resampling mixes black in
    assert psnr_db((found.float() * inside).byte(), to_8bit(resampled * inside)).min() > RESAMPLED_PSNR_DB


def test_a_map_may_not_lead_nowhere():
    with pytest.raises(ValueError, match=r"affine is .*nan.* expected finite"):
        decode(small_store(2), torch.tensor([0]), affine=torch.full((2, 3), torch.nan))
    with pytest.raises(ValueError, match="padding is 'wrap'"):
        decode(small_store(2), torch.tensor([0]), padding="wrap")


def test_the_callers_autocast_changes_no_decode(device):
    store, ids = small_store(5).to(device), torch.tensor([4, 0, 2])
    options = {"size": (13, 9), "padding": "reflection", "dtype": torch.float32}
    expected = decode(store, ids, **options)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(decode(store, ids, **options), expected)


def test_a_map_that_a_cuda_graph_may_read_is_kept():
    maps = [_affine_on(height, 3, torch.device("cpu")) for height in range(1, 300)]
    assert all(_affine_on(height, 3, torch.device("cpu")) is maps[height - 1] for height in range(1, 300))
