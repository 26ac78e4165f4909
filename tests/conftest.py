"""Where there is no CUDA GPU the Triton kernels run through their interpreter: it must be chosen before triton is imported."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels are tested: the GPU, or the CPU with triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
