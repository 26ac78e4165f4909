"""What to try next, from what was tried: by Optuna's Gaussian process, with the expected improvement within the limits.

A search has tens of trials, of minutes each, and a few axes: what a Gaussian process is for. The estimator that Optuna takes by
default (Parzen windows) wants hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from experiments.search_space import Choices, Options, Range, Search
from rapid_inr.errors import UserError

OLDEST = 5  # version of Optuna
STALE = 10  # proposals without anything new after which chance proposes
PATIENCE = 2000  # proposals, after which the space counts as exhausted

History = Sequence[tuple[Choices, Mapping[str, float] | None]]  # choices and their metrics, None where these could not be had


class OptunaMissing(UserError):
    """Optuna is not installed, or too old; the message says how to get it."""


def propose(search: Search, history: History, n: int, *, seed: int) -> list[dict[str, str]]:
    """Return choices to try next that were not tried, `n` or as many as there are.

    They follow from the arguments alone, so that a search which was interrupted goes on as it would have.

    Raises:
        OptunaMissing: if Optuna is not installed.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {axis: _distribution(optuna.distributions, kind) for axis, kind in search.space.items()}
    seed = int(np.random.SeedSequence((seed, len(history))).generate_state(1)[0])
    sampler = optuna.samplers.GPSampler(seed=seed)
    study = optuna.create_study(directions=list(search.goals.values()), sampler=sampler)
    for choices, values in history:
        if values is not None:
            study.add_trial(
                optuna.trial.create_trial(
                    params={axis: _value(search.space[axis], text) for axis, text in choices.items()}, distributions=space,
                    values=[values[metric] for metric in search.goals],
                    constraints={limit.metric: limit.excess(values[limit.metric]) for limit in search.limits},
                )
            )  # fmt: skip
    tried, found = [dict(choices) for choices, _ in history], []
    with one_thread():
        for i in range(PATIENCE):
            if len(found) == n:
                break
            if i == STALE + n:
                study.sampler = optuna.samplers.RandomSampler(seed=seed)
            asked = study.ask(space).params
            choices = {axis: _text(search.space[axis], asked[axis]) for axis in search.space}
            if choices not in tried:
                tried.append(choices)
                found.append(choices)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the matrices of a Gaussian process of tens of trials are small, and the others have work to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        found = "none"
    else:
        found = optuna.__version__
        if int(found.split(".")[0]) >= OLDEST:
            return optuna
    raise OptunaMissing(f"search=... needs Optuna {OLDEST}, there is {found}: pip install 'optuna>={OLDEST}'")


def _distribution(distributions: Any, kind: Range | Options) -> Any:
    if isinstance(kind, Options):
        return distributions.CategoricalDistribution(list(kind.overrides))
    if kind.whole:
        return distributions.IntDistribution(kind.low, kind.high, log=kind.log, step=kind.step or 1)
    return distributions.FloatDistribution(kind.low, kind.high, log=kind.log, step=kind.step)


def _value(kind: Range | Options, text: str) -> int | float | str:
    return text if isinstance(kind, Options) else kind.number(text)


def _text(kind: Range | Options, value: Any) -> str:
    return value if isinstance(kind, Options) else kind.text(value)
