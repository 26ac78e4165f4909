import re

import pytest

from experiments.search_space import Limit, Options, Range, read_search


def search(**changes):
    lr = {"low": 0.01, "high": 1.0, "log": True}
    encode = {"verb": "encode", "over": ["<depth>", "net"], "set": ["out=@/x.inr"]}
    train = {"verb": "train", "over": ["<depth>", "<net>", "optimizer.lr", "seed"], "set": ["store=@encode-<depth>-<net>/x.inr"]}
    whole = {
        "name": "sample",
        "axes": {"seed": [0, 1]},
        "space": {"depth": {"low": 2, "high": 6}, "optimizer.lr": lr, "net": {"a": "inr=2x8"}},
        "points": {"encode": encode, "train": train},
        "judge": "train",
        "goals": {"top1_pct": "maximize"},
        "limits": {"rgb_pct": {"at_most": 20}},
    }
    return read_search(whole | changes)


CHOICES = {"depth": "3", "optimizer.lr": "0.05", "net": "a"}


def test_a_trial_is_the_points_of_its_choices_and_every_combination_of_the_axes():
    points = search().points(CHOICES)
    assert [point.name for point in points] == ["encode-3-a", "train-3-a-0.05-0", "train-3-a-0.05-1"]
    assert points[0].overrides == ("out=@/x.inr", "inr=2x8")
    assert points[1].overrides == ("store=@encode-3-a/x.inr", "optimizer.lr=0.05", "seed=0")
    assert points[1].labels == {"depth": "3", "net": "a", "optimizer.lr": "0.05", "seed": "0"}
    assert {point.found_by for point in search().points(CHOICES, number=7)} == {("trial=7",)}


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Range(2, 6), 3, "3"),
        (Range(0.01, 1.0), 0.123456, "0.1235"),
        (Range(0, 10**9), 1234567.0, "1234567"),
        (Range(0.0, 1e9), 1234567.0, "1.235e06"),
        (Range(1e-9, 1.0), 1.23456e-7, "1.235e-07"),
        (Range(1, 3, step=0.5), 1.5, "1.5"),
        (Range(10.0, 200.0, step=0.125), 114.375, "114.375"),
        (Range(0.0, 1.0, step=0.1), 0.1 + 0.2, "0.3"),
    ],
)
def test_a_number_is_named_in_few_figures(kind, value, text):
    value = int(value) if kind.whole else value
    assert kind.text(value) == text
    assert kind.holds(text)


def test_a_range_holds_its_rounded_ends_and_nothing_beyond():
    kind = Range(0.123456, 0.98765)
    assert kind.holds(kind.text(kind.low))
    assert kind.holds(kind.text(kind.high))
    assert not kind.holds("0.12")
    assert not kind.holds("0.99")
    assert not kind.holds("wide")
    assert not Range(2, 6).holds("2.5")


def test_a_range_in_steps_holds_its_steps_alone():
    for kind, held, other in ((Range(2, 8, step=3), "5", "4"), (Range(0.0, 1.0, step=0.25), "0.75", "0.7")):
        assert kind.holds(held)
        assert not kind.holds(other)


def test_the_number_of_a_rounded_label_lies_in_the_range():
    assert Range(0.123456, 0.98765).number("0.1235") == 0.1235
    assert Range(0.123456, 0.98765).number("0.9877") == 0.98765
    assert Range(0.0, 1.0, step=0.1).number("0.3") == pytest.approx(0.3)
    assert Range(2, 8, step=3).number("5") == 5


def test_null_takes_a_limit_or_its_bound_out():
    assert search(limits={"rgb_pct": None}).limits == search(limits={"rgb_pct": {"at_most": None}}).limits == []
    assert search(limits={"rgb_pct": {"at_most": None, "at_least": 5}}).limits == [Limit("rgb_pct", at_least=5)]


def test_options_are_those_of_an_axis():
    found = search(space={"batch": [128, 256], "scales": {"one": "a=1", "gone": None}}).space
    assert found == {
        "batch": Options({"128": ["batch=128"], "256": ["batch=256"]}),
        "scales": Options({"one": "a=1"}),
    }
    assert found["batch"].holds("128")
    assert not found["batch"].holds("129")


def test_two_labels_low_and_high_are_no_range_unless_they_are_numbers_alone():
    found = search(space={"bits": {"low": "quantize=int4", "mid": "quantize=int6", "high": "quantize=int8"}}).space
    assert isinstance(found["bits"], Options)


def test_a_limit_is_exceeded_on_its_own_side():
    assert Limit("rgb_pct", at_most=20).excess(21) == 1
    assert Limit("rgb_pct", at_most=20).excess(20) == 0
    assert Limit("psnr_db", at_least=30).excess(29) == 1
    assert Limit("psnr_db", at_least=30).excess(31) == -1
    assert str(Limit("psnr_db", at_least=30)) == "psnr_db at least 30"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "the search has no space"),
        ({"space": {"depth": 3}}, "space.depth is 3, expected {low: ..., high: ...}, a list, or LABEL: overrides"),
        ({"space": {"depth": {"low": 6, "high": 2}}}, "space.depth goes from 6 to 2, expected two numbers"),
        ({"space": {"depth": {"low": "a", "high": "b"}}}, "space.depth goes from 'a' to 'b', expected two numbers"),
        ({"space": {"depth": {"low": None, "high": 5}}}, "space.depth goes from None to 5, expected two numbers"),
        ({"space": {"depth": {"low": 4, "hihg": 6}}}, "space.depth has hihg, expected of high, log, low, step"),
        ({"space": {"depth": {"low": 4, "high": 7, "step": 2}}}, "space.depth goes from 4 to 7 in steps of 2"),
        ({"space": {"depth": {"low": 4, "high": 8, "step": 0}}}, "space.depth goes from 4 to 8 in steps of 0"),
        ({"space": {"lr": {"low": 1.0, "high": 2.0, "log": "yes"}}}, "space.lr has log 'yes', expected true or false"),
        ({"space": {"lr": {"low": 0.0100002, "high": 0.0100004}}}, "which differ by less than 4 figures"),
        ({"space": {"net": []}}, "space.net is [], expected {low: ..., high: ...}, a list, or LABEL: overrides"),
        ({"space": {"net": {"a": None}}}, "space.net is {'a': None}, expected"),
        ({"name": None}, "the search has no name"),
        ({"space": {"lr": {"low": 0, "high": 1.0, "log": True}}}, "and with true a low above 0"),
        ({"space": {"seed": [1, 2]}}, "seed is an axis and in the space, expected one of them"),
        ({"judge": "test"}, "judge is 'test', expected one of the points encode, train"),
        ({"goals": {}}, "goals is {}, expected METRIC: maximize or METRIC: minimize"),
        ({"goals": {"top1_pct": "up"}}, "expected METRIC: maximize"),
        ({"limits": {"rgb_pct": 20}}, "limits.rgb_pct is 20, expected {at_most: NUMBER} or {at_least: NUMBER}"),
        ({"limits": {"rgb_pct": {"at_most": "20"}}}, "limits.rgb_pct is {'at_most': '20'}, expected"),
        ({"limits": {"rgb_pct": {"at_most": 20, "at_least": 10}}}, "limits.rgb_pct is"),
        ({"trials": 0}, "trials is 0, expected an integer of at least 1"),
    ],
)
def test_a_search_that_is_not_in_order_is_refused_with_the_place(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        search(**changes)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"depth": "3"}, "a trial chooses depth, expected depth, optimizer.lr, net"),
        (CHOICES | {"depth": "7"}, "a trial chooses depth 7, which is not in the space"),
        (CHOICES | {"net": "b"}, "a trial chooses net b, which is not in the space"),
    ],
)
def test_choices_of_another_space_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        search().require(choices)
