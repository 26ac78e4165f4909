"""`python -m experiments.search`: search the best values of some keys with Optuna; every trial is an ordinary run.

The study's journal is all of the state: a search continues where it stopped, and two processes can share its trials. A Gaussian
process proposes them; it suits tens of trials of a few keys, while Optuna's default, Parzen windows, needs hundreds.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.reporting.search_table import excess, metrics_of, read_search, search_table, title_of
from experiments.setup.choices import choices_of
from experiments.setup.cli import compose_command, main
from experiments.setup.errors import is_bug, optional
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.runlog.liveness import lives, this_process
from rapid_inr.runlog.run import write_json

COUNTED = ("COMPLETE", "FAIL", "RUNNING")  # PRUNED: proposed twice, or its process was killed
HOPELESS = 3  # if the first trials all fail, the search ends
PATIENCE = 200  # if so many proposals were tried already, the space is exhausted


def run_search(cfg: DictConfig) -> None:
    optuna, folder = load_optuna(), Path(cfg.run_dir)
    space, search = space_of(cfg), read_config(cfg)
    example = {key: domain.choices[0] if hasattr(domain, "choices") else domain.low for key, domain in space.items()}
    compose_command(cfg.command, overrides_of(search, example, folder, number=0))  # refuses wrong values before any work
    require_same_search(search, folder)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    directions = list(search["goals"].values())
    study = optuna.create_study(study_name=search["name"], storage=storage, directions=directions, load_if_exists=True)
    requeue_killed(study, folder)
    while (trial := next_trial(study, space, n_trials=cfg.trials, seed=cfg.seed)) is not None:
        run_trial(study, trial, search, folder)
    conclude(study, folder)


def load_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("experiments.search needs Optuna: pip install 'optuna>=5'") from None
    if int(optuna.__version__.split(".")[0]) < 5:
        raise UserError(f"experiments.search needs Optuna 5, there is {optuna.__version__}: pip install 'optuna>=5'")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


def read_config(cfg: DictConfig) -> dict[str, Any]:
    """Return everything that decides the trials; ``search.json`` keeps it."""
    if not cfg.goals or not set(cfg.goals.values()) <= {"maximize", "minimize"}:
        raise UserError(f"goals is {cfg.goals}, expected METRIC: maximize or METRIC: minimize")
    if cfg.trials < 1:
        raise UserError(f"trials is {cfg.trials}, expected at least 1")
    for metric, limit in (cfg.limits or {}).items():
        if not isinstance(limit, DictConfig) or set(limit) not in ({"at_most"}, {"at_least"}):
            raise UserError(f"limits.{metric} is {limit}, expected {{at_most: NUMBER}} or {{at_least: NUMBER}}")
    values = {key: OmegaConf.to_container(cfg[key] or OmegaConf.create()) for key in ("overrides", "space", "goals", "limits")}
    how = {"device": cfg.device, "track": cfg.track.mode}
    return {"name": cfg.experiment_name, "preset": cfg.preset, "command": cfg.command, "seed": cfg.seed, **values, "how": how}


def space_of(cfg: DictConfig) -> dict[str, Any]:
    """Return Optuna's distribution of each key."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not cfg.space:
        raise UserError(f"search=NAME/PRESET is required, one of: {', '.join(choices_of('search', 'search'))}")
    space: dict[str, Any] = {}
    for key, values in OmegaConf.to_container(cfg.space).items():
        try:
            if isinstance(values, list):
                space[key] = CategoricalDistribution(values)
            else:
                whole = all(isinstance(values.get(end, 1), int) for end in ("low", "high", "step"))
                space[key] = (IntDistribution if whole else FloatDistribution)(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"space.{key} is {values}, expected {{low, high, step, log}} or a list of choices: {error}") from None
    return space


def require_same_search(search: Mapping[str, Any], folder: Path) -> None:
    """Write ``search.json``, or refuse a folder of another search."""
    if not (folder / "search.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "search.json", search)
        return
    before = read_search(folder)
    different = [key for key in search if key != "how" and before.get(key) != search[key]]
    if different:
        raise UserError(f"{folder} holds a search with other {', '.join(different)}; folder=... names another")


def requeue_killed(study: Any, folder: Path) -> None:
    """Queue the choices of a trial again if its process was killed."""
    for trial in study.get_trials():
        if trial.state.name == "RUNNING":
            record = folder / f"{trial.number:03d}" / "record.json"
            touched = record.stat().st_mtime if record.is_file() else trial.datetime_start.timestamp()
            if not lives(trial.user_attrs.get("process", {}), touched=touched):
                study.tell(trial.number, state=load_optuna().trial.TrialState.PRUNED)
                study.enqueue_trial(trial.params)


def next_trial(study: Any, space: Mapping[str, Any], *, n_trials: int, seed: int) -> Any:
    """Return a trial of new choices; None after enough trials, without new choices, or if all trials fail."""
    optuna = load_optuna()
    for attempt in range(PATIENCE):
        trials = study.get_trials(deepcopy=False)
        counted = [trial for trial in trials if trial.state.name in COUNTED]
        if len(counted) >= n_trials or is_hopeless(counted):
            return None
        # a seed for each trial, or every process and every restart would draw the same choices
        seed_of_trial = int(np.random.SeedSequence((seed, len(trials))).generate_state(1)[0])
        study.sampler = (optuna.samplers.RandomSampler if attempt else optuna.samplers.GPSampler)(seed=seed_of_trial)
        trial = study.ask(space)
        earlier = [other for other in study.get_trials(deepcopy=False)[: trial.number] if other.state.name in COUNTED]
        if len(earlier) < n_trials and all(other.params != trial.params for other in earlier):
            return trial
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return None


def is_hopeless(counted: list[Any]) -> bool:
    return len(counted) >= HOPELESS and all(trial.state.name == "FAIL" for trial in counted)


def overrides_of(search: Mapping[str, Any], choices: Mapping[str, Any], folder: Path, *, number: int) -> list[str]:
    """Return the overrides of a trial: those of every trial, its choices, and its names for tables."""
    shown = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in choices.items()}
    labels = ", ".join(f"{key.rpartition('.')[2]}: {value}" for key, value in {"trial": number, **shown}.items())
    run_dir = str(folder / f"{number:03d}")
    values = search["overrides"] | shown | search["how"] | {"folder": folder, "run_dir": run_dir, "overwrite": True}
    values |= {"experiment_name": search["name"], "preset": search["preset"], "++labels": f"{{{labels}}}"}
    texts = {key: "null" if value is None else str(value).replace("{run_dir}", run_dir) for key, value in values.items()}
    return [f"{key}={text}" for key, text in texts.items()]


def run_trial(study: Any, trial: Any, search: Mapping[str, Any], folder: Path) -> None:
    """Run a trial and tell the study its result. A failed trial is told too, and the others still run."""
    run_dir = folder / f"{trial.number:03d}"
    told = f"trial {trial.number} ({', '.join(f'{key}={value}' for key, value in trial.params.items())})"
    trial.set_user_attr("process", this_process())
    try:
        run_command(search["command"], overrides_of(search, trial.params, folder, number=trial.number))
        metrics = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))["metrics"]
        lacking = [metric for metric in metrics_of(search) if metrics.get(metric) is None]
        if lacking:
            raise UserError(f"the record has no {', '.join(lacking)}; it has {', '.join(metrics)}")
    except Exception as error:  # of any kind: it is recorded, and the other trials still run
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=load_optuna().trial.TrialState.FAIL)
        print(f"{told} failed: {error}", file=sys.stderr)
        if is_bug(error):
            traceback.print_exc()
        return
    for metric, limit in search["limits"].items():
        trial.set_constraint(metric, excess(limit, metrics[metric]))
    study.tell(trial, [metrics[goal] for goal in search["goals"]])
    print(f"{told}: {', '.join(f'{metric} {metrics[metric]:.4g}' for metric in metrics_of(search))}", flush=True)


def run_command(command: str, overrides: list[str]) -> None:
    """Run another command in this process, with its own command line in its record."""
    task = getattr(importlib.import_module(f"experiments.{command}"), f"run_{command}")
    cfg, hydra = compose_command(command, overrides), HydraConfig.instance()
    before = hydra.cfg
    hydra.cfg = before.copy()
    OmegaConf.set_readonly(hydra.cfg.hydra, False)
    hydra.cfg.hydra.job.config_name, hydra.cfg.hydra.overrides.task = command, overrides
    try:
        task(cfg)
    finally:
        hydra.cfg = before


def conclude(study: Any, folder: Path) -> None:
    """Print the best trials, draw all trials, and name those that failed.

    Raises:
        UserError: if all did.
    """
    trials = [trial for trial in study.get_trials() if trial.state.name in COUNTED]
    failed = [f"{trial.number} ({trial.user_attrs['error']})" for trial in trials if trial.state.name == "FAIL"]
    if len(failed) == len(trials):
        raise UserError(f"all {len(trials)} trials failed: {', '.join(failed)}")
    caption, table = search_table(folder)
    print(f"{caption}\n\n{table.to_string(index=False)}\n\nin {folder}")
    if failed:
        print(f"warning [trials_failed]: {', '.join(failed)}", file=sys.stderr)
    if "best" not in set(table["result"]):
        print("warning [beyond_limits]: no trial keeps the limits", file=sys.stderr)
    with optional("picture"):
        draw(study, folder / "search.png")


def draw(study: Any, path: Path) -> None:
    """Draw the goal over the trials, or of several the Pareto front."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    search = read_search(path.parent)
    goals = list(search["goals"])
    with matplotlib.rc_context(), atomic(path) as temporary:  # Optuna changes the style
        if len(goals) == 1:
            axes = plots.plot_optimization_history(study, target_name=goals[0])
        else:
            axes = plots.plot_pareto_front(study, target_names=goals)
        axes.set_title(title_of(search), fontsize=11)
        axes.figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(axes.figure)


if __name__ == "__main__":
    main("search", run_search)
