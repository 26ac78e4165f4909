"""Triton kernels for small SIRENs, a CPU backend, and the formula that both are tested against; tensors in, tensors out."""
