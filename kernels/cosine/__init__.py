"""Decode images that are stored as cosine series: `decode_cosine`, by a Triton kernel on a GPU and by torch elsewhere."""

from kernels.cosine.op import decode_cosine
from kernels.cosine.spec import CosineRows, CosineSpec

__all__ = ["CosineRows", "CosineSpec", "decode_cosine"]
