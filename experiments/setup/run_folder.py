"""The folder of a run, and whether an output can be written, before any work."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.setup.build import build_device
from rapid_inr.runlog.run import Run


def start_run(cfg: DictConfig, verb: str) -> Run:
    """Open the folder of this run, with its resolved configuration and the command that repeats it.

    A job of a multirun has the folder `run_dir` with its number behind, since jobs may start in the same microsecond, and its
    command is that of the one job.
    """
    OmegaConf.resolve(cfg)
    hydra = HydraConfig.get()
    command = f"python -m experiments.{verb} {shlex.join(hydra.overrides.task)}".strip()
    several = hydra.mode == RunMode.MULTIRUN
    run_dir = f"{cfg.run_dir}-{hydra.job.num}" if several else cfg.run_dir
    run = Run(
        run_dir, verb=verb, config=OmegaConf.to_container(cfg), config_yaml=OmegaConf.to_yaml(cfg),
        command=command, track=cfg.track.mode, overwrite=cfg.overwrite,
        group=Path(cfg.run_dir).name if several else None,
    )  # fmt: skip
    run.metrics["device"] = build_device(cfg).type
    return run


def require_file_can_be_written(path: Path, *, overwrite: bool) -> None:
    """Make the folder of an output and try to write there.

    Raises:
        OSError: if the output cannot be written, or exists and `overwrite` is false.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file to write")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=true replaces it")
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is not a folder, so {path} cannot be written")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def require_folder_can_be_written(path: Path) -> None:
    """Do the same for an output that is a folder."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, expected the name of a folder to write into")
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
