import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rapid_inr.augment.policy import AugmentConfig, AugmentParams, sample_params
from rapid_inr.augment.warp import Geometry, coordinate_maps, crop_and_flip, pixel_maps, warp
from rapid_inr.inr.coords import pixel_coords
from tests.tolerances import WARP_WHOLE_PIXELS

BLACK = torch.tensor([-1.5, -2.0, 0.25])
TURN = AugmentConfig(crop_padding=0, scale=(0.3, 1.0), rotation_degrees=30)


def random_images(n_images: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(n_images, 3, height, width, generator=torch.Generator().manual_seed(0))


def naive(images: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, *, pad: int, padding: str) -> torch.Tensor:
    """Pad, crop and mirror with numpy, image by image."""
    height, width = images.shape[2:]
    results = []
    for image, (down, right), flip in zip(images.numpy(), shifts.tolist(), flips.tolist(), strict=True):
        margins = ((pad, pad), (pad, pad))
        if padding != "zeros":
            mode = "reflect" if padding == "reflection" else "edge"
            padded = np.stack([np.pad(channel, margins, mode=mode) for channel in image])
        else:
            padded = np.stack([np.pad(image[c], margins, constant_values=BLACK[c].item()) for c in range(3)])
        crop = padded[:, pad + down : pad + down + height, pad + right : pad + right + width]
        results.append(crop[:, :, ::-1] if flip else crop)
    return torch.from_numpy(np.stack(results))


@pytest.mark.parametrize("padding", ["reflection", "zeros", "border"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (5, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gather_is_pad_crop_and_mirror_of_each_image(padding, size, channels_last):
    images = random_images(64, *size)
    params = sample_params(64, AugmentConfig(crop_padding=4, padding=padding), seed=1, epoch=2, image_size=(8, 8))
    given = images.to(memory_format=torch.channels_last) if channels_last else images
    found = crop_and_flip(given, params.shifts, params.flips, padding=padding, black=BLACK)
    assert torch.equal(found, naive(images, params.shifts, params.flips, pad=4, padding=padding))


def test_an_image_shifted_out_of_sight_is_black_or_its_edge():
    images, no_flips = random_images(1, 4, 4), torch.zeros(1, dtype=torch.bool)
    shift = torch.tensor([[0, 40]])
    out = crop_and_flip(images, shift, no_flips, padding="zeros", black=BLACK)
    assert torch.equal(out, BLACK[None, :, None, None].expand(1, 3, 4, 4))
    edge = crop_and_flip(images, shift, no_flips, padding="reflection", black=BLACK)
    assert torch.equal(edge, images[:, :, :, :1].expand(-1, -1, -1, 4))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_and_the_dtype_are_kept(memory_format):
    images = random_images(4, 6, 6).to(torch.bfloat16, memory_format=memory_format)
    params = sample_params(4, AugmentConfig(padding="zeros"), seed=0, epoch=0, image_size=(8, 8))
    moved = crop_and_flip(images, params.shifts, params.flips, padding="zeros", black=BLACK)
    assert moved.dtype == torch.bfloat16
    assert moved.is_contiguous(memory_format=memory_format)


def test_an_image_is_augmented_alike_in_any_batch():
    images = random_images(12, 8, 8)
    params = sample_params(12, AugmentConfig(), seed=3, epoch=1, image_size=(8, 8))
    whole = crop_and_flip(images, params.shifts, params.flips, padding="reflection", black=BLACK)
    some = torch.tensor([7, 2, 11])
    part = crop_and_flip(images[some], params.shifts[some], params.flips[some], padding="reflection", black=BLACK)
    assert torch.equal(part, whole[some])


def test_an_unknown_way_to_fill_the_outside_is_refused():
    still, no_flips = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="padding is 'edge', expected one of reflection, zeros, border"):
        crop_and_flip(random_images(1, 4, 4), still, no_flips, padding="edge", black=BLACK)


@pytest.mark.parametrize("padding", ["reflection", "zeros", "border"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_the_maps_say_what_the_gather_does(padding, size):
    images = random_images(64, *size)
    params = sample_params(64, AugmentConfig(crop_padding=4, padding=padding), seed=1, epoch=2, image_size=size)
    found = warp(images, coordinate_maps(params, size), padding=padding, black=BLACK)
    expected = crop_and_flip(images, params.shifts, params.flips, padding=padding, black=BLACK)
    torch.testing.assert_close(found, expected, atol=WARP_WHOLE_PIXELS, rtol=0)


def still(n_images: int) -> AugmentParams:
    return AugmentParams(torch.zeros(n_images, 2, dtype=torch.int64), torch.zeros(n_images, dtype=torch.bool))


def test_a_quarter_turn_is_that_of_numpy():
    images = random_images(2, 6, 6)
    params = replace(still(2), angles=torch.tensor([math.pi / 2, -math.pi / 2]))
    found = warp(images, coordinate_maps(params, (6, 6)), padding="zeros", black=BLACK)
    expected = torch.from_numpy(np.stack([np.rot90(images[i].numpy(), k, axes=(1, 2)) for i, k in enumerate((1, -1))]))
    torch.testing.assert_close(found, expected, atol=WARP_WHOLE_PIXELS, rtol=0)


def test_a_turn_keeps_lengths_in_pixels_where_height_and_width_differ():
    params = replace(still(1), angles=torch.tensor([0.7]))
    ((a, b, _), (c, d, _)) = coordinate_maps(params, (10, 40))[0].double().tolist()
    pixels = torch.tensor([[a, b * 10 / 40], [c * 40 / 10, d]], dtype=torch.float64)
    torch.testing.assert_close(pixels @ pixels.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_box_is_what_fills_the_result():
    images = random_images(1, 12, 12)
    params = replace(still(1), boxes=torch.tensor([[3, 4, 6, 4]]))
    maps = coordinate_maps(params, (12, 12))
    corners = maps @ torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [1.0, 1.0]])
    expected = torch.tensor([[3 / 6 - 1, 9 / 6 - 1], [4 / 6 - 1, 8 / 6 - 1]])
    torch.testing.assert_close(corners[0], expected, atol=1e-6, rtol=0)
    found = warp(images, maps, padding="zeros", black=BLACK)
    resized = torch.nn.functional.interpolate(images[:, :, 3:9, 4:8], (12, 12), mode="bilinear", align_corners=False)
    # the crop is resized alone, the warp also sees the pixels beside it: alike but for the outermost
    torch.testing.assert_close(found[:, :, 1:-1, 2:-2], resized[:, :, 1:-1, 2:-2], atol=1e-5, rtol=0)


def test_an_operation_after_another_is_the_product_of_their_maps():
    params = AugmentParams(
        torch.tensor([[2, -1]]), torch.tensor([True]), boxes=torch.tensor([[1, 2, 6, 5]]), angles=torch.tensor([0.3])
    )
    alone = [
        replace(still(1), boxes=params.boxes),
        AugmentParams(params.shifts, torch.tensor([False])),
        replace(still(1), angles=params.angles),
        AugmentParams(torch.zeros_like(params.shifts), params.flips),
    ]
    bottom = torch.tensor([[[0.0, 0.0, 1.0]]])
    product = torch.eye(3)[None]
    for one in alone:
        product = product @ torch.cat([coordinate_maps(one, (9, 8)), bottom], dim=1)
    torch.testing.assert_close(coordinate_maps(params, (9, 8)), product[:, :2], atol=1e-6, rtol=0)


def test_what_stays_in_place_is_decoded_at_the_pixel_centres():
    places = {"image_size": (5, 7), "padding": "border", "black": BLACK}
    pixel = torch.stack([torch.arange(35) // 7, torch.arange(35) % 7, torch.ones(35, dtype=torch.int64)]).float()
    for params in (None, still(3)):
        maps = Geometry.of(params, size=(5, 7), **places).decode_maps(torch.tensor([2, 0]))
        torch.testing.assert_close((maps @ pixel).mT, pixel_coords(5, 7).expand(2, -1, -1), atol=1e-6, rtol=0)
    larger = Geometry.of(None, size=(10, 14), **places).decode_maps(torch.tensor([1]))
    expected = pixel_maps(torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), (10, 14))
    torch.testing.assert_close(larger, expected, atol=1e-6, rtol=0)


def test_maps_for_a_decode_point_where_the_warp_samples():
    size, config = (8, 6), AugmentConfig(crop_padding=0, scale=(0.2, 1.0), rotation_degrees=45)
    params = sample_params(5, config, seed=0, epoch=0, image_size=size)
    ramp = pixel_coords(*size).reshape(*size, 2).permute(2, 0, 1).expand(5, -1, -1, -1)  # its values are its coordinates
    ids = torch.tensor([3, 1, 4])
    geometry = Geometry.of(params, image_size=size, size=size, padding="border", black=torch.zeros(2))
    pixel = torch.stack([torch.arange(48) // 6, torch.arange(48) % 6, torch.ones(48, dtype=torch.int64)]).float()
    points = (geometry.decode_maps(ids) @ pixel).unflatten(2, size)
    inside = (points.abs() < torch.tensor([1 - 1 / 8, 1 - 1 / 6])[:, None, None]).all(1)
    found = geometry.apply(ramp[ids], ids)
    assert inside.sum() > 60
    assert (found - points).abs().amax(1)[inside].max() < 1e-5


def test_a_smaller_result_is_averaged_and_not_picked():
    stripes = torch.zeros(1, 3, 8, 8)
    stripes[..., ::2] = 1.0
    geometry = Geometry.of(None, image_size=(8, 8), size=(4, 4), padding="border", black=BLACK)
    small = geometry.apply(stripes, torch.tensor([0]))
    assert small.shape == (1, 3, 4, 4)
    assert (small - 0.5).abs().max() < 0.11


def test_the_parameters_of_one_image_can_serve_all():
    params = sample_params(6, AugmentConfig(crop_padding=2), seed=0, epoch=0, image_size=(8, 8))
    geometry = Geometry.of(params, image_size=(8, 8), size=(8, 8), padding="zeros", black=BLACK)
    ids, images = torch.tensor([4, 1, 2]), random_images(3, 8, 8)
    found = geometry.apply(images, ids[:1].expand(3))
    expected = crop_and_flip(images, params.shifts[[4] * 3], params.flips[[4] * 3], padding="zeros", black=BLACK)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("padding", ["reflection", "zeros", "border"])
def test_places_are_not_rounded_under_autocast(padding):
    images, params = random_images(4, 40, 64), sample_params(4, TURN, seed=0, epoch=0, image_size=(40, 64))
    geometry = Geometry.of(params, image_size=(40, 64), size=(40, 64), padding=padding, black=BLACK)
    ids = torch.arange(4)
    expected = geometry.apply(images, ids), geometry.decode_maps(ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = geometry.apply(images, ids), geometry.decode_maps(ids)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("padding", ["reflection", "zeros", "border"])
def test_the_nearest_pixel_holds_no_value_that_was_not_there(padding):
    labels = torch.randint(1, 9, (32, 1, 9, 14), generator=torch.Generator().manual_seed(0)).float()
    places = {"image_size": (9, 14), "size": (6, 7), "padding": padding, "black": torch.zeros(1)}
    params = sample_params(32, replace(TURN, padding=padding), seed=0, epoch=0, image_size=(9, 14))
    found = Geometry.of(params, **places).apply(labels, torch.arange(32), mode="nearest")
    assert found.shape == (32, 1, 6, 7)
    assert set(found.unique().tolist()) <= ({0.0} if padding == "zeros" else set()) | set(map(float, range(1, 9)))
