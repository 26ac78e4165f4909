"""Run a command: Hydra composes its configuration, and its values are checked before any work."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import end_at_once
from experiments.setup.build import build
from experiments.setup.choices import CONFIGS
from experiments.setup.command_line import (
    explained,
    is_multirun,
    offer_inr_shapes,
    require_experiment_of,
    require_known,
    require_read,
    with_quoted_paths,
)
from experiments.setup.config_store import register, unknown_keys
from experiments.setup.distributed import end_with_torchrun, require_alone
from experiments.setup.errors import errors_in_one_line
from experiments.setup.help import help_text
from experiments.setup.run_folder import experiment_of, folder_of, run_name
from experiments.setup.streams import secure_streams
from experiments.setup.sweep import report_failures, require_choices, run_job, run_once
from rapid_inr.errors import UserError


def times(factor: float, number: int) -> int:
    """Return a multiple of a number, for a value that a configuration ties to another."""
    return round(factor * number)


for resolver in (experiment_of, folder_of, run_name, times):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def main(verb: str, task: Callable[[DictConfig], None]) -> None:
    """Run `task` with the configuration of `verb` and the command line's overrides.

    A user error ends the program with one line on stderr and exit code 2; a bug shows its traceback. With ``-m`` each job
    records its own failure, and the program ends with their list and exit code 1.
    """
    secure_streams()
    end_with_torchrun()
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on, the work handles Ctrl-C
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors, and they are worded here

    def typed() -> Sequence[str]:
        return HydraConfig.get().overrides.task

    def job(cfg: DictConfig) -> None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            run_job(cfg, verb, lambda cfg: _checked(cfg, verb, typed()), task)
            return
        with errors_in_one_line():  # inside the job, or Hydra adds a line
            require_alone(verb, multirun=False)
            require_choices()
            run_once(_checked(cfg, verb, typed()), task)

    with errors_in_one_line():
        sys.argv[1:] = with_quoted_paths(sys.argv[1:])
        require_alone(verb, multirun=is_multirun(sys.argv[1:]))
        require_experiment_of(verb, sys.argv[1:])
        offer_inr_shapes(sys.argv[1:])
        try:
            if {"-h", "--help"} & set(sys.argv):  # Hydra's own takes ten seconds to list groups of all packages
                print(help_text(verb, [argument for argument in sys.argv[1:] if "=" in argument]))
                return
            register(verb)
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=verb)(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise explained(error, verb) from error
        finally:
            failed = report_failures()
    if failed:
        sys.exit(1)


def compose_command(verb: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration that a command line gives a command, for use inside another command.

    Raises:
        UserError: at an unknown key or a wrong value.
    """
    if verb == "common" or not (CONFIGS / f"{verb}.yaml").is_file():
        raise UserError(f"verb is {verb!r}, expected a command with a file in configs")
    register(verb)
    offer_inr_shapes(overrides)
    try:
        return _checked(compose(verb, overrides=with_quoted_paths(overrides)), verb, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error, verb) from error


def _checked(cfg: DictConfig, verb: str, overrides: Sequence[str]) -> DictConfig:
    """Check the keys and ranges of a configuration, and return it. Required values may still be missing."""
    require_known(cfg, verb, list(unknown_keys(cfg)))
    for key in cfg:
        group = None if OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key) else cfg[key]
        if isinstance(group, DictConfig) and OmegaConf.get_type(group) is not dict and not OmegaConf.missing_keys(group):
            build(group)
    kind = OmegaConf.get_type(cfg)
    if kind is not dict:
        kind(**{key: value for key, value in OmegaConf.to_container(cfg).items() if key in kind.__dataclass_fields__})
    require_read(cfg, overrides)
    return cfg
