"""Whether two configurations, or any two nested mappings, say the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names; an empty mapping is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, ignored: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> str | None:
    """Return the dotted name of the first key in which two nested mappings differ, or None.

    Args:
        ignored: dotted names that do not count, nor do the keys below them.
        defaults: flat; a key that `before` lacks counts as having its default.
    """
    then, today = flatten(before), flatten(now)
    for key in sorted(then.keys() | today.keys()):
        parts = key.split(".")
        if any(".".join(parts[:n]) in ignored for n in range(1, len(parts) + 1)):
            continue
        if key not in then and defaults is not None and key in defaults and defaults[key] == today[key]:
            continue
        if (key in then) != (key in today) or _plain(then[key]) != _plain(today[key]):
            return key
    return None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
