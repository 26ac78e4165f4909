import re

import pytest

from experiments.reporting.comparing.where import known_keys, matching, parse, resolve, shortest
from tests.logged import made

RUNS = [
    made(
        "small",
        config={"seed": 0, "inr": {"depth": 3, "hidden": 16}, "optimizer": {"epochs": 6, "nesterov": True}, "store": None},
    ),
    made(
        "large",
        config={"seed": 1, "inr": {"depth": 10, "hidden": 40}, "optimizer": {"epochs": 200, "nesterov": False}, "store": "a.inr"},
        metrics={"top1_pct": 93.5},
        started="2026-02-01T10:00:00+00:00",
        versions={"torch": "2.11.0"},
        labels={"net": "large"},
    ),
    made("raw", config={"seed": 0, "optimizer": {"epochs": 6}}, status="dead"),
]


def names(text: str) -> list[str]:
    return [run.run for run in matching(RUNS, parse(text, known_keys(RUNS)))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("inr.depth=3", ["small"]),
        ("inr.depth == 3", ["small"]),
        ("depth=3", ["small"]),  # the last part is enough where it fits one key
        ("inr=10x40", ["large"]),
        ("inr=3x16|10x40", ["small", "large"]),
        ("inr=*x16", ["small"]),
        ("inr.depth>=3,optimizer.epochs>=10", ["large"]),
        ("epochs<200", ["small", "raw"]),
        ("epochs>6", ["large"]),
        ("epochs<=6", ["small", "raw"]),
        ("depth!=3", ["large", "raw"]),  # a run that lacks a key has another value of it
        ("seed!=0", ["large"]),
        ("seed=0|1,status=dead", ["raw"]),
        ("nesterov=true", ["small"]),
        ("nesterov=1", []),
        ("store=null", ["small", "raw"]),
        ("store=a.inr", ["large"]),
        ("top1_pct>93", ["large"]),
        ("started>=2026-01-15", ["large"]),
        ("torch=2.11.*", ["large"]),
        ("point.net=large", ["large"]),
        ("run=s*|r*", ["small", "raw"]),
        ("inr>3", []),  # a text is neither more nor less than a number
        ("nesterov>=0", []),
    ],
)
def test_conditions_choose_runs(text, found):
    assert names(text) == found


def test_a_list_is_written_as_in_the_configuration():
    runs = [made("a", config={"fit": {"betas": [0.9, 0.95]}}), made("b", config={"fit": {"betas": [0.9, 0.99]}})]
    assert [run.run for run in matching(runs, parse("fit.betas=[0.9,0.95],seed!=7", {"fit.betas", "seed"}))] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no condition, expected KEY=VALUE"),
        ("depth", "'depth' is no condition, expected KEY=VALUE"),
        ("depth=3,", "'' is no condition"),
        ("__import__('os')", "is no condition"),
        ("dept=3", "no run has dept; did you mean inr.depth?"),
        ("inr.detph=3", "no run has inr.detph; did you mean inr.depth"),
    ],
)
def test_what_is_no_condition_is_told(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text, known_keys(RUNS))


def test_an_ambiguous_key_is_refused_with_its_meanings():
    with pytest.raises(ValueError, match=r"^steps may be fit.steps or refine.steps; write more of it$"):
        resolve("steps", {"fit.steps", "refine.steps"})


def test_a_whole_key_is_never_ambiguous():
    assert resolve("seed", {"seed", "store.seed"}) == "seed"


def test_keys_are_told_by_as_few_parts_as_find_them_again():
    known = {"fit.steps", "refine.steps", "quantize.bits", "seed", "store.seed", "store.inr.depth"}
    short = {key: shortest(key, known) for key in known}
    assert short == {
        "fit.steps": "fit.steps", "refine.steps": "refine.steps", "quantize.bits": "bits", "seed": "seed",
        "store.seed": "store.seed", "store.inr.depth": "depth",
    }  # fmt: skip
    assert all(resolve(name, known) == key for key, name in short.items())
