"""Each backend in turn; where triton is not installed (it is for Linux only) that is the CPU backend alone."""

import importlib.util

import pytest

HAS_TRITON = importlib.util.find_spec("triton") is not None
NEED_TRITON = [
    f"test_{name}.py"
    for name in ("cosine_kernel", "fast_math", "kernel", "launch", "offline", "offline_cosine", "offline_fit", "sine_ceiling")
]
collect_ignore = [] if HAS_TRITON else NEED_TRITON


@pytest.fixture(params=["kernel", "torch"] if HAS_TRITON else ["torch"])
def backend(request):
    return request.param
