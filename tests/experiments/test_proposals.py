import sys
from types import SimpleNamespace

import pytest

from experiments.proposals import OptunaMissing, propose
from experiments.search_space import read_search

pytest.importorskip("optuna")


def search(**changes):
    whole = {
        "name": "sample",
        "space": {"depth": {"low": 1, "high": 9}, "lr": {"low": 0.01, "high": 1.0, "log": True}, "net": ["a", "b"]},
        "points": {"encode": {"verb": "encode", "over": ["<depth>", "<lr>", "<net>"]}},
        "judge": "encode",
        "goals": {"score": "maximize"},
    }
    return read_search(whole | changes)


def run(one, n, measure, *, at_once=1, seed=0):
    history = []
    while len(history) < n:
        fresh = propose(one, history, min(at_once, n - len(history)), seed=seed)
        assert fresh
        history += [(choices, measure(choices)) for choices in fresh]
    return history


def peak(choices):
    """Has its best at depth 6, lr near 0.1, net b."""
    lr = float(choices["lr"])
    return {"score": -abs(int(choices["depth"]) - 6) - abs(lr - 0.1) - 2 * (choices["net"] == "a")}


def test_proposals_are_of_the_space_new_each_time_and_follow_from_the_history_alone():
    one = search()
    history = run(one, 12, peak, at_once=3)
    for choices, _ in history:
        one.require(choices)
    names = [tuple(choices.values()) for choices, _ in history]
    assert len(set(names)) == len(names)
    assert propose(one, history, 2, seed=0) == propose(one, history, 2, seed=0)
    assert propose(one, [], 2, seed=0) != propose(one, [], 2, seed=1)


def test_what_was_learnt_is_used():
    scores = [values["score"] for _, values in run(search(), 24, peak)]
    assert max(scores) > -0.2
    assert sum(scores[12:]) / 12 > sum(scores[:10]) / 10 + 1


def test_limits_steer_away_from_what_breaks_them():
    def measure(choices):
        return {"depth": float(choices["depth"])}

    bound = search(goals={"depth": "maximize"}, limits={"depth": {"at_most": 4}})
    late, free = (run(one, 22, measure)[10:] for one in (bound, search(goals={"depth": "maximize"})))
    kept = [sum(values["depth"] <= 4 for _, values in some) for some in (late, free)]
    assert kept[0] > len(late) / 2 > kept[1]


def test_what_failed_is_not_proposed_again_and_no_hindrance():
    one = search(space={"depth": {"low": 1, "high": 4}})
    history = [({"depth": "2"}, None), ({"depth": "3"}, None)]
    found = propose(one, history, 4, seed=0)
    assert sorted(choices["depth"] for choices in found) == ["1", "4"]


def test_a_space_without_anything_new_has_no_proposals():
    one = search(space={"net": ["a", "b"]})
    assert {choices["net"] for choices in propose(one, [], 5, seed=0)} == {"a", "b"}
    assert propose(one, [({"net": "a"}, {"score": 1.0}), ({"net": "b"}, None)], 1, seed=0) == []


@pytest.mark.parametrize("kind", [{"low": 10.0, "high": 11.0, "step": 0.125}, {"low": 2, "high": 11, "step": 3}])
def test_numbers_in_steps_are_proposed_to_the_last(kind):
    one = search(space={"width": kind})
    history = [(choices, {"score": float(choices["width"])}) for choices in propose(one, [], 2, seed=0)]
    rest = propose(one, history, 20, seed=0)
    widths = {float(choices["width"]) for choices, _ in [*history, *((choices, None) for choices in rest)]}
    assert len(widths) == round((kind["high"] - kind["low"]) / kind["step"]) + 1


def test_the_draws_of_neighbouring_seeds_have_nothing_in_common():
    first, second = ([propose(search(), [({}, None)] * n, 1, seed=seed)[0] for n in range(8)] for seed in (0, 1))
    assert not [choices for choices in first if choices in second]


def test_an_optuna_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", SimpleNamespace(__version__="2.10.1"))
    with pytest.raises(OptunaMissing, match=r"needs Optuna 5, there is 2\.10\.1"):
        propose(search(), [], 1, seed=0)


def test_without_optuna_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptunaMissing, match="pip install 'optuna>=5'"):
        propose(search(), [], 1, seed=0)
