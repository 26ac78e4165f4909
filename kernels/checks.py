"""Argument checks, whose messages name the argument, its value and the expected values."""

from __future__ import annotations


def require(ok: bool, name: str, actual: object, expected: object) -> None:
    """Raise ``ValueError("<name> is <actual>, expected <expected>")`` unless `ok`.

    Args:
        ok: the condition that must hold.
        name: the argument and its property, such as ``"codes.dtype"``.
        actual: its value.
        expected: a value, or a phrase that describes the accepted values.

    Raises:
        ValueError: if `ok` is false.
    """
    if not ok:
        raise ValueError(f"{name} is {actual}, expected {expected}")
