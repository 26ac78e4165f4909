import pytest

from experiments.search_space import Limit, Options, Range, read_search


def search(**changes):
    lr = {"low": 0.01, "high": 1.0, "log": True}
    encode = {"verb": "encode", "over": ["<depth>", "net"], "set": ["out=@/x.inr"]}
    train = {"verb": "train", "over": ["<depth>", "<net>", "optimize.lr", "seed"], "set": ["store=@encode-<depth>-<net>/x.inr"]}
    whole = {
        "name": "sample",
        "axes": {"seed": [0, 1]},
        "space": {"depth": {"low": 2, "high": 6}, "optimize.lr": lr, "net": {"a": "inr=2x8"}},
        "points": {"encode": encode, "train": train},
        "judge": "train",
        "goals": {"top1_pct": "maximize"},
        "limits": {"rgb_pct": {"at_most": 20}},
    }
    return read_search(whole | changes)


CHOICES = {"depth": "3", "optimize.lr": "0.05", "net": "a"}


def test_a_trial_is_the_points_of_its_choices_and_every_combination_of_the_axes():
    points = search().points(CHOICES)
    assert [point.name for point in points] == ["encode-3-a", "train-3-a-0.05-0", "train-3-a-0.05-1"]
    assert points[0].overrides == ("out=@/x.inr", "inr=2x8")
    assert points[1].overrides == ("store=@encode-3-a/x.inr", "optimize.lr=0.05", "seed=0")
    assert points[1].labels == {"depth": "3", "net": "a", "optimize.lr": "0.05", "seed": "0"}
    assert search().judged(CHOICES) == ["train-3-a-0.05-0", "train-3-a-0.05-1"]


def test_a_job_finds_its_point_by_choices_that_stay_texts():
    assert search().points(CHOICES)[0].found_by == ("trial={depth:'3',optimize.lr:'0.05',net:'a'}",)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Range(2, 6), 3, "3"),
        (Range(0.01, 1.0), 0.123456, "0.1235"),
        (Range(0, 10**9), 1234567.0, "1234567"),
        (Range(0.0, 1e9), 1234567.0, "1.235e06"),
        (Range(1e-9, 1.0), 1.23456e-7, "1.235e-07"),
        (Range(1, 3, step=0.5), 1.5, "1.5"),
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
        ({"space": {"lr": {"low": 0, "high": 1.0, "log": True}}}, "space.lr is drawn by its logarithm, expected low above 0"),
        ({"space": {"seed": [1, 2]}}, "seed is an axis and in the space, expected one of them"),
        ({"judge": "test"}, "judge is 'test', expected one of the points encode, train"),
        ({"goals": {}}, "goals is {}, expected METRIC: maximize or METRIC: minimize"),
        ({"goals": {"top1_pct": "up"}}, "expected METRIC: maximize"),
        ({"limits": {"rgb_pct": 20}}, "limits.rgb_pct is 20, expected {at_most: ...} or {at_least: ...}"),
        ({"trials": 0}, "trials is 0, expected an integer of at least 1"),
    ],
)
def test_a_search_that_is_not_in_order_is_refused_with_the_place(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("{", r"\{").replace(".", r"\.")):
        search(**changes)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"depth": "3"}, "a trial chooses depth, expected depth, optimize.lr, net"),
        (CHOICES | {"depth": "7"}, "a trial chooses depth 7, which is not in the space"),
        (CHOICES | {"net": "b"}, "a trial chooses net b, which is not in the space"),
    ],
)
def test_choices_of_another_space_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        search().require(choices)
