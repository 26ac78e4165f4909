"""The entry of every command: Hydra composes the configuration, its values are checked, and errors of use take one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.setup.errors import errors_in_one_line
from experiments.setup.processes import require_alone
from experiments.setup.values import check_values
from rapid_inr.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def main(verb: str, task: Callable[[DictConfig], None]) -> None:
    """Run `task` with the configuration of `verb` and the command line's overrides.

    An error of use ends the program with one line on stderr and exit code 2; anything else is a bug and shows its traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises, and this place alone words the message

    def job(cfg: DictConfig) -> None:
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        # in here, or Hydra adds a line of its own; a multirun is Hydra's to go on with, and that line says which job it was
        with nullcontext() if multirun else errors_in_one_line():
            require_alone(verb, several_jobs=multirun)
            check_values(cfg)
            task(cfg)

    with errors_in_one_line():
        offer_inr_shapes(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=verb)(job)()


def compose_command(verb: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of a command as its command line would make it, inside of another command.

    Raises:
        ValueError: at a value of the wrong type.
        HydraException: at an override that the command does not have.
    """
    if verb == "common" or not (CONFIGS / f"{verb}.yaml").is_file():
        raise UserError(f"verb is {verb!r}, expected a command with a file in configs")
    offer_inr_shapes(overrides)
    cfg = compose(verb, overrides=list(overrides))
    check_values(cfg)
    return cfg


def offer_inr_shapes(arguments: Sequence[str]) -> None:
    """Let ``inr=DEPTHxWIDTH`` name any shape, not only those with a file in configs/inr."""
    for argument in arguments:
        for choice in argument.removeprefix("inr=").split(",") if argument.startswith("inr=") else ():
            if (CONFIGS / "inr" / f"{choice}.yaml").exists():
                continue
            shape = re.fullmatch(r"(\d+)x(\d+)", choice)
            if shape is None:
                raise UserError(f"inr is {choice!r}, expected DEPTHxWIDTH, for instance 3x16")
            node = {"depth": int(shape[1]), "hidden": int(shape[2]), "omega": None}
            ConfigStore.instance().store(group="inr", name=choice, node=node)
