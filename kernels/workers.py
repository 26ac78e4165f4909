"""Threads that each run whole torch operations, one core an operation.

Where an operation itself is cut over threads, every pass ends with all of them waiting for the slowest. On two cores of a busy
machine that costs more than the second core brings. That is why a single item goes to such a thread, too.
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
    """Call a function for each item, on as many threads as torch is set to use (`torch.set_num_threads`).

    Args:
        function: writes to tensors of its own item only; it runs in the caller's inference mode.
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
    """Return threads whose operations take one core; a forked process, where its parent's are not, makes its own.

    `torch.set_num_threads` holds for the thread that calls it and for threads that start later. So all are started here, and
    then the caller's number is set again.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=_take_one_core)
    everyone = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(everyone.wait)
    everyone.wait()
    torch.set_num_threads(threads)
    return pool


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to the process's: it must come before
    torch.set_num_threads(1)
