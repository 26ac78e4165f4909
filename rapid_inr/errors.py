"""The error for a user's mistake, which commands show as one line without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """A value, file or combination of settings is wrong; the message says what was expected and what to do.

    Any other exception is a bug and shows its traceback.
    """


def require(ok: bool, name: str, value: object, expected: object) -> None:
    """Raise ``UserError("<name> is <value>, expected <expected>")`` unless `ok`."""
    if not ok:
        raise UserError(f"{name} is {value}, expected {expected}")
