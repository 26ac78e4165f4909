"""Search for the best choices: propose, run, look at the records, and propose again.

The folder alone is the state: choices in ``search.json``, what has become of them in the records of the points. So a search that
was interrupted, or is to have more trials, goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from experiments.cli import compose_command
from experiments.errors import PointsNotFinished
from experiments.launching import open_launcher, run_levels
from experiments.planning import search_of, sweep_of
from experiments.proposals import propose
from experiments.search_space import Choices, Options, Search
from experiments.search_tables import draw_search
from experiments.trials import (
    Trial,
    best,
    ranked,
    read_choices,
    read_trials,
    trials_grid,
    trials_rows,
    write_choices,
)
from rapid_inr.compare.render import as_aligned
from rapid_inr.tracking import write_csv

SHOWN = 10  # trials that are printed in the end
HOPELESS = 3  # trials without any result after which there are no more


def run_search(cfg: DictConfig) -> None:
    if cfg.only is not None:
        raise ValueError("only=... picks points of an experiment, a search has none to pick from")
    if cfg.at_once < 1:
        raise ValueError(f"at_once is {cfg.at_once}, expected at least 1")
    search, folder = search_of(cfg), Path(cfg.run_dir)
    tried = [] if cfg.overwrite else read_choices(search, folder)
    if cfg.list:
        print(as_aligned(trials_grid(search, read_trials(search, folder, tried))))
        return
    rehearse(cfg, search)
    launcher, status, n_run = open_launcher(cfg), {}, 0
    fresh: Sequence[Choices] = tried  # of an attempt before: what of them is not finished runs first
    while True:
        points = {point.name: point for choices in fresh for point in search.points(choices) if point.name not in status}
        sweep = sweep_of(list(points.values()), cfg)
        status |= {name: "missing" if cfg.overwrite else sweep.status(point) for name, point in points.items()}
        n_run += run_levels(sweep, launcher, status, n_before=n_run)
        trials = read_trials(search, folder, tried)
        for trial in trials[len(trials) - len(fresh) :]:
            tell(search, trial)
        fresh = next_choices(search, trials, at_once=cfg.at_once, seed=cfg.seed)
        if not fresh:
            break
        tried = [*tried, *fresh]
        write_choices(search, folder, tried, scale=cfg.scale)
    conclude(search, trials, folder, n_run=n_run)


def next_choices(search: Search, trials: Sequence[Trial], *, at_once: int, seed: int) -> list[dict[str, str]]:
    """Return what to try next; nothing where the trials are done, the space has no more, or nothing works."""
    if len(trials) >= max(HOPELESS, at_once) and all(trial.values is None for trial in trials):
        return []
    left = search.trials - len(trials)
    history = [(trial.choices, trial.values) for trial in trials]
    return propose(search, history, min(left, at_once), seed=seed) if left > 0 else []


def rehearse(cfg: DictConfig, search: Search) -> None:
    """Compose commands with every option and both ends of every range, for what they may refuse, before any work."""
    first = propose(search, [], 1, seed=cfg.seed)[0]
    for axis, kind in search.space.items():
        for text in kind.overrides if isinstance(kind, Options) else map(kind.text, (kind.low, kind.high)):
            sweep = sweep_of(search.points({**first, axis: text}), cfg)
            for point in sweep.points:
                compose_command(point.verb, sweep.command(point))


def tell(search: Search, trial: Trial) -> None:
    values = ", ".join(f"{metric} {value:.4g}" for metric, value in (trial.values or {}).items()) or "failed"
    print(f"trial {trial.number} of {search.trials}: {trial.told}: {values}", flush=True)


def conclude(search: Search, trials: Sequence[Trial], folder: Path, *, n_run: int) -> None:
    """Write ``search.csv`` and ``search.png``, and say what the search has come to.

    Raises:
        PointsNotFinished: if that is nothing.
    """
    finished = [trial for trial in trials if trial.values is not None]
    print(f"{n_run} points run now, {len(finished)} of {len(trials)} trials finished, in {folder}")
    if not finished:
        raise PointsNotFinished(f"none of {len(trials)} trials has {' and '.join(search.metrics)}, their records say why")
    write_csv(folder / "search.csv", trials_rows(search, trials))
    try:
        draw_search(search, trials, folder / "search.png")
    except ImportError as error:
        print(f"warning [no_picture]: {error}", file=sys.stderr)
    print(as_aligned(trials_grid(search, ranked(search, trials)[:SHOWN])))
    if not best(search, trials):
        print(f"warning [beyond_limits]: no trial has {', '.join(map(str, search.limits))}", file=sys.stderr)
