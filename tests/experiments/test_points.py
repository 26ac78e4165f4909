import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.points import Point, expand, levels, matching, quoted


def experiment(**points):
    axes = {"seed": [0, 1], "shape": {"small": "inr=2x8", "large": ["inr=3x16", ["fit.steps=9"]]}}
    return {"axes": axes, "points": points}


def point(name, *overrides):
    return Point(name, name, "encode", overrides, {})


def test_a_point_is_a_combination_of_its_axes_with_a_name_overrides_and_labels():
    group = {"verb": "encode", "over": ["shape", "seed"], "set": ["a=1", ["b=<seed>"]], "labels": {"curve": "INR <shape>"}}
    found = expand(experiment(fit=group))
    assert [p.name for p in found] == ["fit-small-0", "fit-small-1", "fit-large-0", "fit-large-1"]
    assert found[3].verb == "encode"
    assert found[3].overrides == ("a=1", "b=1", "inr=3x16", "fit.steps=9", "seed=1")
    assert found[3].labels == {"shape": "large", "seed": "1", "curve": "INR large"}


def test_an_axis_in_brackets_gives_its_labels_alone():
    found = expand(experiment(train={"verb": "train", "over": ["<shape>", "seed"], "set": ["store=<shape>.inr"]}))
    assert [p.name for p in found] == ["train-small-0", "train-small-1", "train-large-0", "train-large-1"]
    assert found[3].overrides == ("store=large.inr", "seed=1")
    assert found[3].labels == {"shape": "large", "seed": "1"}


def test_a_group_without_axes_is_one_point_of_its_own_name():
    assert [p.name for p in expand(experiment(alone={"verb": "train"}))] == ["alone"]
    assert [p.name for p in expand(experiment(alone={"verb": "train", "over": ["seed"], "name": "s<seed>"}))] == ["s0", "s1"]


def test_what_is_null_is_left_out():
    config = experiment(gone=None, fit={"verb": "encode", "over": ["shape"]})
    config["axes"]["shape"]["small"] = None
    assert [p.name for p in expand(config)] == ["fit-large"]


def test_references_are_paths_and_say_what_must_come_first():
    reader = point("b", "store=@a/store.inr", "out=@/pictures", "note=me@home/x")
    assert reader.needs == ("a",)
    assert reader.overrides_in("runs/x") == ["store=runs/x/a/store.inr", "out=runs/x/b/pictures", "note=me@home/x"]


def test_a_pattern_in_a_reference_is_the_list_of_all_other_points_that_match():
    groups = {"fit": {"verb": "encode", "over": ["seed"], "set": ["out=@/a.inr"]}}
    groups["fit-all"] = {"verb": "sheet", "set": ["stores=@fit-*/a.inr", "more=[b,@fit-0/c]"]}
    found = expand(experiment(**groups))[-1]
    assert found.needs == ("fit-0", "fit-1")
    assert found.overrides_in("runs/x") == ["stores=[runs/x/fit-0/a.inr,runs/x/fit-1/a.inr]", "more=[b,runs/x/fit-0/c]"]


@pytest.mark.parametrize("text", ["runs/a-1.b", "my runs/it's", "a\\'b", "{x: [1,2]}", "null", "ein Grüß,e"])
def test_hydra_reads_back_what_was_quoted(text):
    value = OverridesParser.create().parse_override(f"run_dir={quoted(text)}").value()
    assert (None if text == "null" else text) == value


def test_points_come_after_those_that_they_read_from():
    points = [point("c", "x=@b/1"), point("a"), point("b", "x=@a/1"), point("d", "x=@a/1", "y=@b/2")]
    assert [[p.name for p in level] for level in levels(points)] == [["a"], ["b"], ["c", "d"]]


def test_points_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="points wait for each other: a, b"):
        levels([point("a", "x=@b/1"), point("b", "x=@a/1"), point("c")])


def test_a_pattern_takes_what_its_points_read_from_along():
    points = [point("a-1"), point("b", "x=@a-1/f"), point("c-1", "x=@b/f"), point("c-2")]
    assert [p.name for p in matching(points, ["c-1"])] == ["a-1", "b", "c-1"]
    assert [p.name for p in matching(points, ["a*", "*2"])] == ["a-1", "c-2"]
    assert matching(points, None) == points
    with pytest.raises(ValueError, match=r"only=z\* matches no point"):
        matching(points, ["a*", "z*"])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"set": []}, "points.bad has no verb"),
        ({"verb": "encode", "sets": []}, "points.bad has sets, expected of labels, name, over, set, verb"),
        ({"verb": "encode", "over": ["size"]}, "points.bad goes over size, expected one of the axes seed, shape"),
        ({"verb": "encode", "set": ["fit"]}, "'fit' is no override, expected KEY=VALUE"),
        ({"verb": "encode", "over": ["seed"], "name": "same"}, "two points are called same"),
        ({"verb": "encode", "name": "a/b"}, "a point is called 'a/b', expected letters"),
        ({"verb": "encode", "set": ["store=@other/x"]}, "point bad reads from other, which is no point"),
        ({"verb": "encode", "set": ["store=@ba*/x"]}, r"point bad reads from ba\*, which no other point"),
    ],
)
def test_an_experiment_that_is_not_in_order_is_refused_where_it_is_not(group, message):
    with pytest.raises(ValueError, match=message):
        expand(experiment(bad=group))
