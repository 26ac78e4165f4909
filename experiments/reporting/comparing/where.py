"""Which runs are meant: conditions such as ``inr.depth=3,optimizer.epochs>=10``, all of which must hold.

KEY=VALUE, KEY!=VALUE    equal or not; VALUE may be several, A|B, or have * and ? in it
KEY>=VALUE, >, <=, <     by number, or by letters if both are texts, such as a date

A key is written as in config.yaml, or by its last parts where these fit one key alone. A run that lacks a key fulfils only !=.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from experiments.reporting.comparing.logged import LoggedRun
from rapid_inr.errors import UserError

_CONDITION = re.compile(r"\s*([A-Za-z_][\w./-]*)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*")
_ORDERS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Condition:
    """One condition; `values` holds the alternatives."""

    key: str
    sign: str
    values: tuple[Any, ...]

    def holds(self, run: LoggedRun) -> bool:
        """Return whether a run fulfils the condition."""
        there = run.value(self.key)
        if self.sign in _ORDERS:
            return _comparable(there, self.values[0]) and _ORDERS[self.sign](there, self.values[0])
        return any(_equal(there, value) for value in self.values) == (self.sign == "=")


def parse(text: str, known: Iterable[str]) -> list[Condition]:
    """Return the conditions of a text; commas within brackets belong to a value.

    Raises:
        ValueError: if it is not as described above, or names a key that is unknown or ambiguous.
    """
    known = set(known)
    conditions = []
    for part in re.split(r",(?![^\[]*\])", text):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise UserError(f"{part.strip()!r} is no condition, expected KEY=VALUE, or !=, >=, <=, >, < instead of =")
        key, sign, value = match.groups()
        sign = "=" if sign == "==" else sign
        values = (value,) if sign in _ORDERS else value.split("|")
        conditions.append(Condition(resolve(key, known), sign, tuple(_typed(value) for value in values)))
    return conditions


def matching(runs: Sequence[LoggedRun], conditions: Sequence[Condition]) -> list[LoggedRun]:
    """Return the runs that fulfil all conditions."""
    return [run for run in runs if all(condition.holds(run) for condition in conditions)]


def known_keys(runs: Sequence[LoggedRun]) -> set[str]:
    """Return the keys that any of the runs has."""
    return set().union(*(run.keys() for run in runs))


def resolve(key: str, known: Iterable[str]) -> str:
    """Return the key that is meant by its whole name or its last parts.

    Raises:
        ValueError: if none is, or several are; the message names them.
    """
    known = set(known)
    if key in known:
        return key
    found = sorted(name for name in known if name.endswith(f".{key}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{key} may be {' or '.join(found)}; write more of it")
    last = {name.rpartition(".")[2]: name for name in sorted(known)}
    near = difflib.get_close_matches(key, known, n=3) or [last[name] for name in difflib.get_close_matches(key, last, n=3)]
    raise UserError(f"no run has {key}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


def shortest(key: str, known: Iterable[str]) -> str:
    """Return the fewest last parts of a key by which `resolve` finds it."""
    known, parts = set(known), key.split(".")
    for n in range(1, len(parts)):
        short = ".".join(parts[-n:])
        if short not in known and sum(name.endswith(f".{short}") for name in known) == 1:
            return short
    return key


def _typed(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _equal(there: Any, asked: Any) -> bool:
    if isinstance(there, bool) or isinstance(asked, bool) or there is None or asked is None:
        return there is asked
    if isinstance(there, int | float) and isinstance(asked, int | float):
        return there == asked
    return fnmatchcase(re.sub(r"\s", "", str(there)), re.sub(r"\s", "", _literal_brackets(str(asked))))


def _literal_brackets(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _comparable(there: Any, asked: Any) -> bool:
    kinds = ((int, float), str)
    return any(isinstance(there, kind) and isinstance(asked, kind) and not isinstance(there, bool) for kind in kinds)
