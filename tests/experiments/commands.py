"""Commands and small settings that the tests of several files share."""

from collections.abc import Callable
from importlib import import_module

from hydra import initialize_config_dir
from omegaconf import DictConfig

from experiments.setup.cli import CONFIGS, compose_command


def task_of(verb: str) -> Callable:
    """Return what a command runs with its configuration."""
    return getattr(import_module(f"experiments.{verb}"), f"run_{verb}")


def composed(verb: str, *overrides: str) -> DictConfig:
    """Return the configuration of a command."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose_command(verb, overrides)


SMOKE = ("debug=smoke", "track=off")
SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=9", "dataset.test_count=9")
TINY = (*SHAPES, "inr=2x8", *SMOKE)
