"""Decode images stored as cosine series by `decode_cosine`: a Triton kernel on a GPU, torch elsewhere."""

from kernels.cosine.op import decode_cosine
from kernels.cosine.spec import CosineRows, CosineSpec

__all__ = ["CosineRows", "CosineSpec", "decode_cosine"]
