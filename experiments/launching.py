"""Run points as jobs of any of Hydra's launchers, those that read from others after these."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from experiments.planning import Sweep
from experiments.point_job import run_point
from experiments.points import Point, levels, quoted
from rapid_inr.runlog.run import write_json

DONE_OR_UNDER_WAY = ("finished", "running")  # the one by a sweep before, the other by one that still runs
CUT_SHORT = ("missing", "dead", "running", "running?")  # of what was launched; of one elsewhere it takes a while to say dead


def open_launcher(cfg: DictConfig) -> Launcher:
    """Return the launcher that ``hydra/launcher`` names, whose jobs are points."""
    from hydra._internal.callbacks import Callbacks  # what a launcher wants to be given has no public name

    whole = OmegaConf.merge(HydraConfig.instance().cfg, cfg)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(whole))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_point, config=whole)


def run_levels(sweep: Sweep, launcher: Launcher, status: dict[str, str], *, n_before: int = 0) -> int:
    """Run the points that are not finished, or read from one that is run now, level by level; return how many those were.

    Args:
        status: of every point, before; it follows.
        n_before: jobs that the launcher has had already, by which it numbers them.
    """
    n_run, made_anew = 0, set()
    for level in levels(sweep.points):
        due = [
            point
            for point in level
            if status[point.name] not in DONE_OR_UNDER_WAY or (status[point.name] == "finished" and made_anew & {*point.needs})
        ]
        made_anew |= {point.name for point in due}
        ready = [point for point in due if all(status[other] == "finished" for other in point.needs)]
        status |= {point.name: "blocked" for point in due if point not in ready}
        if ready:
            _run_level(sweep, launcher, ready, status, n_before=n_before + n_run)
            n_run += len(ready)
        write_json(sweep.folder / "sweep.json", {"points": status})
    return n_run


def _run_level(sweep: Sweep, launcher: Launcher, points: Sequence[Point], status: dict[str, str], *, n_before: int) -> None:
    """Run points that wait for no other.

    A worker that is killed may take those beside it along, so what has not come to an end is launched again as long as some do.
    """
    for point in points:
        (sweep.folder / point.name / "record.json").unlink(missing_ok=True)  # of an attempt before this one
    while points:
        sound = _launch(launcher, points, n_before=n_before)
        status |= {point.name: sweep.status(point) for point in points}
        left = [point for point in points if status[point.name] in CUT_SHORT]
        points = [] if sound or len(left) == len(points) else left


def _launch(launcher: Launcher, points: Sequence[Point], *, n_before: int) -> bool:
    """Run points as jobs, each with the command line of the sweep and what names its point; return whether none was killed."""
    overrides = list(HydraConfig.get().overrides.task)
    jobs = [[*overrides, *point.found_by, f"point={quoted(point.name)}"] for point in points]
    try:
        launcher.launch(jobs, initial_job_idx=n_before)
    except Exception as error:  # of a worker that was killed: what its point and the others have come to, their records say
        print(f"warning [launcher]: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True
