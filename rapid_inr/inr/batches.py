"""Work on images in batches: on a CPU, one batch a core in parallel; on a GPU, one after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import torch

from kernels.workers import for_each
from rapid_inr.runlog.progress import Report

R = TypeVar("R")


def map_batches(
    function: Callable[[slice, Report], R],
    n_images: int,
    *,
    at_once: int,
    device: torch.device,
    on_progress: Report | None = None,
) -> list[R]:
    """Apply a function to each batch of images and return the results in order.

    On a CPU, torch's number of threads work in parallel, each on whole operations (`kernels.workers`). The number of batches
    depends on the number of threads, so a result must not depend on its batch.

    Args:
        function: takes the slice of a batch, and a report to call with the work done since the last call.
        n_images: at least 1.
        at_once: most images in a batch.
        on_progress: called by one thread at a time, and never after this function returns.
    """
    batches = _even_batches(n_images, at_once, torch.get_num_threads() if device.type == "cpu" else 1)
    report, results = _SharedReport(on_progress), {}

    def work(batch: slice) -> None:
        results[batch.start] = function(batch, report)

    try:
        if device.type == "cpu":
            for_each(work, batches)
        else:
            for batch in batches:
                work(batch)
    finally:
        report.close()
    return [results[batch.start] for batch in batches]


def _even_batches(n_images: int, at_once: int, threads: int) -> list[slice]:
    """Return batches of at most `at_once` images, the same number for each thread if there are enough images."""
    count = math.ceil(n_images / at_once)
    count = min(n_images, threads * math.ceil(count / threads))
    bounds = [n_images * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


class _SharedReport:
    """A report for several threads; after `close` it raises, which ends the threads after an error or Ctrl-C."""

    def __init__(self, report: Report | None) -> None:
        self._report, self._lock, self._closed = report, Lock(), False

    def __call__(self, amount: float) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the work was given up")
            if self._report is not None:
                self._report(amount)

    def close(self) -> None:
        with self._lock:
            self._closed = True
