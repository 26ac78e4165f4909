"""Maps, padding and supersampling: both backends against the whole image, and against the reference."""

import pytest
import torch
from torch.nn import functional as F

from kernels.spec import SirenSpec
from rapid_inr.augment.affine import crop, flip, rotation, scaling, to_coords, translation
from rapid_inr.inr.coords import pixel_affine, pixel_edges
from tests.kernels.random_rows import random_batch
from tests.tolerances import FAST_TORCH_RGB, KERNEL_RGB

SPEC = SirenSpec(3, 13, 12.0)
SIZE = (6, 9)
PAD_MODES = {"zeros": "constant", "reflection": "reflect", "border": "replicate"}  # as torch.nn.functional.pad names them
TOLERANCE = {"kernel": KERNEL_RGB, "torch": FAST_TORCH_RGB}


def batch_of(device, **kind):
    return random_batch(SPEC, device, height=SIZE[0], width=SIZE[1], ids=(3, 0, 4), **kind)


def edges_on(device):
    return pixel_edges(torch.tensor(SIZE)).to(device)


@pytest.mark.parametrize("padding", PAD_MODES)
def test_crops_beyond_the_image_are_crops_of_the_padded_image(device, backend, padding):
    batch, pad = batch_of(device), 4
    padded = F.pad(batch.decode(backend), (pad,) * 4, mode=PAD_MODES[padding])
    corners = torch.tensor([[-4, -3], [0, 4], [2, -1]], device=device)
    maps = to_coords(crop(*corners.T, *SIZE, size=SIZE), SIZE)
    images = batch.decode(backend, affine=maps, padding=padding, edges=edges_on(device))
    expected = [
        image[:, pad + top : pad + top + 6, pad + left : pad + left + 9]
        for image, (top, left) in zip(padded, corners.tolist(), strict=True)
    ]
    torch.testing.assert_close(images, torch.stack(expected), atol=TOLERANCE[backend], rtol=0)


def test_reflection_repeats_beyond_one_image(device, backend):
    batch = batch_of(device)
    whole = batch.decode(backend)
    places = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]  # a period of 6 rows
    rows = torch.tensor([places[row % 10] for row in range(-23, 31)])
    maps = to_coords(crop(-23, 0, 54, 9, size=(54, 9), device=device), SIZE)
    images = batch.decode(backend, affine=maps, height=54, padding="reflection", edges=edges_on(device))
    # a fold rounds a coordinate of 10 to 1e-6: measured, the CPU backend is off by 2.8e-5
    torch.testing.assert_close(images, whole[:, :, rows.to(device)], atol=KERNEL_RGB, rtol=0)


@pytest.mark.parametrize("padding", ["reflection", "border"])
def test_an_image_of_one_pixel_is_that_pixel_everywhere(device, backend, padding):
    batch = random_batch(SPEC, device, height=1, width=1)
    maps = to_coords(crop(-2, -3, 5, 7, size=(5, 7), device=device), (1, 1))
    images = batch.decode(backend, affine=maps, height=5, width=7, padding=padding, edges=torch.zeros(2, device=device))
    torch.testing.assert_close(images, batch.decode(backend).expand(4, 3, 5, 7), atol=TOLERANCE[backend], rtol=0)


@pytest.mark.parametrize("padding", ["reflection", "border"])
def test_each_image_has_its_own_edges(device, backend, padding):
    """Rows of two sizes, decoded at one."""
    batch = batch_of(device)
    sizes = torch.tensor([[6, 9], [4, 12], [6, 9]], device=device)
    maps = to_coords(crop(-2, -2, 8, 14, size=(8, 14), device=device), sizes)
    images = batch.decode(backend, affine=maps, height=8, width=14, padding=padding, edges=pixel_edges(sizes))
    for i, (height, width) in enumerate(sizes.tolist()):
        own = {"ids": batch.ids[i : i + 1], "affine": pixel_affine(height, width).to(device), "height": height, "width": width}
        expected = F.pad(batch.decode(backend, **own), (2, 12 - width, 2, 6 - height), mode=PAD_MODES[padding])
        torch.testing.assert_close(images[i : i + 1], expected, atol=TOLERANCE[backend], rtol=0)


GEOMETRIES = {
    "a rotation": rotation(33, size=SIZE),
    "an enlargement": scaling(1.7, size=SIZE),
    "a shrinking": scaling(0.4, size=SIZE),
    "a flip, a turn and a shift": flip(size=SIZE) @ rotation(-70, size=SIZE) @ translation(1.3, -2.6),
}


@pytest.mark.parametrize("padding", ["none", *PAD_MODES])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_backend_samples_where_the_reference_does(device, backend, geometry, padding):
    batch = batch_of(device, bits=5, ends=torch.int8)
    maps, supersample = to_coords(GEOMETRIES[geometry], SIZE).to(device), 2 if "shrink" in geometry else 1
    changes = {"affine": maps, "padding": padding, "edges": edges_on(device), "supersample": supersample}
    images, expected = batch.decode(backend, **changes), batch.reference(**changes)
    if padding == "none":  # far outside the arguments of the sines grow, and with them what float16 loses
        rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
        coords = maps @ torch.stack((rows.flatten(), columns.flatten(), torch.ones(54))).to(device)
        shown = (coords.abs() <= 1).all(0).view(1, 1, *SIZE)
        images, expected = images * shown, expected * shown
    torch.testing.assert_close(images, expected, atol=TOLERANCE[backend], rtol=0)
