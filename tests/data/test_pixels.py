import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from rapid_inr.data.pixels import read_image, to_rgb
from rapid_inr.data.source import CorruptImage

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def through_file(tmp_path, image, suffix, **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_rgb_is_read_exactly(tmp_path, suffix):
    np.testing.assert_array_equal(through_file(tmp_path, Image.fromarray(RGB), suffix), RGB)


def test_grey_is_repeated_over_the_channels(tmp_path):
    grey = RGB[..., 0]
    np.testing.assert_array_equal(through_file(tmp_path, Image.fromarray(grey), ".png"), np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 300, 32768, 65535]], dtype=np.uint16)
    path = tmp_path / f"image{suffix}"
    if suffix == ".pgm":  # not every version of Pillow writes 16 bits to it
        path.write_bytes(b"P5 7 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    pixels = read_image(path)
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()


def test_32_bit_integers_are_taken_as_16_bit_grey():
    values = np.array([[-5, 0, 257, 65535, 70000]], dtype=np.int32)
    assert to_rgb(Image.fromarray(values))[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, :3] = [200, 100, 0]
    rgba[0, :, 3] = [255, 0, 127]
    pixels = through_file(tmp_path, Image.fromarray(rgba), ".png")
    assert pixels[0, :2].tolist() == [[200, 100, 0], [255, 255, 255]]
    np.testing.assert_allclose(pixels[0, 2], [227.6, 177.8, 128], atol=1)


def test_grey_with_alpha_is_laid_over_white(tmp_path):
    grey = Image.merge("LA", [Image.new("L", (2, 1), 40), Image.fromarray(np.array([[255, 0]], dtype=np.uint8))])
    assert through_file(tmp_path, grey, ".png")[0].tolist() == [[40, 40, 40], [255, 255, 255]]


@pytest.fixture
def palette():
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode=None).convert("P")
    image.putdata([0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


def test_a_palette_is_looked_up(tmp_path, palette):
    pixels = through_file(tmp_path, palette, ".png")
    assert pixels[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


def test_a_transparent_palette_entry_is_white(tmp_path, palette):
    pixels = through_file(tmp_path, palette, ".png", transparency=1)
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_a_transparent_colour_is_white(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert through_file(tmp_path, image, ".png", transparency=(4, 5, 6))[0].tolist() == [[1, 2, 3], [255, 255, 255]]


def test_one_bit_becomes_black_and_white(tmp_path):
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert through_file(tmp_path, image, ".png")[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_cmyk_is_converted(tmp_path):
    image = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert through_file(tmp_path, image, ".tif")[0, 0].tolist() == [0, 255, 255]


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    # Pillow writes CMYK JPEGs as Adobe does, with inverted values and a marker that says so
    pixels = through_file(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), ".jpg", quality=95)
    assert b"Adobe" in (tmp_path / "image.jpg").read_bytes()
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)), [255, 0, 0], atol=4)


def test_a_cmyk_jpeg_without_adobes_marker_is_read_as_with_it(tmp_path):
    # no standard for files says which of 0 and 255 is no ink; browsers, like Pillow, take Adobe's way for both
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = tmp_path / "image.jpg"
    image.save(path, quality=95)
    data, expected = path.read_bytes(), read_image(path)
    marker = data.index(b"\xff\xee")
    length = int.from_bytes(data[marker + 2 : marker + 4], "big")
    path.write_bytes(data[:marker] + data[marker + 2 + length :])
    assert b"Adobe" not in path.read_bytes()
    np.testing.assert_array_equal(read_image(path), expected)


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = through_file(tmp_path, Image.fromarray(RGB), ".png", exif=exif)
    np.testing.assert_array_equal(pixels, UPRIGHT[orientation](RGB))


def test_orientation_is_applied_to_images_that_change_mode_too(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    grey = Image.fromarray(np.array([[0, 65535, 257]], dtype=np.uint16))
    assert through_file(tmp_path, grey, ".png", exif=exif)[..., 0].tolist() == [[0], [255], [1]]


def test_an_unknown_orientation_is_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 99
    np.testing.assert_array_equal(through_file(tmp_path, Image.fromarray(RGB), ".png", exif=exif), RGB)


def test_a_floating_point_image_is_refused_by_name(tmp_path):
    with pytest.raises(CorruptImage, match=r"image\.tif: .*floating-point"):
        through_file(tmp_path, Image.fromarray(np.zeros((2, 2), dtype=np.float32)), ".tif")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(CorruptImage, match=r"broken\.jpg: cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptImage, match=rf"cut\{suffix}"):
        read_image(path)


def test_a_file_that_vanished_is_named(tmp_path):
    with pytest.raises(CorruptImage, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")


def test_an_image_too_large_to_be_true_is_named(tmp_path):
    path = tmp_path / "bomb.bmp"
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(header)
    with pytest.raises(CorruptImage, match=r"bomb\.bmp"):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".png", ".jpg", ".gif", ".tif", ".webp"]))
@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damage that it can live with
def test_damaged_bytes_give_an_image_or_a_named_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("damage") / f"image{suffix}"
    Image.fromarray(RGB).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        pixels = read_image(path)
    except CorruptImage as error:
        message = str(error)
    else:
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
        return
    assert str(path) in message
