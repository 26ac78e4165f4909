"""From the file of an experiment to its points: commands with names, in an order in which each finds what it reads.

An experiment (``configs/experiment/NAME.yaml``) is data:

name     its own
axes     lists of choices: LABEL -> overrides, or plain values, of which each is the override AXIS=VALUE
points   KEY -> verb    the command
                over    axes, of which every combination is a point; ``<AXIS>`` goes over the labels of one, without its overrides
                set     overrides, lists in lists allowed; they come before those of the axes
                name    of a point and its folder, by default KEY and the labels, with dashes between
                labels  more facts about the points, for the tables
scales   SCALE -> what differs there; merged over all of the above, and null takes out a choice or a group of points

``<AXIS>`` in a name, an override or a label stands for the label of that axis. ``@/FILE`` in an override is a file in the point's
own folder, ``@POINT/FILE`` one in another's: the point then runs after that other, and only if it has finished. Where POINT has a
``*`` in it, the reference is the list of those files of all other points whose names match.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from rapid_inr.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REFERENCE = re.compile(r"(?<=[=\[,])@([^/,\]]*)/([^,\]]*)")  # behind the = of an override, or in a list there
KEYS = {"verb", "over", "set", "name", "labels"}


@dataclass(frozen=True)
class Point:
    """A command of an experiment.

    Args:
        name: unique in the experiment; also that of its folder.
        group: KEY of the points that it is one of.
        overrides: of the command, with references still in them.
        labels: the choice of each axis, and what else the experiment says of the point.
        found_by: overrides of the sweep with which a job finds the point by its name.
    """

    name: str
    group: str
    verb: str
    overrides: tuple[str, ...]
    labels: Mapping[str, str]
    found_by: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the points that this one reads from."""
        found = (match[1] for override in self.overrides for match in REFERENCE.finditer(override))
        return tuple(dict.fromkeys(name for name in found if name))

    def overrides_in(self, folder: str) -> list[str]:
        """Return the overrides with their references as paths below the folder of the sweep."""

        def path(match: re.Match[str]) -> str:
            return quoted(f"{folder}/{match[1] or self.name}/{match[2]}")

        return [REFERENCE.sub(path, override) for override in self.overrides]


def quoted(text: str) -> str:
    """Return a text as Hydra reads it whole, whatever is in it."""
    if re.fullmatch(r"[A-Za-z0-9_./-]+", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def expand(experiment: Mapping[str, Any]) -> list[Point]:
    """Return the points of an experiment, its scale merged in already.

    Raises:
        ValueError: if it is not as described above; the message names the place.
    """
    points: dict[str, Point] = {}
    for key, group in _present(experiment.get("points")).items():
        for point in _group(key, group, _present(experiment.get("axes"))):
            if point.name in points:
                raise UserError(f"two points are called {point.name}; give points.{key} a name with all of its axes in it")
            points[point.name] = point
    points = {name: _listed(point, points) for name, point in points.items()}
    for point in points.values():
        for other in point.needs:
            if other not in points:
                raise UserError(f"point {point.name} reads from {other}, which is no point of the experiment at this scale")
    return list(points.values())


def _listed(point: Point, points: Iterable[str]) -> Point:
    """Return the point with a list of references in place of each whose point is a pattern."""

    def every(match: re.Match[str]) -> str:
        if "*" not in match[1]:
            return match[0]
        names = [name for name in points if name != point.name and fnmatchcase(name, match[1])]
        if not names:
            raise UserError(f"point {point.name} reads from {match[1]}, which no other point of the experiment matches")
        return "[" + ",".join(f"@{name}/{match[2]}" for name in names) + "]"

    return replace(point, overrides=tuple(REFERENCE.sub(every, override) for override in point.overrides))


def _present(mapping: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (mapping or {}).items() if value is not None}


def _group(key: str, group: Mapping[str, Any], axes: Mapping[str, Any]) -> Iterator[Point]:
    if unknown := set(group) - KEYS:
        raise UserError(f"points.{key} has {', '.join(sorted(unknown))}, expected of {', '.join(sorted(KEYS))}")
    if "verb" not in group:
        raise UserError(f"points.{key} has no verb")
    asked = list(group.get("over") or [])
    over = [axis.removeprefix("<").removesuffix(">") for axis in asked]
    if missing := [axis for axis in over if axis not in axes]:
        raise UserError(f"points.{key} goes over {missing[0]}, expected one of the axes {', '.join(axes) or '(none)'}")
    name = group.get("name") or "-".join([key, *(f"<{axis}>" for axis in over)])
    for choices in itertools.product(*(_choices(axis, axes[axis]) for axis in over)):
        chosen = {axis: label for axis, (label, _) in zip(over, choices, strict=True)}
        of_axes = [text for axis, (_, own) in zip(asked, choices, strict=True) if axis in chosen for text in own]
        overrides = [*_flat(group.get("set") or []), *of_axes]
        labels = chosen | {fact: _filled(str(text), chosen) for fact, text in _present(group.get("labels")).items()}
        called = _filled(name, chosen)
        if not NAME.fullmatch(called):
            raise UserError(f"a point is called {called!r}, expected letters, digits, dots, dashes and underscores")
        yield Point(called, key, group["verb"], tuple(_filled(text, chosen) for text in overrides), labels)


def _choices(axis: str, choices: Mapping[str, Any] | Sequence[Any]) -> list[tuple[str, list[str]]]:
    """Return label and overrides of each choice."""
    if isinstance(choices, Mapping):
        return [(str(label), list(_flat(overrides))) for label, overrides in _present(choices).items()]
    return [(str(value), [f"{axis}={value}"]) for value in choices]


def _flat(overrides: Any) -> Iterator[str]:
    if isinstance(overrides, list | tuple):
        for override in overrides:
            yield from _flat(override)
    elif isinstance(overrides, str) and "=" in overrides:
        yield overrides
    else:
        raise UserError(f"{overrides!r} is no override, expected KEY=VALUE")


def _filled(text: str, chosen: Mapping[str, str]) -> str:
    for axis, label in chosen.items():
        text = text.replace(f"<{axis}>", label)
    return text


def matching(points: Sequence[Point], patterns: Sequence[str] | None) -> list[Point]:
    """Return the points whose names match a pattern, and those that they read from.

    Raises:
        ValueError: if a pattern matches none.
    """
    if patterns is None:
        return list(points)
    for pattern in patterns:
        if not any(fnmatchcase(point.name, pattern) for point in points):
            raise UserError(f"only={pattern} matches no point; list=true prints their names")
    by_name = {point.name: point for point in points}
    wanted = [point.name for point in points if any(fnmatchcase(point.name, pattern) for pattern in patterns)]
    for name in wanted:  # grows while it is walked
        wanted += [other for other in by_name[name].needs if other not in wanted]
    return [point for point in points if point.name in wanted]


def levels(points: Sequence[Point]) -> list[list[Point]]:
    """Return the points in groups, each of which reads only from those before it, and from points that are not among them.

    Raises:
        ValueError: if points wait for each other.
    """
    found: list[list[Point]] = []
    names, ready = {point.name for point in points}, set()
    waiting = list(points)
    while waiting:
        group = [point for point in waiting if names.intersection(point.needs) <= ready]
        if not group:
            raise UserError(f"points wait for each other: {', '.join(point.name for point in waiting)}")
        found.append(group)
        ready |= {point.name for point in group}
        waiting = [point for point in waiting if point.name not in ready]
    return found
