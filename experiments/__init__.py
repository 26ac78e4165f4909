"""The commands. Use the repository as a checkout (`pip install --editable .`): other projects have a package `kernels` too."""

import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_kernels, _root = find_spec("kernels"), Path(__file__).resolve().parents[1]
if _kernels is None or _kernels.origin is None or Path(_kernels.origin).resolve().parents[1] != _root:
    _other = None if _kernels is None else _kernels.origin or list(_kernels.submodule_search_locations or ())
    raise ImportError(f"`import kernels` finds {_other}, not that of {_root}; work in the checkout, or: pip uninstall kernels")


def end_at_once(*_: object) -> None:
    """End a command that is interrupted while it loads its libraries, which takes seconds."""
    with suppress(OSError):  # stderr may be closed
        os.write(2, b"interrupted\n")
    os._exit(130)


if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `python -m` is looking for a command
    signal.signal(signal.SIGINT, end_at_once)
