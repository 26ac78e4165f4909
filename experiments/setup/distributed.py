"""The processes that torchrun started: how many, which one this is, and how they train one network together."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import tempfile
from collections.abc import Iterator

from omegaconf import DictConfig
from torch import distributed, multiprocessing

from experiments.setup.build import build_device
from rapid_inr.errors import UserError

SHARED = ("encode", "train")  # commands whose work the processes of a torchrun share


def world_size() -> int:
    """Return how many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def ranks() -> dict[str, int]:
    """Return both as the keyword arguments that pipelines take."""
    return {"rank": rank(), "world_size": world_size()}


def is_main_process() -> bool:
    """Return whether this process keeps the run and prints."""
    return rank() == 0


def end_with_torchrun() -> None:
    """End this process with the torchrun that started it, even if that is killed and cannot end its processes (Linux only)."""
    if distributed.is_torchelastic_launched():
        multiprocessing._prctl_pr_set_pdeathsig(signal.SIGTERM)  # as torch's own spawn does


def require_alone(verb: str, *, multirun: bool) -> None:
    """Refuse what the processes of a torchrun cannot share.

    Raises:
        UserError: if there are several processes, and `verb` takes one, or a multirun would need all of them for each job.
    """
    if world_size() == 1:
        return
    if verb not in SHARED:
        raise UserError(f"{verb} is run by one process, not by {world_size()}; start it without torchrun")
    if multirun:
        raise UserError("torchrun runs one job, not the several of a multirun (-m); start it once for each")


@contextlib.contextmanager
def init_distributed(cfg: DictConfig) -> Iterator[None]:
    """Join the other processes of a torchrun, if there are any.

    Only the main process keeps its run. The others write theirs to a temporary folder, and print nothing.
    """
    if world_size() == 1:
        yield
        return
    distributed.init_process_group("nccl" if build_device(cfg).type == "cuda" else "gloo")
    try:
        with contextlib.ExitStack() as stack:
            if not is_main_process():
                cfg.run_dir = stack.enter_context(tempfile.TemporaryDirectory()) + "/run"
                cfg.track.mode = "off"
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    finally:
        gc.collect()  # networks that share gradients are in reference cycles; one that outlives the group can crash the process
        distributed.destroy_process_group()
