"""Threads that each run whole torch operations on one core.

When torch splits a single operation over threads, all of them wait for the slowest at its end. On two cores of a busy machine,
this costs more than the second core gains. So even a single item runs on one such thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")


def for_each(function: Callable[[T], None], items: Sequence[T]) -> None:
    """Call a function for each item on torch's number of threads (`torch.set_num_threads`), in the caller's inference mode.

    Args:
        function: writes only to tensors of its item.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for item in items:
            function(item)
        return
    inference = torch.is_inference_mode_enabled()

    def call(item: T) -> None:
        with torch.inference_mode(inference):
            function(item)

    for _ in _pool(os.getpid(), threads).map(call, items):
        pass


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads whose operations use one core; a forked process makes new ones, since threads do not survive a fork.

    `torch.set_num_threads` sets the number of the calling thread and of all threads that start later. So all threads start here,
    and then the caller's number is restored.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=_take_one_core)
    everyone = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(everyone.wait)
    everyone.wait()
    torch.set_num_threads(threads)
    return pool


def _take_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread sets its number to the process's, so it must precede the next line
    torch.set_num_threads(1)
