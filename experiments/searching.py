"""Search for the best choices: propose, run, look at the records, and propose again.

The folder alone is the state: choices in ``search.json``, what has become of them in the records of the points. So a search that
was interrupted, or is to have more trials, goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from experiments.launching import open_launcher, run_levels
from experiments.planning import search_of, sweep_of
from experiments.points import Point
from experiments.proposals import propose
from experiments.reporting.comparing.render import as_aligned
from experiments.search_folder import forget, held, read_choices, read_trials, write_choices
from experiments.search_space import Choices, Search
from experiments.search_tables import draw_search
from experiments.setup.cli import compose_command
from experiments.setup.errors import PointsNotFinished
from experiments.trials import Trial, best, ranked, trials_grid, trials_rows
from rapid_inr.errors import UserError
from rapid_inr.runlog.run import write_csv

SHOWN = 10  # trials that are printed in the end
HOPELESS = 3  # trials without any result after which there are no more


def run_search(cfg: DictConfig) -> None:
    if cfg.only is not None:
        raise UserError("only=... picks points of an experiment, a search has none to pick from")
    if cfg.at_once < 1:
        raise UserError(f"at_once is {cfg.at_once}, expected at least 1")
    search, folder = search_of(cfg), Path(cfg.run_dir)
    tried = [] if cfg.overwrite else read_choices(search, folder)
    if cfg.list:
        print(as_aligned(trials_grid(search, read_trials(search, folder, tried, status=sweep_of([], cfg).status))))
        return
    rehearse(cfg, search)
    with held(folder):
        if cfg.overwrite:
            forget(folder)
        go_on(cfg, search, folder, tried)


def go_on(cfg: DictConfig, search: Search, folder: Path, tried: Sequence[Choices]) -> None:
    """Run what of the trials is not finished, then more of them, as many as were asked for, and say what they have come to."""
    launcher, n_run = open_launcher(cfg), 0
    points: dict[str, Point] = {}
    status: dict[str, str] = {}

    def found(point: Point) -> str:
        return status[point.name]

    fresh = tried
    while True:
        write_choices(search, folder, tried, scale=cfg.scale)
        more = points_of(search, fresh, points, first=len(tried) - len(fresh) + 1)
        sweep = sweep_of(more, cfg)
        points |= {point.name: point for point in more}
        status |= {point.name: sweep.status(point) for point in more}
        n_run += run_levels(sweep, launcher, status, n_before=n_run)
        trials = read_trials(search, folder, tried, status=found)
        for trial in trials[len(trials) - len(fresh) :]:
            tell(search, trial, of=max(search.trials, len(trials)))
        fresh = next_choices(search, trials, at_once=cfg.at_once, seed=cfg.seed)
        if not fresh:
            break
        tried = [*tried, *fresh]
    conclude(search, trials, folder, n_run=n_run)


def points_of(search: Search, fresh: Sequence[Choices], known: Mapping[str, Point], *, first: int) -> list[Point]:
    """Return the points of trials, numbered from `first`, that are not known yet.

    Raises:
        ValueError: if one has the name of a known one that is another command.
    """
    found: dict[str, Point] = {}
    for number, choices in enumerate(fresh, first):
        for point in search.points(choices, number=number):
            require_same(point, (known | found).get(point.name))
            if point.name not in known:
                found.setdefault(point.name, point)
    return list(found.values())


def require_same(point: Point, other: Point | None) -> None:
    """Refuse two points of one name that are different commands."""
    if other is not None and (point.verb, point.overrides) != (other.verb, other.overrides):
        raise UserError(f"two choices make a point {point.name}; give points.{point.group} a name with all of its axes in it")


def next_choices(search: Search, trials: Sequence[Trial], *, at_once: int, seed: int) -> list[dict[str, str]]:
    """Return what to try next; nothing where the trials are done, the space has no more, or nothing works."""
    if is_hopeless(trials, at_once=at_once):
        return []
    left = search.trials - len(trials)
    history = [(trial.choices, trial.values) for trial in trials]
    return propose(search, history, min(left, at_once), seed=seed) if left > 0 else []


def is_hopeless(trials: Sequence[Trial], *, at_once: int = 1) -> bool:
    return len(trials) >= max(HOPELESS, at_once) and all(trial.values is None for trial in trials)


def rehearse(cfg: DictConfig, search: Search) -> None:
    """Compose commands with every option and both ends of every range, for what they may refuse, before any work.

    Raises:
        ValueError: if a trial has no point to be judged by, an axis changes none, or two of its choices make points of one name.
    """
    first = propose(search, [], 1, seed=cfg.seed)[0]
    known = {point.name: point for point in search.points(first)}
    if not any(point.group == search.judge for point in known.values()):
        raise UserError(f"judge is {search.judge}, of which a trial has no point at scale {cfg.scale}")
    for axis, kind in search.space.items():
        for text in kind.labels:
            sweep = sweep_of(search.points({**first, axis: text}), cfg)
            for point in sweep.points:
                require_same(point, known.get(point.name))
                compose_command(point.verb, sweep.command(point))
            if text != first[axis] and {point.name for point in sweep.points} == known.keys():
                raise UserError(f"no point goes over {axis}, which is in the space")


def tell(search: Search, trial: Trial, *, of: int) -> None:
    values = ", ".join(f"{metric} {value:.4g}" for metric, value in (trial.values or {}).items()) or trial.status
    print(f"trial {trial.number} of {of}: {trial.told}: {values}", flush=True)


def conclude(search: Search, trials: Sequence[Trial], folder: Path, *, n_run: int) -> None:
    """Write ``search.csv`` and ``search.png``, and say what the search has come to.

    Raises:
        PointsNotFinished: if that is nothing.
    """
    finished = [trial for trial in trials if trial.values is not None]
    print(f"{n_run} points run now, {len(finished)} of {len(trials)} trials finished, in {folder}")
    write_csv(folder / "search.csv", trials_rows(search, trials))
    if not finished:
        states = ", ".join(dict.fromkeys(trial.status for trial in trials))
        raise PointsNotFinished(
            f"the first {len(trials)} of {search.trials} trials came to nothing ({states}), so there were no more; their records "
            "say why, and the same command goes on when it is mended"
        )
    try:
        draw_search(search, trials, folder / "search.png")
    except ImportError as error:
        print(f"warning [no_picture]: {error}", file=sys.stderr)
    print(as_aligned(trials_grid(search, ranked(search, trials)[:SHOWN])))
    if len(finished) < len(trials):
        states = ", ".join(f"{trial.number} ({trial.status})" for trial in trials if trial.values is None)
        print(f"warning [trials_without_result]: {states}; the same command runs them again", file=sys.stderr)
    if not best(search, trials):
        print(f"warning [beyond_limits]: no trial has {', '.join(map(str, search.limits))}", file=sys.stderr)
