"""The paper's numbers as data, and whether ours are within its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.reporting.cells import Gap, Link, Measured, number
from experiments.reporting.markdown import ABSENT

PAPER = Path(__file__).parent / "paper"
MARKS = {
    "abs": "the abstract",
    "sum": "a third party's summary of the paper",
    "code": "the authors' repository",
    "calc": "arithmetic on those",
}
VERDICTS = {True: "yes", False: "no", None: ABSENT}


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper; ``paper/claims.yaml`` explains the fields."""

    key: str
    says: str
    value: float | str | None
    unit: str = ""
    reading: str = ""
    at_most: float | None = None
    at_least: float | None = None
    where: str = ""
    known: Sequence[str] = ()

    @property
    def text(self) -> str:
        """Return the number for printing; ``ABSENT`` if it is unknown."""
        if self.value is None:
            return ABSENT
        value = self.value if isinstance(self.value, str) else f"{self.value:,.10g}"
        unit = self.unit if self.unit in ("%", "x") else f" {self.unit}"
        return f"{self.reading} {value}{unit}".strip()

    @property
    def is_claim(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    def delta(self, ours: float) -> float | None:
        """Return ours minus the paper's number; None if that is unknown."""
        return ours - self.value if isinstance(self.value, int | float) else None

    def holds(self, ours: float) -> bool | None:
        """Return whether a number is within the claim; None if the paper claims nothing."""
        if not self.is_claim:
            return None
        return (self.at_most is None or ours <= self.at_most) and (self.at_least is None or ours >= self.at_least)


def read_paper() -> dict[str, PaperNumber]:
    """Return the numbers in all files of the folder, by key."""
    numbers: dict[str, PaperNumber] = {}
    for path in sorted(PAPER.glob("*.yaml")):
        file = OmegaConf.to_container(OmegaConf.load(path))
        shared = {name: file[name] for name in ("where", "known") if name in file}
        numbers |= {key: PaperNumber(key, **shared | entry) for key, entry in file["numbers"].items()}
    return numbers


def paper_table(numbers: Mapping[str, PaperNumber]) -> pd.DataFrame:
    """Return a table of the paper's numbers, each with its source."""
    return pd.DataFrame(
        [
            {
                "what": n.says, "the paper's": n.text, "where it stands": n.where or ABSENT,
                "how it is known": ", ".join(MARKS[mark] for mark in n.known) or "not known", "key": n.key,
            }
            for n in numbers.values()
        ]
    )  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A number of the paper that a table measures: its key, our column, and the labels of the rows to compare.

    Args:
        not_at: presets that are too small to decide it.
    """

    key: str
    column: str
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    not_at: Sequence[str] = ()


@dataclass(frozen=True)
class ClaimRow:
    """A number of the paper beside ours in one row of a table."""

    number: PaperNumber
    column: str
    labels: Mapping[str, str]
    ours: Measured
    records: tuple[Link, ...]

    @property
    def within(self) -> bool | None:
        return self.number.holds(self.ours.mean)

    @property
    def verdict(self) -> str:
        """Return whether it is within the claim, and where its noise reaches the bound, that this is not sure."""
        bound = self.number.at_least if self.number.at_most is None else self.number.at_most
        unsure = isinstance(self.ours, Gap) and bound is not None and not self.ours.beyond(bound)
        return VERDICTS[self.within] + (", not surely" if unsure else "")

    def long(self) -> dict[str, Any]:
        """Return a row with one column for each label."""
        delta = self.number.delta(self.ours.mean)
        return {
            "claim": self.number.says, **self.labels, "paper": self.number.text,
            "ours ± spread (n)": f"{self.ours.text} ({self.ours.n})",
            "delta": None if delta is None else number(delta, self.ours.digits, sign="+"),
            "within the claim?": self.verdict, "records": self.records,
        }  # fmt: skip


def held_claims(claims: Sequence[Claim], rows: pd.DataFrame, paper: Mapping[str, PaperNumber], *, preset: str) -> list[ClaimRow]:
    """Return the paper's numbers beside ours, for each row with the claim's labels and a value in its column."""
    held = []
    for claim in claims:
        for row in rows.to_dict("records") if preset not in claim.not_at else ():
            if row.get(claim.column) is not None and all(row.get(label) in values for label, values in claim.where.items()):
                labels = {
                    name: value for name, value in row.items() if name != "n" and not isinstance(value, Measured | tuple | None)
                }
                held.append(ClaimRow(paper[claim.key], claim.column, labels, row[claim.column], row["records"]))
    return held
