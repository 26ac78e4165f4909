"""The error that is a user's mistake: commands show it as one line, without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """A value, a file or a combination of settings that cannot be used.

    The message says what is wrong, what was expected, and what to do. Any other exception is a bug and shows its traceback.
    """


def require(ok: bool, name: str, value: object, expected: object) -> None:
    """Raise ``UserError("<name> is <value>, expected <expected>")`` unless `ok`."""
    if not ok:
        raise UserError(f"{name} is {value}, expected {expected}")
