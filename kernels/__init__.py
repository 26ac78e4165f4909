"""Triton kernels for small SIRENs, each beside its torch twin; this package knows tensors only."""
