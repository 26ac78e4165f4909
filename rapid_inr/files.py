"""Atomic file writes."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHOWN = 60  # characters of a file's name in that of its temporary file: at most 240 of 255 bytes
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in messages of safetensors
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add a file's name to errors of writing it, and turn those of safetensors into OSError; a full disk names no file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            if error.errno is not None and error.filename is None:
                error.filename = str(path)
        elif match := _OS_ERROR.search(str(error)):
            raise OSError(int(match[1]), os.strerror(int(match[1])), str(path)) from error
        raise


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` and move it to `path` at the end.

    Missing folders are made. The file gets the mode of a new file. If the block raises, `path` stays unchanged and the temporary
    file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # not the whole name, which may be as long as a file system allows, nor a process id, which two machines may share
    temporary = path.with_name(f".{path.name[:SHOWN]}.{secrets.token_hex(4)}")
    try:
        with naming(path):
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # a library may have replaced the file by one that only its owner can read
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_torn(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder; nobody may be writing there now."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
