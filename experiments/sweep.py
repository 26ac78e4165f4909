"""`python -m experiments.sweep`: run the points of an experiment that are not finished by any launcher.

A command, and no Hydra sweeper: Hydra takes a sweeper only from an installed package `hydra_plugins`, and gives it combinations
of overrides of one command, where points are different commands, of which some wait for others. Its launchers serve both alike.
"""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.launching import open_launcher, run_levels
from experiments.planning import plan_sweep
from experiments.points import levels
from experiments.setup.cli import compose_command, main
from experiments.setup.errors import PointsNotFinished


def run_sweep(cfg: DictConfig) -> None:
    sweep = plan_sweep(cfg)
    levels(sweep.points)  # like the next line for what it may refuse, before any work
    for point in sweep.points:
        compose_command(point.verb, sweep.command(point))
    status = {point.name: sweep.status(point) for point in sweep.points}
    if cfg.list:
        print("\n".join(f"{status[point.name]:10s} {point.name:40s} {point.verb}" for point in sweep.points))
        return
    if cfg.overwrite:
        status = dict.fromkeys(status, "missing")
    n_run = run_levels(sweep, open_launcher(cfg), status)
    print(f"{n_run} points run now, {list(status.values()).count('finished')} of {len(status)} finished, in {sweep.folder}")
    left = [f"{name} ({state})" for name, state in status.items() if state != "finished"]
    if left:
        raise PointsNotFinished(f"{len(left)} of {len(status)} points are not finished, their records say why: {', '.join(left)}")


if __name__ == "__main__":
    main("sweep", run_sweep)
