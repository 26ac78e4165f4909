"""Argument checks whose message says which argument, what it is, and what was expected."""

from __future__ import annotations


def require(ok: bool, name: str, actual: object, expected: object) -> None:
    """Raise ``ValueError("<name> is <actual>, expected <expected>")`` unless `ok`.

    Args:
        ok: the condition that must hold.
        name: the argument and its property, for instance ``"codes.dtype"``.
        actual: the value that was given.
        expected: a value, or a phrase that describes the accepted ones.

    Raises:
        ValueError: if `ok` is false.
    """
    if not ok:
        raise ValueError(f"{name} is {actual}, expected {expected}")
