"""Work on images batch by batch: on a CPU every core has a batch of its own, on a GPU one batch follows another."""

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
    """Return what a function makes of each batch of images, in the order of the images.

    On a CPU the batches are shared among as many threads as torch is set to use, each of which runs whole operations
    (`kernels.workers`). The number of threads decides how many batches there are, so a result must not depend on its batch.

    Args:
        function: takes the places of a batch, and a report to call with the work done since.
        n_images: at least 1.
        at_once: most images of a batch.
        on_progress: called by one thread at a time, and not after this function has ended.
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
    """Return batches of `at_once` images at most, as many for each thread where there are enough images."""
    count = math.ceil(n_images / at_once)
    count = min(n_images, threads * math.ceil(count / threads))
    bounds = [n_images * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


class _SharedReport:
    """A report for several threads; once closed it raises, so that threads end whose caller has met an error or Ctrl-C."""

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
