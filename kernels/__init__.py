"""Triton kernels for small SIRENs, a CPU backend, and the reference for both: tensors in, tensors out."""
