"""Threads of whole operations: each item once, errors handed on, and torch's own settings as they were."""

import threading

import pytest
import torch

from kernels.workers import for_each


def test_each_item_is_taken_once(threads):
    done = torch.zeros(50)
    for_each(lambda i: done[i].add_(1), range(50))
    assert done.eq(1).all()


def test_an_operation_within_takes_one_core_and_the_callers_setting_stays(threads):
    within = []
    for_each(lambda i: within.append(torch.get_num_threads()), range(20))
    assert set(within) == {1}
    assert torch.get_num_threads() == threads


def test_threads_born_later_see_the_callers_setting(threads):
    for_each(lambda i: None, range(4))
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [threads]


def test_an_error_reaches_the_caller(threads):
    def fail(i):
        if i == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        for_each(fail, range(6))


def test_items_run_in_the_callers_inference_mode(threads):
    seen = []
    with torch.inference_mode():
        for_each(lambda i: seen.append(torch.is_inference_mode_enabled()), range(4))
    assert all(seen)
