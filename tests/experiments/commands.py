"""Commands and small settings that the tests of several files share."""

import importlib
from collections.abc import Callable


def task_of(verb: str) -> Callable:
    """Return what a command runs, imported when it is needed."""
    return getattr(importlib.import_module(f"experiments.{verb}"), f"run_{verb}")


SMOKE = ("debug=smoke", "track=off")
SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=9", "dataset.test_count=9")
TINY = (*SHAPES, "inr=2x8", *SMOKE)
