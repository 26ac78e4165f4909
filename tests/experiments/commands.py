"""Commands and small settings that the tests of several files share."""

import sys
from collections.abc import Callable
from importlib import import_module

import pytest
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from experiments.setup.choices import CONFIGS
from experiments.setup.cli import compose_command, main


def task_of(verb: str) -> Callable:
    """Return what a command runs with its configuration."""
    return getattr(import_module(f"experiments.{verb}"), f"run_{verb}")


def run_here(patch: pytest.MonkeyPatch, verb: str, *overrides: str) -> int:
    """Run a command in this process, and return its exit code."""
    GlobalHydra.instance().clear()
    # Else Hydra composes every configuration twice, first to look for a hydra.mode, which no file here has.
    patch.setattr(Hydra, "get_mode", lambda self, config_name, overrides: None)
    patch.setattr(sys, "argv", [f"experiments.{verb}", *overrides])
    try:
        main(verb, task_of(verb))
    except SystemExit as stop:
        return stop.code
    return 0


def composed(verb: str, *overrides: str) -> DictConfig:
    """Return the configuration of a command."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose_command(verb, overrides)


SMOKE = ("debug=smoke", "track=off")
SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=9", "dataset.test_count=9")
TINY = (*SHAPES, "inr=2x8", *SMOKE)
SHARDED = (*TINY, "shard_images=2")  # of nine images: five shards
