"""The processes that torchrun has started: how many, which of them this is, and what they may do together."""

from __future__ import annotations

import os

from torch import distributed

from rapid_inr.errors import UserError

SHARED = ("encode", "train")  # commands of which the processes of a torchrun each do a part


def world_size() -> int:
    """Return how many processes torchrun has started, 1 where this one is alone, before they have init_distributed too."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_alone(verb: str, *, several_jobs: bool) -> None:
    """Refuse what the processes of a torchrun cannot share.

    Raises:
        ValueError: if there are several, and `verb` is for one, or they are to run several jobs, of which each would join them.
    """
    if world_size() == 1:
        return
    if verb not in SHARED:
        raise UserError(f"{verb} is run by one process, not by {world_size()}; start it without torchrun")
    if several_jobs:
        raise UserError("torchrun runs one job, not the several of a multirun (-m); start it once for each")


def place() -> dict[str, int]:
    """Return ``rank`` and ``world_size`` of this process, 0 and 1 where it is alone."""
    if not distributed.is_initialized():
        return {"rank": 0, "world_size": 1}
    return {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}


def is_main_process() -> bool:
    """Return whether this process is the one that keeps the run and speaks."""
    return place()["rank"] == 0
