"""Operations on a picture as maps of its pixels."""

import pytest
import torch

from rapid_inr.augment.affine import crop, flip, rotation, scaling, to_coords, translation
from rapid_inr.inr.coords import pixel_affine, pixel_affines, pixel_edges

SIZE = (5, 8)


def seen(operation, row, column):
    """Return the place in the input that is seen at a place of the output."""
    place = operation @ torch.tensor([row, column, 1.0], dtype=torch.float64)
    return pytest.approx(place[..., :2].tolist(), abs=1e-12)


def test_a_crop_of_its_own_size_moves_the_corner():
    assert seen(crop(2, 3, 4, 4, size=(4, 4)), 0, 0) == [2, 3]
    assert seen(crop(2, 3, 4, 4, size=(4, 4)), 2, 3) == [4, 6]


def test_a_crop_of_another_size_keeps_the_outer_corners_of_its_pixels():
    operation = crop(1.5, 2, 3, 6, size=(6, 3))
    assert seen(operation, -0.5, -0.5) == [1.0, 1.5]
    assert seen(operation, 5.5, 2.5) == [4.0, 7.5]


def test_a_flip_reverses_the_order_of_pixels():
    assert seen(flip(size=SIZE), 1, 0) == [1, 7]
    assert seen(flip(rows=True, columns=True, size=SIZE), 0, 7) == [4, 0]
    assert seen(flip(columns=False, size=SIZE), 3, 2) == [3, 2]


def test_a_quarter_turn_is_that_of_torch():
    picture = torch.arange(25).view(5, 5)
    turned, operation = torch.rot90(picture), rotation(90, size=(5, 5))
    for row, column in ((0, 0), (1, 3), (4, 2)):
        r, c = (operation @ torch.tensor([row, column, 1.0], dtype=torch.float64))[:2].round().int().tolist()
        assert turned[row, column] == picture[r, c]


def test_scaling_keeps_the_centre_and_moves_the_rest_towards_it():
    assert seen(scaling(2.0, size=SIZE), 2, 3.5) == [2, 3.5]
    assert seen(scaling(2.0, size=SIZE), 0, -0.5) == [1, 1.5]
    assert seen(scaling(0.5, size=SIZE), 0, -0.5) == [-2, -4.5]


def test_a_translation_moves_the_picture_down_and_right():
    assert seen(translation(2, 1.5), 2, 2.5) == [0, 1]


def test_operations_are_done_in_their_order():
    first, second = crop(1, 0, 4, 8, size=(4, 8)), flip(rows=True, columns=False, size=(4, 8))
    assert seen(first @ second, 0, 3) == [4, 3]


def test_numbers_may_differ_between_images():
    tops, flips, angles = torch.tensor([0.0, 2.0]), torch.tensor([True, False]), torch.tensor([0.0, 30.0])
    operation = (
        crop(tops, 1, 3, torch.tensor([4, 5]), size=SIZE)
        @ flip(columns=flips, size=SIZE)
        @ rotation(angles, size=SIZE)
        @ scaling(torch.tensor([1.0, 2.0]), size=SIZE)
        @ translation(torch.tensor([0.5, 1.0]), 0.0)
    )
    assert operation.shape == (2, 3, 3)
    for i in range(2):
        alone = (
            crop(float(tops[i]), 1, 3, 4 + i, size=SIZE)
            @ flip(columns=bool(flips[i]), size=SIZE)
            @ rotation(float(angles[i]), size=SIZE)
            @ scaling(1.0 + i, size=SIZE)
            @ translation(0.5 + 0.5 * i, 0.0)
        )
        torch.testing.assert_close(operation[i], alone)


@pytest.mark.parametrize("size", [(5, 8), (1, 1)])
def test_the_identity_is_the_plain_grid(size):
    assert torch.equal(to_coords(translation(0, 0), size), pixel_affine(*size))


def test_pictures_of_different_sizes_have_maps_of_their_own():
    sizes = torch.tensor([[5, 8], [2, 3]], dtype=torch.int32)
    maps = to_coords(translation(0, 0), sizes)
    assert torch.equal(maps, torch.stack([pixel_affine(5, 8), pixel_affine(2, 3)]))
    assert torch.equal(pixel_affines(sizes).float(), maps)
    corners = maps @ torch.tensor([[0.0], [0.0], [1.0]])
    torch.testing.assert_close(pixel_edges(sizes), -corners[..., 0])
