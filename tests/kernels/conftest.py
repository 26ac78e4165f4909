"""Each backend in turn; where triton is not installed (it is for Linux only) that is the CPU backend alone."""

import importlib.util

import pytest

HAS_TRITON = importlib.util.find_spec("triton") is not None
NEED_TRITON = ["test_fast_math.py", "test_offline.py", "test_offline_fit.py", "test_kernel.py", "test_sine_ceiling.py"]
NEED_TRITON += ["test_cosine_kernel.py", "test_offline_cosine.py"]
collect_ignore = [] if HAS_TRITON else NEED_TRITON


@pytest.fixture(params=["kernel", "torch"] if HAS_TRITON else ["torch"])
def backend(request):
    return request.param
