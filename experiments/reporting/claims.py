"""The paper's numbers, as data, and whether ours are within what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.reporting.grids import ABSENT, Grid, Head
from rapid_inr.errors import UserError

PAPER = Path(__file__).parent / "paper"
MARKS = {
    "abs": "the abstract",
    "sum": "a third party's summary of the paper",
    "code": "the authors' repository",
    "calc": "arithmetic on those",
}


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper, or what it would be of; the fields are explained in ``paper/claims.yaml``."""

    key: str
    says: str
    value: float | str | None
    unit: str = ""
    reading: str = ""
    at_most: float | None = None
    at_least: float | None = None
    where: str = ""
    known: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return it as it is printed, ``ABSENT`` where it is not known."""
        if self.value is None:
            return ABSENT
        number = self.value if isinstance(self.value, str) else f"{self.value:,.10g}"
        unit = self.unit if self.unit in ("%", "x") else f" {self.unit}"
        return f"{self.reading} {number}{unit}".strip()

    @property
    def is_claim(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    def delta(self, ours: float) -> float | None:
        """Return how much more ours is; None beside a number that is not known."""
        return ours - self.value if isinstance(self.value, int | float) else None

    def holds(self, ours: float) -> bool | None:
        """Return whether a number is within the claim; None where the paper claims nothing."""
        if not self.is_claim:
            return None
        return (self.at_most is None or ours <= self.at_most) and (self.at_least is None or ours >= self.at_least)


def read_paper(folder: Path = PAPER) -> dict[str, PaperNumber]:
    """Return the numbers of all files of a folder, by their keys.

    Raises:
        ValueError: if two have the same key, one has a field that is unknown, or a value and no source; the message names it.
    """
    numbers: dict[str, PaperNumber] = {}
    for path in sorted(folder.glob("*.yaml")):
        file = OmegaConf.to_container(OmegaConf.load(path))
        shared = {name: file[name] for name in ("where", "known") if name in file}
        for key, entry in file["numbers"].items():
            if key in numbers:
                raise UserError(f"{path}: {key} is there twice")
            numbers[key] = _number(key, shared | entry, path)
    return numbers


def _number(key: str, entry: Mapping[str, Any], path: Path) -> PaperNumber:
    known = {field.name for field in fields(PaperNumber)}
    if unknown := entry.keys() - known:
        raise UserError(f"{path}: {key} has {', '.join(sorted(unknown))}, expected of {', '.join(sorted(known - {'key'}))}")
    number = PaperNumber(**{**entry, "key": key, "known": tuple(entry.get("known", ()))})
    if number.value is not None and not (number.where and number.known):
        raise UserError(f"{path}: {key} has a value, and so it needs where and known")
    if stray := set(number.known) - MARKS.keys():
        raise UserError(f"{path}: {key} is known by {', '.join(sorted(stray))}, expected of {', '.join(MARKS)}")
    return number


def paper_grid(numbers: Mapping[str, PaperNumber]) -> Grid:
    """Return a table of the paper's numbers, each with its source."""
    heads = [Head("what"), Head("the paper's", right=True), Head("where it stands"), Head("how it is known"), Head("key")]
    return Grid(
        heads,
        [
            [n.says, n.text, n.where or ABSENT, ", ".join(MARKS[mark] for mark in n.known) or "not known", f"`{n.key}`"]
            for n in numbers.values()
        ],
    )
