"""Decode packed rows of SIRENs into images by `decode_siren`: a Triton kernel on a GPU, torch elsewhere."""

from kernels.decode.op import decode_siren

__all__ = ["decode_siren"]
