import pytest
import torch

from rapid_inr.inr.coords import pixel_affine, pixel_coords

SIZES = [(1, 1), (1, 7), (2, 2), (3, 5), (32, 32), (21, 34), (224, 160)]
FLOAT32 = 1e-6  # coordinates are below 1 and each is a product and a sum in float32, 6e-8 each


@pytest.mark.parametrize("size", SIZES)
def test_coordinates_are_the_centres_of_cells_that_tile_the_square(size):
    height, width = size
    expected = [((2 * row + 1) / height - 1, (2 * column + 1) / width - 1) for row in range(height) for column in range(width)]
    found = pixel_coords(height, width)
    assert found.shape == (height * width, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected), atol=FLOAT32, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_the_affine_map_takes_pixels_to_the_same_coordinates(size):
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([rows.flatten(), columns.flatten(), torch.ones(height * width, dtype=torch.int64)])  # [3, P]
    torch.testing.assert_close(
        (pixel_affine(height, width) @ pixels.float()).T, pixel_coords(height, width), atol=FLOAT32, rtol=0
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_grid_is_symmetric(size):
    coords = pixel_coords(*size)
    torch.testing.assert_close(coords.flip(0), -coords, atol=FLOAT32, rtol=0)


def test_the_first_coordinate_is_the_row():
    first, second, below = pixel_coords(2, 3)[[0, 1, 3]].tolist()
    assert first[0] == second[0] < below[0]
    assert first[1] == below[1] < second[1]


def test_a_pixel_at_half_size_lies_amid_the_four_it_replaces():
    full = pixel_coords(16, 24).unflatten(0, (8, 2, 12, 2))  # [row, 2, column, 2, 2]
    torch.testing.assert_close(full.mean((1, 3)).flatten(0, 1), pixel_coords(8, 12), atol=FLOAT32, rtol=0)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
def test_an_image_without_pixels_is_refused(size):
    with pytest.raises(ValueError, match=f"image size is {size[0]}x{size[1]}, expected at least 1x1"):
        pixel_coords(*size)
