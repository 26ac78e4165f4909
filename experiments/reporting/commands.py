"""The commands that repeat runs on record, as they are typed today."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from functools import cache
from typing import Any

import pandas as pd
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from experiments.setup.choices import CONFIGS
from experiments.setup.command_line import offer_inr_shapes
from experiments.setup.config_store import register
from rapid_inr.runlog.differences import flatten


def commands_of(experiment: str, preset: str, runs: pd.DataFrame) -> list[str]:
    """Return the commands that repeat some runs of an experiment at a preset.

    An experiment of configs/ without runs that were started with ``experiment=...`` is told as its files have it.
    """
    sweeps, commands = swept_commands(runs), []
    started = {word for command in sweeps for word in shlex.split(command)}
    for path in sorted((CONFIGS / "experiment").glob(f"*/{preset}.yaml")):
        base, choice = OmegaConf.load(path.with_name("paper.yaml")), f"experiment={path.parent.name}/{preset}"
        if base.get("experiment_name", path.parent.name) == experiment and choice not in started:
            commands.append(f"python -m experiments.{base.command} -m {choice}")
    return commands + sweeps


def swept_commands(runs: pd.DataFrame) -> list[str]:
    """Return the commands that repeat the runs that were started with ``experiment=...``.

    Runs of an experiment with the same keys are one sweep over all values on record, a user's own variants among them.
    """
    sweeps: dict[tuple[str, ...], dict[str, list[str]]] = {}  # by module, experiment and keys: the values of each key
    for command in runs.command.dropna():
        module, *words = shlex.split(command)[2:]
        words = [word for word in words if not word.startswith(("overwrite=", "track"))]
        pairs = [(f"{key}{sign}", value) for key, sign, value in (word.partition("=") for word in words)]
        experiment = dict(pairs).get("experiment=")
        if experiment is not None:
            pairs = _needed(module.removeprefix("experiments."), pairs)
            sweep = sweeps.setdefault((module, experiment, *sorted(key for key, _ in pairs)), {"experiment=": []})
            for key, value in pairs:
                sweep[key] = list(dict.fromkeys([*sweep.get(key, ()), value]))
    commands = []
    for (module, *_), sweep in sweeps.items():
        several = "-m " if any(len(values) > 1 for values in sweep.values()) else ""
        commands.append(f"python -m {module} {several}{shlex.join(key + ','.join(values) for key, values in sweep.items())}")
    return commands


def _needed(verb: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out the overrides that say what the experiment's preset and the run's variant say by now."""
    choices = tuple(key + value for key, value in pairs if (CONFIGS / key[:-1]).is_dir())
    if len(choices) + ("seed=" in dict(pairs)) == len(pairs):
        return pairs  # composing takes a second
    settings, varied = _chosen(verb, choices)
    return [
        (key, value) for key, value in pairs
        if key[:-1] in varied or key[:-1] not in settings or settings[key[:-1]] != yaml.safe_load(value)
    ]  # fmt: skip


@cache
def _chosen(verb: str, choices: tuple[str, ...]) -> tuple[dict[str, Any], set[str]]:
    """Return the settings that an experiment and other choices give, and the keys that it varies; nothing if one is gone."""
    register(verb)
    offer_inr_shapes(choices)
    inside = GlobalHydra.instance().is_initialized()
    try:
        with nullcontext() if inside else initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose(verb, list(choices), return_hydra_config=True)
    except MissingConfigException:
        return {}, set()
    return flatten(OmegaConf.to_container(cfg)), set(cfg.hydra.sweeper.params or ())
