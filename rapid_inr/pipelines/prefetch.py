"""Making a batch on the GPU while the one before it is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from functools import lru_cache

import torch

from rapid_inr.pipelines.batches import Batch

IN_FLIGHT = 2  # batches that the caller's stream may be behind before the next is launched


def ahead(batches: Generator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches; on a GPU each is made on a stream beside the caller's while the one before it is used.

    Batches are made without autocast, whatever the caller's: what places pixels must not be rounded to half precision. The host
    waits where the GPU is `IN_FLIGHT` batches behind, so that a few batches, and not an epoch of them, lie in its memory.
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
            side.wait_stream(torch.cuda.current_stream(device))  # for what the caller has put on the device
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
    finally:  # at an early exit too: what the side stream still reads is freed here, for the caller's stream to write upon
        with torch.cuda.stream(side):
            batches.close()
        torch.cuda.current_stream(device).wait_stream(side)


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream that batches of a device are made on: the allocator keeps memory for each stream apart."""
    return torch.cuda.Stream(device)


def _next(batches: Iterator[Batch], device: torch.device) -> Batch | None:
    """Return the next batch, made without autocast, or None after the last."""
    has_autocast = torch.amp.is_autocast_available(device.type)
    with torch.autocast(device.type, enabled=False) if has_autocast else nullcontext():
        return next(batches, None)


def _taken_over(batch: Batch, made: torch.cuda.Event, device: torch.device) -> Batch:
    """Let the caller's stream wait for a batch, and the allocator know that the caller uses its memory."""
    current = torch.cuda.current_stream(device)
    current.wait_event(made)
    for tensor in batch.tensors().values():
        tensor.record_stream(current)
    return batch
