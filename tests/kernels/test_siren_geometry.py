"""Maps, padding and supersampling: both backends against the whole image, and the kernel against the float64 twin."""

import itertools

import pytest
import torch

from kernels.decode.torch import decode_siren_torch
from kernels.decode.triton import decode_siren
from kernels.spec import SirenSpec
from rapid_inr.augment.affine import compose, crop, flip, rotation, scaling, to_coords, translation
from rapid_inr.inr.coords import pixel_affine, pixel_edges
from tests.kernels.random_rows import random_batch
from tests.tolerances import FAST_TWIN_RGB, KERNEL_RGB

SPEC = SirenSpec(3, 13, 12.0)
SIZE = (6, 9)
PADDINGS = {"zeros": "constant", "reflection": "reflect", "border": "replicate"}  # as torch.nn.functional.pad names them


@pytest.fixture(params=[decode_siren, decode_siren_torch], ids=["kernel", "twin"])
def decode(request):
    """Each backend in turn."""
    return request.param


def batch_of(device, **kind):
    return random_batch(SPEC, device, height=SIZE[0], width=SIZE[1], ids=(3, 0, 4), **kind)


def edges_on(device):
    return pixel_edges(torch.tensor(SIZE)).to(device)


def tolerance(decode):
    return KERNEL_RGB if decode is decode_siren else FAST_TWIN_RGB


@pytest.mark.parametrize("padding", PADDINGS)
def test_crops_beyond_the_image_are_crops_of_the_padded_image(device, decode, padding):
    batch, pad = batch_of(device), 4
    padded = torch.nn.functional.pad(batch.decode(decode), (pad,) * 4, mode=PADDINGS[padding])
    corners = torch.tensor([[-4, -3], [0, 4], [2, -1]], device=device)
    maps = to_coords(crop(*corners.T, *SIZE, size=SIZE), SIZE)
    found = batch.decode(decode, affine=maps, padding=padding, edges=edges_on(device))
    expected = [
        image[:, pad + top : pad + top + 6, pad + left : pad + left + 9]
        for image, (top, left) in zip(padded, corners.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected), atol=tolerance(decode), rtol=0)


def test_reflection_goes_on_beyond_one_image(device, decode):
    batch = batch_of(device)
    whole = batch.decode(decode)
    places = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]  # a period of 6 rows
    rows = torch.tensor([places[row % 10] for row in range(-23, 31)])
    maps = to_coords(crop(-23, 0, 54, 9, size=(54, 9), device=device), SIZE)
    found = batch.decode(decode, affine=maps, height=54, padding="reflection", edges=edges_on(device))
    # a fold rounds a coordinate of 10 to 1e-6: measured, the twin is off by 2.8e-5
    torch.testing.assert_close(found, whole[:, :, rows.to(device)], atol=KERNEL_RGB, rtol=0)


@pytest.mark.parametrize("padding", ["reflection", "border"])
def test_an_image_of_one_pixel_goes_on_as_that_pixel(device, decode, padding):
    batch = random_batch(SPEC, device, height=1, width=1)
    maps = to_coords(crop(-2, -3, 5, 7, size=(5, 7), device=device), (1, 1))
    found = batch.decode(decode, affine=maps, height=5, width=7, padding=padding, edges=torch.zeros(2, device=device))
    torch.testing.assert_close(found, batch.decode(decode).expand(4, 3, 5, 7), atol=tolerance(decode), rtol=0)


@pytest.mark.parametrize("padding", ["reflection", "border"])
def test_each_image_has_its_own_edges(device, decode, padding):
    """Rows of two sizes, decoded at one."""
    batch = batch_of(device)
    sizes = torch.tensor([[6, 9], [4, 12], [6, 9]], device=device)
    maps = to_coords(crop(-2, -2, 8, 14, size=(8, 14), device=device), sizes)
    found = batch.decode(decode, affine=maps, height=8, width=14, padding=padding, edges=pixel_edges(sizes))
    for i, (height, width) in enumerate(sizes.tolist()):
        own = {"ids": batch.ids[i : i + 1], "affine": pixel_affine(height, width).to(device), "height": height, "width": width}
        margins = (2, 12 - width, 2, 6 - height)
        expected = torch.nn.functional.pad(batch.decode(decode, **own), margins, mode=PADDINGS[padding])
        torch.testing.assert_close(found[i : i + 1], expected, atol=tolerance(decode), rtol=0)


@pytest.mark.parametrize("n", [2, 3])
def test_supersampling_averages_the_samples_of_a_pixel(device, decode, n):
    batch = batch_of(device)
    fine = batch.decode(decode, affine=pixel_affine(6 * n, 9 * n).to(device), height=6 * n, width=9 * n)
    expected = torch.nn.functional.avg_pool2d(fine, n)
    torch.testing.assert_close(batch.decode(decode, supersample=n), expected, atol=tolerance(decode), rtol=0)
    in_bytes = batch.decode(decode, supersample=n, dtype=torch.uint8, round_8bit=True)
    assert ((in_bytes.float() - expected * 255).abs() <= 0.5 + 255 * tolerance(decode)).all()


def test_samples_outside_count_as_black(device, decode):
    batch = batch_of(device)
    maps = to_coords(crop(-0.5, 0, *SIZE, size=SIZE, device=device), SIZE)  # the first row of samples lies outside
    found = batch.decode(decode, affine=maps, supersample=2, padding="zeros")
    within = batch.decode(decode, affine=to_coords(crop(-0.5, 0, *SIZE, size=(12, 18), device=device), SIZE), height=12, width=18)
    within[:, :, 0] = 0
    torch.testing.assert_close(found, torch.nn.functional.avg_pool2d(within, 2), atol=tolerance(decode), rtol=0)


GEOMETRIES = {
    "a rotation": rotation(33, size=SIZE),
    "an enlargement": scaling(1.7, size=SIZE),
    "a shrinking": scaling(0.4, size=SIZE),
    "a flip, a turn and a shift": compose(flip(size=SIZE), rotation(-70, size=SIZE), translation(1.3, -2.6)),
}
CASES = list(itertools.product(GEOMETRIES, ["none", "zeros", "reflection", "border"]))


@pytest.mark.parametrize(("geometry", "padding"), CASES)
def test_the_kernel_goes_where_the_float64_twin_goes(device, geometry, padding):
    batch = batch_of(device, bits=5, ends=torch.int8)
    maps, supersample = to_coords(GEOMETRIES[geometry], SIZE).to(device), 2 if "shrink" in geometry else 1
    changes = {"affine": maps, "padding": padding, "edges": edges_on(device), "supersample": supersample}
    found = batch.decode(decode_siren, **changes)
    expected = batch.decode(decode_siren_torch, compute_dtype=torch.float64, **changes)
    if padding == "none":  # far outside the arguments of the sines grow, and with them what float16 loses
        shown = (pixel_coords_of(maps).abs() <= 1).all(1).view(1, 1, *SIZE)
        found, expected = found * shown, expected * shown
    torch.testing.assert_close(found, expected, atol=KERNEL_RGB, rtol=0)


def pixel_coords_of(maps):
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    places = torch.stack((rows.flatten(), columns.flatten(), torch.ones(54))).to(maps.device)
    return (maps @ places).T
