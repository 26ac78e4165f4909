"""The texture format ASTC: each block of pixels takes 16 bytes, so that a GPU can find and decode it alone.

It uses `astc_encoder`, the wheel of ARM's encoder (pip: astc-encoder-py). Source: Nystad et al. 2012, "Adaptive scalable texture
compression".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

BLOCKS = ("4x4", "5x4", "5x5", "6x5", "6x6", "8x5", "8x6", "8x8", "10x5", "10x6", "10x8", "10x10", "12x10", "12x12")
MAGIC = b"\x13\xab\xa1\x5c"  # an .astc file: this, 3 sides of a block (1 byte each), 3 sides of the image (3 bytes each), blocks
HEADER_BYTES, SUFFIX = 16, ".astc"


def encode_astc(image: np.ndarray, *, effort: float, block: str) -> bytes:
    """Return an .astc file.

    Args:
        image: uint8 [height, width, 3].
        effort: of the encoder's search, from 0 to 100; 60 is ARM's "medium", 98 its "thorough".
        block: one of `BLOCKS`, width before height.
    """
    import astc_encoder

    height, width = image.shape[:2]
    rgba = np.dstack([image, np.full((height, width), 255, np.uint8)])
    picture = astc_encoder.ASTCImage(astc_encoder.ASTCType.U8, width, height, data=rgba.tobytes())
    blocks = _context(block, effort).compress(picture, astc_encoder.ASTCSwizzle.from_str("RGB1"))
    sides = bytes(map(int, block.split("x")))
    return MAGIC + sides + b"\x01" + b"".join(n.to_bytes(3, "little") for n in (width, height, 1)) + blocks


def astc_size(file: bytes) -> tuple[int, int]:
    """Return the (width, height) of the image of an .astc file, of which the header is enough."""
    return int.from_bytes(file[7:10], "little"), int.from_bytes(file[10:13], "little")


def decode_astc(file: bytes) -> np.ndarray:
    """Return the image of an .astc file that `encode_astc` wrote, uint8 [height, width, 3]."""
    import astc_encoder

    width, height = astc_size(file)
    picture = astc_encoder.ASTCImage(astc_encoder.ASTCType.U8, width, height)
    context = _context(f"{file[4]}x{file[5]}")
    context.decompress(file[HEADER_BYTES:], picture, astc_encoder.ASTCSwizzle.from_str("RGBA"))
    return np.frombuffer(picture.data, np.uint8).reshape(height, width, 4)[..., :3].copy()


@lru_cache  # making a context takes longer than decoding a small image
def _context(block: str, effort: float = 0) -> Any:
    import astc_encoder

    width, height = map(int, block.split("x"))
    # linear RGB, which PSNR measures
    config = astc_encoder.ASTCConfig(astc_encoder.ASTCProfile.LDR, width, height, quality=effort)
    return astc_encoder.ASTCContext(config)
