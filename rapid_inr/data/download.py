"""Downloads: fetch a file, check it, and only then move it to its path."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path

from rich.console import Console
from rich.progress import wrap_file

from rapid_inr.errors import UserError
from rapid_inr.files import atomic

_TIMEOUT_S = 60


class DownloadFailed(UserError):
    """A file could not be downloaded; the message names its address and what to do."""


def fetch(url: str, path: Path, md5: str) -> Path:
    """Download `url` to `path`, unless that file already has the right checksum.

    Args:
        md5: hexadecimal MD5 that the publisher states.

    Raises:
        DownloadFailed: if the transfer fails or the checksum is wrong; no part of the file is kept.
    """
    if path.is_file() and _md5_of(path) == md5:
        return path
    with atomic(path) as temporary:
        try:
            _transfer(url, temporary)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            raise DownloadFailed(f"{url}: {error}; run the same command again, or put the file at {path} yourself") from error
        actual = _md5_of(temporary)
        if actual != md5:
            raise DownloadFailed(f"{url}: MD5 is {actual}, expected {md5}; run the same command again")
    return path


def _transfer(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, path.open("wb") as file:
        n_bytes = int(response.headers.get("Content-Length", 0))
        with wrap_file(response, n_bytes, description=url.rpartition("/")[2], console=Console(stderr=True)) as body:
            shutil.copyfileobj(body, file)


def _md5_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a folder; its entries appear there only after all are unpacked.

    Raises:
        DownloadFailed: if it is not a tar archive, or a member points outside the folder.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise DownloadFailed(f"{archive}: cannot be unpacked ({error}); delete it and fetch it again") from error
        for entry in sorted(Path(temporary).iterdir()):
            _move(entry, folder / entry.name)


def _move(entry: Path, target: Path) -> None:
    if entry.is_dir() and target.is_dir():
        for inner in sorted(entry.iterdir()):
            _move(inner, target / inner.name)
    else:
        os.replace(entry, target)
