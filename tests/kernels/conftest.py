"""Where triton is not installed (it is for Linux only) the twin is tested and the kernel is not."""

import importlib.util

NEED_TRITON = ["test_fast_math.py", "test_offline.py", "test_siren_inputs.py", "test_siren_kernel.py", "test_sine_ceiling.py"]
collect_ignore = [] if importlib.util.find_spec("triton") else NEED_TRITON
