"""Batches that are made while the one before is used, and what the caller's autocast must not change."""

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import Batch
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.prefetch import IN_FLIGHT, _side_stream, ahead
from rapid_inr.pipelines.resident import resident_pipeline
from tests.store.stores import small_store

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
AUGMENT = AugmentConfig(crop_padding=2, rotation_degrees=20, brightness=0.2, cutout=2, mix="cutmix")
CPU = torch.device("cpu")


def raw(device: torch.device | str, *, n_images: int = 40, side: int = 12, **options) -> BatchPipeline:
    images = torch.randint(0, 256, (n_images, side, side, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return resident_pipeline(
        images, torch.arange(n_images), mean=(0.5,) * 3, std=(0.25,) * 3, device=device, batch_size=8, seed=0, **options
    )


def test_an_epoch_under_the_callers_autocast_is_as_without():
    for pipeline in (raw("cpu", augment=AUGMENT), inr_pipeline(small_store(22), batch_size=4, seed=0, augment=AUGMENT)):
        expected = [batch.images for batch in pipeline.epoch(1)]
        with torch.autocast("cpu", torch.bfloat16):
            found = [batch.images for batch in pipeline.epoch(1)]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_autocast_is_off_where_batches_are_made_and_on_where_they_are_used():
    def batches() -> Iterator[Batch]:
        for number in range(3):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
            yield Batch(product, torch.zeros(2), torch.tensor([number, number]))

    with torch.autocast("cpu", torch.bfloat16):
        for batch in ahead(batches(), CPU):
            assert batch.images.dtype == torch.float32
            assert (batch.images @ batch.images).dtype == torch.bfloat16


class Stream:
    """Stands for a CUDA stream and its events; notes what is asked of it, as events are numbered in their order."""

    def __init__(self, device: torch.device, log: list[tuple]) -> None:
        self.log, self.events = log, 0

    def wait_stream(self, other: "Stream") -> None:
        self.log.append(("waits", self))

    def wait_event(self, event: SimpleNamespace) -> None:
        self.log.append(("takes", self))

    def record_event(self) -> SimpleNamespace:
        self.events += 1
        return SimpleNamespace(synchronize=partial(self.log.append, ("host waits", self.events)))


@pytest.fixture
def streams(monkeypatch):
    """Run the way of a GPU on the CPU; returns the caller's stream, those made, and what was asked of them, in order."""
    log, made = [], []
    caller = Stream(CPU, log)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(Stream(device, log)) or made[-1])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: caller)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append(("used by", stream)))
    _side_stream.cache_clear()
    yield SimpleNamespace(caller=caller, made=made, log=log)
    _side_stream.cache_clear()


def numbered(log: list[tuple], count: int) -> Iterator[Batch]:
    try:
        for number in range(count):
            log.append(("makes", number))
            yield Batch(torch.zeros(1), torch.zeros(1), torch.tensor([number]))
    finally:
        log.append(("ends", None))


def test_each_batch_is_launched_before_the_one_ahead_is_used_and_two_after_the_host_has_waited(streams):
    for _ in range(2):
        streams.log.clear()
        begun = streams.caller.events
        for batch in ahead(numbered(streams.log, 6), torch.device("cuda", 0)):
            streams.log.append(("uses", int(batch.ids)))
        steps = [step for step in streams.log if step[0] in ("makes", "uses", "host waits", "ends")]
        expected = [("makes", 0), ("makes", 1), ("uses", 0), ("makes", 2), ("uses", 1)]
        for number in range(2, 5):  # the event at which batch `number - 2` was taken over has passed
            expected += [("host waits", begun + number - 1), ("makes", number + 1), ("uses", number)]
        expected += [("host waits", begun + 4), ("ends", None), ("uses", 5)]
        assert steps == expected
        assert streams.log.count(("waits", streams.made[0])) == 7  # in every round, for what the caller has queued
        assert streams.log.count(("used by", streams.caller)) == 6 * 2
        assert streams.log[-1] == ("waits", streams.caller)
    assert len(streams.made) == 1  # for all epochs


def test_an_iteration_left_early_ends_its_source_and_lets_the_caller_wait_for_it(streams):
    for batch in ahead(numbered(streams.log, 6), torch.device("cuda", 0)):
        if batch.ids == 2:
            break
    del batch
    gc.collect()
    assert streams.log[-2:] == [("ends", None), ("waits", streams.caller)]


@pytest.mark.gpu
@GPU
def test_batches_on_a_gpu_are_those_of_the_cpu_in_their_order():
    here, there = raw("cpu", augment=AUGMENT), raw("cuda", augment=AUGMENT)
    for epoch in range(3):
        for batch, expected in zip(there.epoch(epoch), here.epoch(epoch), strict=True):
            assert torch.equal(batch.ids, expected.ids)
            assert torch.equal(batch.labels.cpu(), expected.labels)
            assert torch.equal(batch.others.cpu(), expected.others)
            torch.testing.assert_close(batch.images.cpu(), expected.images, atol=1e-3, rtol=0)


@pytest.mark.gpu
@GPU
def test_an_epoch_left_early_leaves_nothing_for_others_to_write_upon():
    pipeline = raw("cuda", n_images=400, side=64, augment=AUGMENT)
    whole = [batch.images.clone() for batch in pipeline.epoch(0)]
    for _ in range(20):
        for number, batch in enumerate(pipeline.epoch(0)):
            kept = batch.images
            if number == 2:
                break
        scribble = [torch.full((400, 2, 3), 1e9, device="cuda") for _ in range(50)]  # where augmentation parameters and order lay
        assert torch.equal(kept, whole[2])
        del scribble
    for batch, expected in zip(pipeline.epoch(0), whole, strict=True):
        assert torch.equal(batch.images, expected)


@pytest.mark.gpu
@GPU
def test_memory_is_that_of_a_few_batches_however_slow_the_network_and_however_many_epochs():
    pipeline = raw("cuda", n_images=800, side=64)
    n_batch_bytes = 8 * 3 * 64 * 64 * 4
    slow = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for epoch in range(3):
        for batch in pipeline.epoch(epoch):
            batch.images.mean()
            slow @ slow
    torch.cuda.synchronize()
    # a batch, what it was normalised from and its copies, for those in flight, the waiting and the used one
    assert torch.cuda.max_memory_allocated() - before < (IN_FLIGHT + 3) * 5 * n_batch_bytes + slow.nbytes * 2
