from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rapid_inr.compress.budget import allocate


def spent(chosen, cost):
    return int(cost[chosen].sum())


def test_bytes_go_where_they_buy_the_most():
    psnr = torch.tensor([[40.0, 31.0], [35.0, 30.0], [25.0, 29.0]], dtype=torch.float64)  # the first image gains more a byte
    cost = torch.tensor([30, 20, 10])
    assert allocate(psnr, cost, 20).tolist() == [2, 2]
    assert allocate(psnr, cost, 30).tolist() == [1, 2]
    assert allocate(psnr, cost, 40).tolist() == [0, 2]
    assert allocate(psnr, cost, 60).tolist() == [0, 0]


def test_more_bytes_are_not_spent_on_a_lower_psnr():
    psnr = torch.tensor([[30.0], [31.0], [20.0]], dtype=torch.float64)  # training after a little pruning may win
    assert allocate(psnr, torch.tensor([30, 20, 10]), 1000).tolist() == [1]


def test_a_step_below_the_hull_is_skipped():
    psnr = torch.tensor([[40.0], [20.5], [20.0]], dtype=torch.float64)
    assert allocate(psnr, torch.tensor([30, 20, 10]), 29).tolist() == [2]
    assert allocate(psnr, torch.tensor([30, 20, 10]), 30).tolist() == [0]


def test_a_budget_below_the_smallest_store_is_refused():
    with pytest.raises(ValueError, match="2 images take at least 20 bytes, the budget leaves them 19"):
        allocate(torch.zeros(2, 2), torch.tensor([20, 10]), 19)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(0, 200))
def test_no_choice_within_the_budget_is_better_by_more_than_one_step(seed, n_images, n_ways, budget):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randperm(40, generator=generator)[:n_ways] + 1
    psnr = torch.rand(n_ways, n_images, generator=generator, dtype=torch.float64) * 10
    budget = max(budget, n_images * int(cost.min()))
    chosen = allocate(psnr, cost, budget)
    assert spent(chosen, cost) <= budget
    reached = psnr[chosen, torch.arange(n_images)].sum()
    ways = [torch.tensor(c) for c in product(range(n_ways), repeat=n_images)]
    best = max(psnr[w, torch.arange(n_images)].sum() for w in ways if spent(w, cost) <= budget)
    assert best - reached <= (psnr.max(0).values - psnr[cost.argmin()]).max() + 1e-9
    unlimited = allocate(psnr, cost, 10_000)
    assert torch.equal(psnr[unlimited, torch.arange(n_images)], torch.maximum(psnr.max(0).values, psnr[cost.argmin()]))
