"""What the commands share: Hydra's entry, errors in one line, and the folder of the run."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rapid_inr.data.download import DownloadFailed
from rapid_inr.data.source import CorruptImage, DatasetMissing
from rapid_inr.store.format import StoreFormatError
from rapid_inr.store.packed import StoreTooLarge
from rapid_inr.tracking import Run
from rapid_inr.train import TrainingDiverged

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
USE_ERRORS = (
    ValueError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
    DatasetMissing, DownloadFailed, CorruptImage, StoreFormatError, StoreTooLarge, TrainingDiverged,
    HydraException, OmegaConfBaseException,
)  # fmt: skip
TRACEBACK = "RAPID_INR_TRACEBACK"  # set to 1 to see where an error of use comes from


def main(verb: str, task: Callable[[DictConfig], None]) -> None:
    """Run `task` with the configuration of `verb` and the command line's overrides.

    An error of use ends the program with one line on stderr and exit code 2; anything else is a bug and shows its traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises, and this place alone words the message
    _offer_inr_shapes(sys.argv[1:])

    def job(cfg: DictConfig) -> None:
        with _errors_in_one_line():  # in here, or Hydra adds a line of its own
            task(cfg)

    with _errors_in_one_line():
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=verb)(job)()


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except USE_ERRORS as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _one_line(error: BaseException) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... is required; --help shows how"
    text = str(error) or type(error).__name__
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)


def _offer_inr_shapes(arguments: list[str]) -> None:
    """Let ``inr=DEPTHxWIDTH`` name any shape, not only those with a file in configs/inr."""
    for choice in re.findall(r"\b\d+x\d+\b", " ".join(a for a in arguments if a.startswith("inr="))):
        if not (CONFIGS / "inr" / f"{choice}.yaml").exists():
            depth, hidden = map(int, choice.split("x"))
            ConfigStore.instance().store(group="inr", name=choice, node={"depth": depth, "hidden": hidden, "omega": None})


def start_run(cfg: DictConfig, verb: str) -> Run:
    """Open the folder of this run, with its resolved configuration and the command that repeats it."""
    OmegaConf.resolve(cfg)
    command = f"python -m experiments.{verb} {shlex.join(sys.argv[1:])}".strip()
    return Run(
        cfg.run_dir, verb=verb, config=OmegaConf.to_container(cfg), config_yaml=OmegaConf.to_yaml(cfg),
        command=command, track=cfg.track.mode, overwrite=cfg.overwrite,
    )  # fmt: skip
