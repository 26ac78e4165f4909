"""Compare two configs, or any two nested mappings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names; an empty mapping is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


class Difference(NamedTuple):
    """A key in which two nested mappings differ, with its value in each; None where one lacks it."""

    key: str
    before: Any
    now: Any


def first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, ignored: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Difference | None:
    """Return the first key in which two nested mappings differ, or None.

    Args:
        ignored: dotted names of keys to ignore with all keys below them.
        defaults: by dotted name; a key that `before` lacks takes its default.
    """
    before, now = flatten(before), flatten(now)
    for key in sorted(before.keys() | now.keys()):
        parts = key.split(".")
        if any(".".join(parts[:n]) in ignored for n in range(1, len(parts) + 1)):
            continue
        if key not in before and defaults is not None and key in defaults and defaults[key] == now[key]:
            continue
        if (key in before) != (key in now) or _plain(before[key]) != _plain(now[key]):
            return Difference(key, before.get(key), now.get(key))
    return None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
