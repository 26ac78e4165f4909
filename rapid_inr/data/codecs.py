"""Rate-distortion curves of ASTC and of Pillow's image codecs on a dataset.

A point counts all bytes of all files with their headers, but no index of the files. ``jpeg_shared`` counts what all JPEG files
share only once: the quantization and Huffman tables and the JFIF header (abbreviated format of ITU-T T.81, B.4 and B.5). Each
file is joined with them before decoding. The header of ASTC files, which all images of a size share, also counts once.
"""

from __future__ import annotations

import importlib.util
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, features

from rapid_inr.data.astc import BLOCKS, HEADER_BYTES, MAGIC, decode_astc, encode_astc
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource
from rapid_inr.errors import UserError, require
from rapid_inr.evaluation.metrics import bpp, psnr_db, rgb_pct, ssim

CHUNK_IMAGES = 64
# Pillow's name for the library of each codec; astc needs a separate package
LIBRARIES = {"jpeg": "jpg", "jpeg_shared": "jpg", "webp": "webp", "jpeg2000": "jpg_2000", "avif": "avif", "astc": "astc_encoder"}
SUBSAMPLINGS = {
    "jpeg": ("4:4:4", "4:2:2", "4:2:0"), "jpeg_shared": ("4:4:4", "4:2:2", "4:2:0"), "webp": ("4:2:0",),
    "jpeg2000": ("4:4:4",), "avif": ("4:4:4", "4:2:2", "4:2:0"), "astc": BLOCKS,
}  # fmt: skip
QUALITY_RANGES = {"jpeg2000": (1, math.inf)}  # raw bytes over coded bytes; all other qualities are from 0 to 100
SHARED_SEGMENTS = (0xE0, 0xDB, 0xC4)  # APP0, DQT, DHT
START_OF_IMAGE, START_OF_SCAN = b"\xff\xd8", 0xDA


class CodecUnavailable(UserError):
    """The library of a codec is not installed; the message names both."""


@dataclass
class CodecConfig:
    """A codec and the points of its curve: each quality with each chroma subsampling.

    Args:
        name: jpeg, jpeg_shared, webp, jpeg2000, avif or astc, which codec=NAME sets.
        qualities: from 0 to 100. For jpeg2000, compression ratios: the largest takes the fewest bytes. For astc, the effort of
            the search, which does not change the number of bytes.
        subsamplings: those of ``4:4:4``, ``4:2:2``, ``4:2:0`` that the codec has; for astc blocks such as ``8x8``,
            which take 16 bytes each.

    Raises:
        ValueError: if a value is out of range.
    """

    name: str
    qualities: tuple[float, ...]
    subsamplings: tuple[str, ...]

    def __post_init__(self) -> None:
        self.qualities, self.subsamplings = tuple(self.qualities), tuple(self.subsamplings)
        require(self.name in LIBRARIES, "codec.name", repr(self.name), f"one of {', '.join(LIBRARIES)}")
        low, high = QUALITY_RANGES.get(self.name, (0, 100))
        ok = len(self.qualities) > 0 and all(low <= quality <= high for quality in self.qualities)
        require(ok, "codec.qualities", list(self.qualities), f"one or more from {low} to {high}")
        choices = SUBSAMPLINGS[self.name]
        ok = len(self.subsamplings) > 0 and set(self.subsamplings) <= set(choices)
        require(ok, "codec.subsamplings", list(self.subsamplings), f"of {self.name}: {', '.join(choices)}")


@dataclass(frozen=True)
class RatePoint:
    """The rate of a dataset at one setting of a codec, and means over its images: PSNR, SSIM, and processor time."""

    quality: float
    subsampling: str
    images: int
    n_bytes: int
    bpp: float
    rgb_pct: float
    psnr_db: float
    ssim: float
    encode_ms: float
    decode_ms: float


def require_available(name: str) -> None:
    """Raise `CodecUnavailable` if the library of a codec is missing."""
    if name == "astc":
        if importlib.util.find_spec(LIBRARIES[name]) is None:
            raise CodecUnavailable("astc needs astc_encoder, which is not installed: pip install rapid-inr[astc]")
    elif not features.check(LIBRARIES[name]):
        raise CodecUnavailable(f"{name} needs {LIBRARIES[name]}, which this Pillow was built without")


def encode_file(image: np.ndarray, name: str, *, quality: float, subsampling: str) -> bytes:
    """Encode an image and return the whole file.

    Args:
        image: uint8 [height, width, 3].
        name: one of `LIBRARIES`; jpeg_shared uses the standard Huffman tables instead of the image's optimal ones.
    """
    if name == "astc":
        return encode_astc(image, effort=quality, block=subsampling)
    whole = round(quality)
    options = {
        "jpeg": {"format": "JPEG", "quality": whole, "subsampling": subsampling, "optimize": True},
        "jpeg_shared": {"format": "JPEG", "quality": whole, "subsampling": subsampling},
        "webp": {"format": "WEBP", "quality": quality, "method": 6},
        "jpeg2000": _jpeg2000_options(image, ratio=quality),
        "avif": {"format": "AVIF", "quality": whole, "subsampling": subsampling, "speed": 6, "max_threads": 1},
    }
    file = io.BytesIO()
    Image.fromarray(image).save(file, **options[name])
    return file.getvalue()


def _jpeg2000_options(image: np.ndarray, *, ratio: float) -> dict[str, object]:
    """Return the best settings for PSNR; at 32 px and 4 bpp they gain 9 dB over Pillow's defaults.

    They use the lossy wavelet with the colour transform, down to a band of 8 to 15 pixels a side, and the bare codestream, since
    the JP2 boxes take 85 bytes without adding information. A comment of one space replaces the library's name, since the comment
    cannot be empty.
    """
    levels = int(math.log2(max(1, min(image.shape[:2])))) - 2
    return {
        "format": "JPEG2000", "quality_mode": "rates", "quality_layers": [ratio], "irreversible": True, "mct": 1,
        "num_resolutions": min(6, max(1, levels)), "no_jp2": True, "comment": " ",
    }  # fmt: skip


def decode_file(data: bytes) -> np.ndarray:
    """Return the image of a file, uint8 [height, width, 3]."""
    if data.startswith(MAGIC):
        return decode_astc(data)
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))


def split_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG file into the segments that all files of a quality share and the rest.

    Raises:
        ValueError: if it is not a JPEG file of marker segments up to a scan.
    """
    if jpeg[:2] != START_OF_IMAGE:
        raise UserError(f"file begins with {jpeg[:2].hex()}, expected the JPEG marker ffd8")
    shared, own, at = [], [START_OF_IMAGE], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, end = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == START_OF_SCAN:
            return b"".join(shared), b"".join([*own, jpeg[at:]])
        (shared if marker in SHARED_SEGMENTS else own).append(jpeg[at:end])
        at = end
    raise UserError(f"file has no scan after byte {at}, expected a whole JPEG file")


def join_tables(tables: bytes, image: bytes) -> bytes:
    """Join the two results of `split_tables` to a whole JPEG file."""
    return START_OF_IMAGE + tables + image[2:]


@dataclass
class _Tally:
    """The sums over files from which a point is computed."""

    images: int = 0
    n_bytes: int = 0
    n_pixels: int = 0
    psnr_db: float = 0.0
    ssim: float = 0.0
    encode_s: float = 0.0
    decode_s: float = 0.0
    tables: set[bytes] = field(default_factory=set)  # each counts once for all files

    def add(self, image: np.ndarray, config: CodecConfig, *, quality: float, subsampling: str) -> None:
        began = time.process_time()
        file = encode_file(image, config.name, quality=quality, subsampling=subsampling)
        self.encode_s += time.process_time() - began
        if config.name == "jpeg_shared":
            tables, own = split_tables(file)
            self.tables.add(tables)
            self.n_bytes += len(own)
            file = join_tables(tables, own)
        elif config.name == "astc":
            self.tables.add(file[:HEADER_BYTES])
            self.n_bytes += len(file) - HEADER_BYTES
        else:
            self.n_bytes += len(file)
        began = time.process_time()
        decoded = decode_file(file)
        self.decode_s += time.process_time() - began
        pair = torch.from_numpy(decoded)[None], torch.from_numpy(image)[None]
        self.images += 1
        self.n_pixels += image.shape[0] * image.shape[1]
        self.psnr_db += psnr_db(*pair).item()
        self.ssim += ssim(*pair).item()

    def point(self, *, quality: float, subsampling: str) -> RatePoint:
        cost = {"n_bytes": self.n_bytes + sum(map(len, self.tables)), "n_pixels": self.n_pixels}
        means = {"psnr_db": self.psnr_db / self.images, "ssim": self.ssim / self.images}
        means |= {"encode_ms": 1e3 * self.encode_s / self.images, "decode_ms": 1e3 * self.decode_s / self.images}
        return RatePoint(quality, subsampling, self.images, cost["n_bytes"], bpp(**cost), rgb_pct(**cost), **means)


def measure_curve(
    source: ImageSource,
    config: CodecConfig,
    *,
    on_corrupt: str = "fail",
    on_progress: Callable[[float], None] | None = None,
) -> tuple[list[RatePoint], list[str]]:
    """Encode and decode all images of a source at all points of a curve, in one pass over the images.

    Args:
        on_corrupt: ``fail`` or ``skip``, at an image that cannot be read.
        on_progress: called with the number of images done, at all points, since the last call.

    Returns:
        The points by rising bytes, and a message for each skipped image.

    Raises:
        CodecUnavailable: if the codec's library is missing.
        ValueError: if an image is smaller than the SSIM window, or none could be read.
    """
    require_available(config.name)
    settings = [{"quality": q, "subsampling": s} for s in config.subsamplings for q in config.qualities]
    tallies, skipped = [_Tally() for _ in settings], []
    for chunk in read_chunks(source, CHUNK_IMAGES, on_corrupt=on_corrupt):
        skipped += chunk.skipped.values()
        for image in chunk.images:
            for tally, setting in zip(tallies, settings, strict=True):
                tally.add(image, config, **setting)
            if on_progress is not None:
                on_progress(1)
    if tallies[0].images == 0:
        raise UserError(f"none of {len(source)} images could be read; the first: {skipped[0]}")
    points = [tally.point(**setting) for tally, setting in zip(tallies, settings, strict=True)]
    return sorted(points, key=lambda point: (point.n_bytes, point.psnr_db)), skipped
