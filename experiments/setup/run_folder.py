"""The folder of a run: its name, whether it holds the run already, and whether an output can be written."""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from experiments.setup.build import build_device
from experiments.setup.config_store import schema
from experiments.setup.groups import unread_groups
from rapid_inr.data.export import LOCK
from rapid_inr.errors import UserError
from rapid_inr.runlog.differences import Difference, first_difference, flatten
from rapid_inr.runlog.records import read_json, status_of
from rapid_inr.runlog.run import Run
from rapid_inr.store.shards import shards_beside

# Keys that change no result: paths, tracking, and names for tables.
CHANGE_NOTHING = (
    "overwrite", "track", "folder", "run_dir", "stores_dir", "out", "dataset.root", "dataset.download", "experiment_name",
    "preset", "command", "labels", "resume", "baseline",
)  # fmt: skip
# Overrides that are left out of a run's name, as Hydra's own are.
NOT_IN_NAMES = ("experiment", "device", "track", "track.mode", "overwrite", "folder", "run_dir", "stores_dir", "dataset.root")
LONGEST_NAME = 120


def _hydra(root: DictConfig) -> DictConfig | None:
    """Return the ``hydra`` node, which Hydra removes from the configuration of a job; None outside Hydra."""
    if "hydra" in root:
        return root.hydra
    return None if HydraConfig.instance().cfg is None else HydraConfig.get()


def experiment_of(part: str, *, _root_: DictConfig) -> str | None:
    """Return the ``name`` or the ``preset`` in ``experiment=NAME/PRESET``, or None without an experiment."""
    hydra = _hydra(_root_)
    choice = None if hydra is None else hydra.runtime.choices.get("experiment")
    return None if choice is None else choice.split("/")[0 if part == "name" else -1]


def folder_of(*, _root_: DictConfig) -> str:
    """Return the folder in runs/ for a run: NAME/PRESET of its experiment, or the command."""
    hydra = _hydra(_root_)
    return "" if hydra is None else hydra.runtime.choices.get("experiment") or hydra.job.config_name


def run_name(now: str, *, _root_: DictConfig) -> str:
    """Return the name of a run's folder: the time, or in an experiment what the sweep varies and what is overridden.

    A job of a sweep has the same name when it runs alone. Jobs without an experiment have their number after the time.
    """
    hydra = HydraConfig.get()
    if _root_.experiment_name is None:
        return f"{now}-{hydra.job.num}" if hydra.mode == RunMode.MULTIRUN else now
    given = dict(override.lstrip("+~").partition("=")[::2] for override in hydra.overrides.task)
    varied = {}
    for key in hydra.sweeper.get("params") or {}:
        value = given.pop(key, None)
        varied[key] = value if value is not None else hydra.runtime.choices.get(key, OmegaConf.select(_root_, key))
    extra = sorted(f"{key}={value}" for key, value in given.items() if key not in NOT_IN_NAMES and not key.startswith("hydra"))
    text = "-".join([*map(str, varied.values()), *extra]) or "run"
    name = re.sub(r"[^A-Za-z0-9.=+_-]+", "_", text)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"  # or two runs could share a name


def state_of(cfg: DictConfig) -> str | Difference:
    """Return what the run's folder holds: ``nothing``, or a run that is ``running``, ``finished`` or ``broken``.

    A run is broken if it did not finish or cannot be read. Of a run with other settings, return the first setting that decides a
    result and differs from `cfg`.
    """
    folder = Path(cfg.run_dir)
    if not (folder / "record.json").is_file():
        return "nothing"
    try:
        status = status_of(folder, read_json(folder / "record.json"))
        if status == "running":
            return status
        if changed := _changed_setting(cfg):
            return changed
    except (ValueError, KeyError, TypeError, AttributeError, OSError, YAMLError, OmegaConfBaseException):
        return "broken"  # torn by a kill or a full disk
    return "finished" if status == "finished" and not _shards_left(cfg) else "broken"


def _shards_left(cfg: DictConfig) -> bool:
    """Return whether a store still has its shards beside it: then its command was killed before it removed them."""
    return not cfg.get("keep_shards", True) and Path(cfg.out).exists() and shards_beside(Path(cfg.out)).exists()


def _changed_setting(cfg: DictConfig) -> Difference | None:
    before = OmegaConf.to_container(OmegaConf.load(Path(cfg.run_dir) / "config.yaml"))
    kind = OmegaConf.get_type(cfg)
    defaults = {} if kind is dict else flatten(OmegaConf.to_container(schema(kind)))
    now = OmegaConf.to_container(cfg, resolve=True)
    return first_difference(before, now, ignored=(*CHANGE_NOTHING, *unread_groups(now)), defaults=defaults)


def command_line() -> str:
    """Return the command that repeats this run."""
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    return f"python -m experiments.{hydra.job.config_name} {shlex.join([*flags, *hydra.overrides.task])}".strip()


def start_run(cfg: DictConfig, verb: str) -> Run:
    """Open the folder of this run, with its resolved configuration and the command that repeats it.

    Raises:
        UserError: if another process is running it.
        FileExistsError: if the folder holds another run, which only ``overwrite=true`` or an experiment replaces.
    """
    OmegaConf.resolve(cfg)
    hydra, state = HydraConfig.get(), state_of(cfg)
    if state == "running":
        raise UserError(f"{cfg.run_dir} is being run by another process")
    run = Run(
        cfg.run_dir, verb=verb, config=OmegaConf.to_container(cfg), config_yaml=OmegaConf.to_yaml(cfg),
        command=command_line(), track=cfg.track.mode,
        overwrite=cfg.overwrite or cfg.experiment_name is not None or state == "broken",
        group=None if cfg.experiment_name is None and hydra.mode != RunMode.MULTIRUN else Path(cfg.folder).as_posix(),
    )  # fmt: skip
    run.metrics |= {"device": build_device(cfg).type, "threads": torch.get_num_threads()}
    return run


def require_file_can_be_written(path: Path, *, overwrite: bool) -> None:
    """Create the folder of an output, and check that it can be written.

    Raises:
        OSError: if the output cannot be written, or exists and `overwrite` is false.
    """
    _require_utf8(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the name of a file to write")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=true replaces it")
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is not a folder, so {path} cannot be written")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _require_utf8(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        name = str(path).encode(errors="backslashreplace").decode()
        raise UserError(f"{name} is not UTF-8, and safetensors opens no other path; choose another name") from None


def require_folder_can_be_written(path: Path) -> None:
    """Do the same for an output that is a folder."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, expected the name of a folder to write into")
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass


@contextmanager
def sole_writer(output: Path, *, folder: Path) -> Iterator[None]:
    """Let one process at a time write an output.

    Args:
        folder: holds the lock; created if needed, and removed at the end if it is empty.

    Raises:
        UserError: if another process is writing it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is writing {output}") from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it is not empty, or gone
            folder.rmdir()
