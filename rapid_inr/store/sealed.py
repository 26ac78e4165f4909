"""JSON in the metadata of a safetensors file, sealed by a checksum and read as untrusted data."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from rapid_inr.errors import UserError

CHECKSUM = "header_crc32"
MAX_BYTES = 4 << 20  # 20,000 class names take a fifth of this
QUOTED = 80  # most characters of a value in a message


class StoreFormatError(UserError):
    """A file is not a store or a shard that this version can read; the message names the file and the fault."""


def seal(raw: dict[str, Any]) -> str:
    """Return JSON values with their checksum as text."""
    return _canonical(raw | {CHECKSUM: checksum_of(raw)})


def checksum_of(raw: dict[str, Any]) -> int:
    """Return the CRC-32 of the JSON without the checksum: keys sorted, ASCII, no spaces."""
    return zlib.crc32(_canonical({key: value for key, value in raw.items() if key != CHECKSUM}).encode())


def _canonical(raw: dict[str, Any]) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))


def unseal(path: Path, metadata: dict[str, str] | None, key: str, *, version: int, remedy: str = "") -> dict[str, Any]:
    """Return the sealed JSON values under a key of a file's metadata.

    Args:
        remedy: what to do about the file, appended to each message.

    Raises:
        StoreFormatError: if they are missing, of another version, or damaged.
    """

    def reject(what: str) -> StoreFormatError:
        return StoreFormatError(f"{path} {what}{remedy}")

    text = (metadata or {}).get(key)
    if text is None:
        raise reject(f"is a safetensors file without the metadata {key!r}")
    if len(text) > MAX_BYTES:
        raise reject(f"has a header of {len(text):,} characters, expected at most {MAX_BYTES:,}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        raise reject(f"has a header that is not JSON: {brief(error)}") from None
    actual = raw.get("version") if isinstance(raw, dict) else raw
    if actual != version:
        raise reject(f"has format version {brief(actual)}, this program reads {version}")
    try:
        sound = raw.get(CHECKSUM) == checksum_of(raw)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise reject("is damaged: the checksum of its header does not match")
    return raw


def brief(value: object, *, most: int = QUOTED) -> str:
    """Return a value from a file, or an error about it, for a message: printable, at most `most` characters."""
    try:
        text = str(value) if isinstance(value, Exception) else repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."
