"""Prefetch: the GPU makes the next batch while the current one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from functools import lru_cache

import torch

from rapid_inr.pipelines.batches import Batch

IN_FLIGHT = 2  # unfinished batches on the caller's stream at which the host waits


def ahead(batches: Generator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches; on a GPU, make each on a second stream while the caller uses the one before it.

    Batches are made without autocast even if the caller has it on, since coordinates must not be rounded to half precision. When
    the GPU is `IN_FLIGHT` batches behind, the host waits, so that memory holds only a few batches.
    """
    if device.type != "cuda":
        while (batch := _next(batches, device)) is not None:
            yield batch
        return
    side, waiting, taken = _side_stream(device), None, deque()
    try:
        while True:
            if len(taken) == IN_FLIGHT:
                taken.popleft().synchronize()
            side.wait_stream(torch.cuda.current_stream(device))  # for tensors that the caller has copied to the device
            with torch.cuda.stream(side):
                following = _next(batches, device)
                made = side.record_event()
            if waiting is not None:
                batch = _taken_over(*waiting, device)
                taken.append(torch.cuda.current_stream(device).record_event())
                yield batch
                del batch
            if following is None:
                return
            waiting = following, made
    finally:  # at an early exit too, since the caller's stream may reuse memory that the side stream still reads
        with torch.cuda.stream(side):
            batches.close()
        torch.cuda.current_stream(device).wait_stream(side)


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that makes a device's batches; there is one, since the allocator keeps separate memory a stream."""
    return torch.cuda.Stream(device)


def _next(batches: Iterator[Batch], device: torch.device) -> Batch | None:
    """Return the next batch, made without autocast, or None after the last."""
    has_autocast = torch.amp.is_autocast_available(device.type)
    with torch.autocast(device.type, enabled=False) if has_autocast else nullcontext():
        return next(batches, None)


def _taken_over(batch: Batch, made: torch.cuda.Event, device: torch.device) -> Batch:
    """Make the caller's stream wait for a batch, and tell the allocator that this stream uses its memory."""
    current = torch.cuda.current_stream(device)
    current.wait_event(made)
    for tensor in batch.tensors().values():
        tensor.record_stream(current)
    return batch
