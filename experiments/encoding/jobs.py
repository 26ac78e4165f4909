"""Which of the shards this process makes: all of them, the share that it was asked for, or that which torchrun hands it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from omegaconf import DictConfig
from torch import distributed

from experiments.setup.distributed import rank, world_size
from rapid_inr.errors import UserError

LONGEST_WAIT = timedelta(days=30)  # of a process for the last shard of another


@dataclass(frozen=True)
class Job:
    """One of several that share the shards.

    Args:
        index: from 0.
        torchrun: whether the others are processes of the same torchrun.
    """

    index: int
    count: int
    torchrun: bool = False

    def shards(self, n: int) -> range:
        """Return the numbers of this job's shards among `n`."""
        return range(self.index, n, self.count)

    @property
    def merges(self) -> bool:
        """Whether this job ends with the whole store."""
        return self.count == 1 or (self.torchrun and self.index == 0)

    @property
    def speaks(self) -> bool:
        """Whether this job has a run and a progress bar: of a torchrun only the first process does."""
        return not self.torchrun or self.index == 0


ALONE = Job(0, 1)


def build_job(cfg: DictConfig) -> Job:
    """Return the job that ``shard=i/n``, or torchrun, makes this process.

    Raises:
        ValueError: if ``shard`` is not i/n with i from 1 to n, or is given under torchrun.
    """
    parts = re.fullmatch(r"(\d+)/(\d+)", str(cfg.shard))
    if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
        raise UserError(f"shard is {str(cfg.shard)!r}, expected i/n with i from 1 to n, for instance 2/4")
    job = Job(int(parts[1]) - 1, int(parts[2]))
    if not distributed.is_torchelastic_launched():
        return job
    if job != ALONE:
        raise UserError(f"shard is {cfg.shard!r}, expected 1/1 under torchrun, which gives every process its share")
    return Job(rank(), world_size(), torchrun=True)


@contextmanager
def waiting(job: Job) -> Iterator[Callable[[], None]]:
    """Yield what waits until every process of the torchrun has come as far; alone there is nothing to wait for."""
    if not job.torchrun:
        yield lambda: None
        return
    distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        yield lambda: distributed.barrier()
    finally:
        distributed.destroy_process_group()
