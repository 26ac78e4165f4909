"""User errors, such as a value out of range, a missing file or too little memory: one line and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hydra.errors import HydraException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from rapid_inr.errors import UserError

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
ABOUT_FILES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
ABOUT_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
# What the user can fix: values and files, a full or forbidden disk, too little memory. Anything else is a bug.
USER_ERRORS = (UserError, OSError, *OUT_OF_MEMORY, YAMLError, HydraException, OmegaConfBaseException)
TRACEBACK = "RAPID_INR_TRACEBACK"  # set to 1 to see where a user error comes from


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program with one line on stderr and exit code 2 at a user error; let a bug through."""
    try:
        yield
        sys.stdout.flush()  # before Python does so as it exits, where a closed reader is an error
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes the rest as it exits
        sys.exit(0)
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK) == "1" or is_bug(error):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Skip what needs a missing library, and say so on stderr."""
    try:
        yield
    except ImportError as error:
        print(f"warning [no_{what}]: {error}", file=sys.stderr)


def is_bug(error: BaseException) -> bool:
    """Return whether an exception is a bug, not a user error. An OSError about neither a file nor a disk is a bug."""
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # a missing config is both
        return not isinstance(error, ABOUT_FILES) and error.errno not in ABOUT_DISKS
    return not isinstance(error, USER_ERRORS)


def one_line(error: BaseException) -> str:
    """Return the message of a user error as one line."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... is required; --help shows how"
    text = str(error) or type(error).__name__
    if isinstance(error, OUT_OF_MEMORY):
        text = f"out of memory; a lower fit.max_batch or optimizer.batch_size needs less ({text})"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)
