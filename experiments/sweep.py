"""`python -m experiments.sweep`: run the points of an experiment that are not finished, by any of Hydra's launchers.

A command, and no Hydra sweeper: Hydra takes a sweeper only from an installed package `hydra_plugins`, and gives it combinations
of overrides of one command, where points are different commands, of which some wait for others. Its launchers serve both alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from experiments.cli import compose_command, main
from experiments.errors import PointsNotFinished
from experiments.planning import Sweep, plan_sweep
from experiments.point_job import run_point
from experiments.points import Point, levels, quoted
from rapid_inr.tracking import write_json


def open_launcher(cfg: DictConfig) -> Launcher:
    """Return the launcher that ``hydra/launcher`` names, whose jobs are points."""
    from hydra._internal.callbacks import Callbacks  # what a launcher wants to be given has no public name

    whole = OmegaConf.merge(HydraConfig.instance().cfg, cfg)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(whole))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_point, config=whole)


def launch(launcher: Launcher, points: Sequence[Point], *, n_before: int) -> bool:
    """Run points as jobs, each with the command line of the sweep and the name of its point; return whether none was killed."""
    overrides = list(HydraConfig.get().overrides.task)
    jobs = [[*overrides, f"point={quoted(point.name)}"] for point in points]
    try:
        launcher.launch(jobs, initial_job_idx=n_before)
    except Exception as error:  # of a worker that was killed: what its point and the others have come to, their records say
        print(f"warning [launcher]: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def run_level(sweep: Sweep, launcher: Launcher, points: Sequence[Point], status: dict[str, str], *, n_before: int) -> None:
    """Run points that wait for no other; `status` follows.

    A worker that is killed may take those beside it along, so what has not come to an end is launched again as long as some do.
    """
    for point in points:
        (sweep.folder / point.name / "record.json").unlink(missing_ok=True)  # of an attempt before this one
    while points:
        sound = launch(launcher, points, n_before=n_before)
        status |= {point.name: sweep.status(point) for point in points}
        left = [point for point in points if status[point.name] in ("missing", "running")]
        points = [] if sound or len(left) == len(points) else left


def run_levels(sweep: Sweep, launcher: Launcher, status: dict[str, str], *, again: bool) -> None:
    """Run what is not finished, or everything `again`, level by level; `status` follows."""
    n_before = 0
    for level in levels(sweep.points):
        due = [point for point in level if again or status[point.name] != "finished"]
        ready = [point for point in due if all(status[other] == "finished" for other in point.needs)]
        status |= {point.name: "blocked" for point in due if point not in ready}
        if ready:
            run_level(sweep, launcher, ready, status, n_before=n_before)
            n_before += len(ready)
        write_json(sweep.folder / "sweep.json", {"points": status})
    print(f"{n_before} points run now, {list(status.values()).count('finished')} of {len(status)} finished, in {sweep.folder}")


def run_sweep(cfg: DictConfig) -> None:
    sweep = plan_sweep(cfg)
    levels(sweep.points)  # like the next line for what it may refuse, before any work
    for point in sweep.points:
        compose_command(point.verb, sweep.command(point))
    status = {point.name: sweep.status(point) for point in sweep.points}
    if cfg.list:
        print("\n".join(f"{status[point.name]:10s} {point.name:40s} {point.verb}" for point in sweep.points))
        return
    run_levels(sweep, open_launcher(cfg), status, again=cfg.overwrite)
    left = [f"{name} ({state})" for name, state in status.items() if state != "finished"]
    if left:
        raise PointsNotFinished(f"{len(left)} of {len(status)} points are not finished, their records say why: {', '.join(left)}")


if __name__ == "__main__":
    main("sweep", run_sweep)
