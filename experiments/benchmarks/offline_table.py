"""The resource table of the kernel, compiled without a GPU, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence


def print_offline_table(sizes: Sequence[str]) -> None:
    """Print what `python -m kernels.tools.offline` prints of some sizes; this process may run triton as an interpreter."""
    if importlib.util.find_spec("triton") is None:
        print("no resource table: triton is not installed")
        return
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "kernels.tools.offline", *sizes], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"python -m kernels.tools.offline failed: {done.stderr}")
    print(done.stdout)
