"""Read any image that Pillow opens, and .astc files, as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from rapid_inr.data.astc import HEADER_BYTES, SUFFIX, astc_size, decode_astc
from rapid_inr.data.source import CorruptImage
from rapid_inr.errors import UserError

MAX_PIXELS = 90_000_000  # 270 MB decoded; a small file may claim any number of pixels
# the transposition that undoes each EXIF orientation (EXIF 2.3, tag 0x0112); 1 is upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert to 8-bit RGB, upright.

    Grey is repeated over the channels. 16-bit grey is scaled by 255 / 65535 and rounded (Pillow would clip it at 255).
    Transparent pixels are blended with white. Palette, CMYK and 1-bit images are converted, CMYK JPEGs by Adobe's convention. The
    EXIF orientation is applied.

    Returns:
        uint8 [height, width, 3], contiguous.

    Raises:
        ValueError: if the image has a mode without a defined conversion, such as floating point.
    """
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if image.mode.startswith("I"):  # I;16, I;16B, and I, Pillow's mode for 16-bit PGM and, in some versions, PNG
        grey = np.clip(np.asarray(image).astype(np.float64), 0, 65535)
        image = Image.fromarray(np.rint(grey * (255 / 65535)).astype(np.uint8))
    elif image.mode == "F":
        raise UserError("a floating-point image has no defined range")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return np.array(image)


def is_image(path: Path) -> bool:
    """Return whether a file has the header of an image; the rest of the file is not checked."""
    Image.MAX_IMAGE_PIXELS = None  # see `read_image`
    try:
        with Image.open(path):
            return True
    except Exception:  # see `read_image`
        return False


def image_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of an image file, from its header."""
    if path.suffix == SUFFIX:
        with path.open("rb") as file:
            return astc_size(file.read(HEADER_BYTES))
    with Image.open(path) as image:
        return image.size


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file, or the first frame of an animation, as uint8 [height, width, 3].

    Args:
        max_pixels: largest number of pixels, checked in the header before decoding.

    Raises:
        CorruptImage: if the file cannot be read for any reason, or has more pixels; names the path.
    """
    Image.MAX_IMAGE_PIXELS = None  # the check below replaces Pillow's limit
    try:
        if path.suffix == SUFFIX:
            file = path.read_bytes()
            _require_at_most(max_pixels, *astc_size(file))
            return decode_astc(file)
        with Image.open(path) as image:
            _require_at_most(max_pixels, *image.size)
            return to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # on malformed bytes the decoders raise OSError, SyntaxError, struct.error, IndexError, ...
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise CorruptImage(f"{path}: cannot be read as an image ({reason})") from error


def _require_at_most(max_pixels: int, width: int, height: int) -> None:
    if width * height > max_pixels:
        raise UserError(f"{width}x{height} pixels, expected at most {max_pixels:,}; dataset.max_pixels sets that")
