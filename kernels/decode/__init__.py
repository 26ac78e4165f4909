"""Decode packed rows of SIRENs into images: `decode_siren`, by a Triton kernel on a GPU and by torch elsewhere."""

from kernels.decode.op import decode_siren

__all__ = ["decode_siren"]
