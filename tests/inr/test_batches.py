"""Batches on threads: every image once and in order, an even share for each thread, and an end to all when one fails."""

import threading

import pytest
import torch

from rapid_inr.inr.batches import map_batches

CPU = torch.device("cpu")


def places(n_images, at_once):
    return map_batches(lambda batch, report: list(range(batch.start, batch.stop)), n_images, at_once=at_once, device=CPU)


@pytest.mark.parametrize("n_images", range(1, 14))
@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_batches_hold_every_image_in_order_and_no_thread_has_more_of_them_than_it_must(threads, n_images, at_once):
    batches = places(n_images, at_once)
    assert [place for batch in batches for place in batch] == list(range(n_images))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= at_once
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) % threads == 0 or len(batches) == n_images


def test_operations_within_take_one_core_and_the_callers_setting_stays(threads):
    within = map_batches(lambda batch, report: torch.get_num_threads(), 9, at_once=2, device=CPU)
    assert set(within) == {1}
    assert torch.get_num_threads() == threads


def test_work_is_reported_by_one_thread_at_a_time(threads):
    done, inside = [], []

    def on_progress(amount):
        inside.append(amount)
        assert len(inside) == 1
        done.append(amount)
        inside.pop()

    def work(batch, report):
        for _ in range(200):
            report((batch.stop - batch.start) / 200)

    map_batches(work, 7, at_once=2, device=CPU, on_progress=on_progress)
    assert sum(done) == pytest.approx(7)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_a_thread_reaches_the_caller_and_ends_the_others(error):
    before, ended, other_works = torch.get_num_threads(), threading.Event(), threading.Event()

    def work(batch, report):
        if batch.start == 0:
            assert other_works.wait(10)
            raise error("the first")
        try:
            while True:  # as a long fit, which tells of each step
                report(0)
                other_works.set()
        finally:
            ended.set()

    torch.set_num_threads(2)
    try:
        with pytest.raises(error, match="the first"):
            map_batches(work, 2, at_once=1, device=CPU)
        assert ended.wait(10)
        assert places(3, 1) == [[0], [1], [2]]  # the threads can be used again
    finally:
        torch.set_num_threads(before)


def test_an_error_of_the_report_reaches_the_caller(threads):
    def on_progress(amount):
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        map_batches(lambda batch, report: report(1), 4, at_once=1, device=CPU, on_progress=on_progress)
