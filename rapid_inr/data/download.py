"""Downloading a file once: resumed where it stopped, checked, and only then given its name."""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from rapid_inr.errors import UserError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60
_ATTEMPTS = 5


class DownloadFailed(UserError):
    """A file could not be downloaded; the message names its address and what to do."""


def fetch(url: str, path: Path, md5: str) -> Path:
    """Download `url` to `path`, unless it is there already with the right checksum.

    A broken transfer is taken up again where it stopped, a few times now and at the next call, from ``<path>.part``.

    Args:
        md5: hexadecimal MD5 of the file, as its publisher states it.

    Raises:
        DownloadFailed: if the transfer keeps breaking off, or what arrived has another checksum.
    """
    if path.is_file() and _md5_of(path) == md5:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(path.name, total=None)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if _transfer(url, part, lambda done, total: progress.update(task, completed=done, total=total)):
                    break
                reason = "the connection was closed too early"
            except urllib.error.HTTPError as error:
                error.close()
                raise DownloadFailed(f"{url}: {error}") from error
            except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
                reason = str(error)
            if attempt == _ATTEMPTS:
                raise DownloadFailed(f"{url}: {reason}; what has arrived is kept in {part}: run the same command to go on")
    actual = _md5_of(part)
    if actual != md5:
        part.unlink()
        raise DownloadFailed(f"{url}: MD5 is {actual}, expected {md5}; what arrived was thrown away")
    os.replace(part, path)
    return path


def _transfer(url: str, part: Path, report: Callable[[int, int | None], None]) -> bool:
    """Append what is missing to `part`, reporting bytes (done, in all); return whether all of it has arrived."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        # 416: the part is as long as the file or longer, which its checksum will tell
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        return True
    with response:
        # a server that knows no ranges, or answers with another one, sends bytes that do not belong at `start`
        resumes = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            return False
        start = start if resumes else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        done = start
        with open(part, "ab" if resumes else "wb") as file:
            # sized reads end early, without an error, when the connection is lost: hence the comparison below
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                done += len(block)
                report(done, total)
    return total is None or done == total


def _md5_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a folder, where its top entries appear only once all is unpacked.

    Raises:
        DownloadFailed: if it is no tar archive, or a member would land outside the folder.
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
