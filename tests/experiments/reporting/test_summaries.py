import math

import pytest

from experiments.reporting.summaries import PointRun, Quantity, Summary, Term, break_even_epochs, evaluate, rows_of, summarise


def point(verb="train", status="finished", **facts):
    metrics = {key: value for key, value in facts.items() if isinstance(value, float | bool) or value is None}
    labels = {key: value for key, value in facts.items() if isinstance(value, str)}
    return PointRun("-".join([verb, *labels.values()]), verb, labels, status=status, metrics=metrics)


TOP1 = Quantity("metric", (Term("top1_pct"),))
LOST = Quantity("difference", (Term("top1_pct", {"arm": "raw"}), Term("top1_pct")))
RUNS = [
    point(dataset="a", arm="raw", seed="0", top1_pct=90.0),
    point(dataset="a", arm="raw", seed="1", top1_pct=94.0),
    point(dataset="a", arm="INR", net="s", seed="0", top1_pct=89.0),
    point(dataset="a", arm="INR", net="s", seed="1", top1_pct=92.0),
    point(dataset="a", arm="INR", net="l", seed="1", top1_pct=91.0),
    point(dataset="b", arm="INR", net="s", seed="0", status="failed"),
]


def test_a_summary_has_the_mean_the_sample_deviation_and_the_count():
    assert summarise([1.0, 2.0, 6.0]) == Summary(3.0, pytest.approx(math.sqrt(7)), 3)
    assert summarise([4.0]) == Summary(4.0, None, 1)
    assert summarise([]) is None


def test_an_infinite_value_makes_the_mean_infinite_and_leaves_no_deviation():
    assert summarise([1.0, math.inf]) == Summary(math.inf, None, 2)


def test_a_row_is_a_combination_of_labels_and_a_mean_over_the_seeds():
    rows = rows_of({"top1_pct": TOP1}, RUNS, RUNS)
    assert [row.labels for row in rows] == [
        {"dataset": "a", "arm": "raw"},
        {"dataset": "a", "arm": "INR", "net": "s"},
        {"dataset": "a", "arm": "INR", "net": "l"},
        {"dataset": "b", "arm": "INR", "net": "s"},
    ]
    assert [row.values["top1_pct"] and (row.values["top1_pct"].mean, row.values["top1_pct"].n) for row in rows] == [
        (92.0, 2), (90.5, 2), (91.0, 1), None,
    ]  # fmt: skip


def test_rows_of_one_label_stand_together():
    rows = rows_of({"top1_pct": TOP1}, RUNS, RUNS, ["net", "seed"])
    assert [tuple(row.labels.values()) for row in rows] == [("0",), ("1",), ("s", "0"), ("s", "1"), ("l", "1")]


def test_seeds_are_paired_and_a_label_that_the_other_point_lacks_fits_any():
    rows = rows_of({"lost": LOST}, [run for run in RUNS if run.labels["arm"] == "INR"], RUNS, ["dataset", "net"])
    assert [row.values["lost"] for row in rows] == [Summary(1.5, pytest.approx(math.sqrt(0.5)), 2), Summary(3.0, None, 1), None]


def test_a_point_is_not_compared_with_itself():
    assert evaluate(LOST, RUNS[0], RUNS) is None
    assert evaluate(Quantity("ratio", (Term("top1_pct"), Term("top1_pct"))), RUNS[0], RUNS) is None


def test_two_metrics_of_one_point_can_be_compared():
    speed = point("benchmark", workers="1", inr_images_per_s=900.0, loader_images_per_s=150.0, none_images_per_s=0.0)
    assert evaluate(Quantity("ratio", (Term("inr_images_per_s"), Term("loader_images_per_s"))), speed, [speed]) == 6.0
    assert evaluate(Quantity("ratio", (Term("inr_images_per_s"), Term("none_images_per_s"))), speed, [speed]) is None


def test_what_has_none_of_the_quantities_is_no_row_unless_it_has_not_finished():
    assert rows_of({"psnr_db": Quantity("metric", (Term("psnr_db"),))}, RUNS[:2], RUNS) == []
    rows = rows_of({"psnr_db": Quantity("metric", (Term("psnr_db"),))}, RUNS, RUNS)
    assert [row.labels["dataset"] for row in rows] == ["b"]


@pytest.mark.parametrize("value", [None, True])
def test_a_metric_that_is_no_number_is_absent(value):
    run = point(dataset="a", top1_pct=value)
    assert evaluate(TOP1, run, [run]) is None


def test_a_term_finds_the_point_of_another_command():
    encode, other = point("encode", dataset="a", encode_ms_per_image=20.0), point("encode", dataset="b", encode_ms_per_image=9.0)
    speed = point("benchmark", dataset="a", workers="1", loader=100.0, inr=200.0)
    break_even = Quantity("break_even", (Term("encode_ms_per_image", verb="encode"), Term("loader"), Term("inr")))
    assert evaluate(break_even, speed, [other, encode, speed]) == pytest.approx(4.0)
    assert evaluate(break_even, speed, [other, speed]) is None


def test_a_point_without_the_label_that_a_term_fixes_is_not_meant():
    own, plain = point(dataset="a", arm="INR", top1_pct=90.0), point(dataset="a", top1_pct=50.0)
    raw = point(dataset="a", arm="raw", top1_pct=91.0)
    assert evaluate(LOST, own, [plain, own, raw]) == 1.0
    assert evaluate(LOST, own, [plain, own]) is None


def test_two_points_that_fit_a_term_are_named():
    with pytest.raises(
        ValueError, match="top1_pct of arm=INR beside train-a-raw-1 may be that of train-a-INR-s-1 or train-a-INR-l-1"
    ):
        evaluate(Quantity("difference", (Term("top1_pct"), Term("top1_pct", {"arm": "INR"}))), RUNS[1], RUNS)


def test_encoding_pays_back_after_as_many_epochs_as_its_time_takes_to_be_saved():
    # an epoch of 1,000 images takes 10 s from files and 5 s from INRs; encoding them took 25 s
    assert break_even_epochs(25.0, 100.0, 200.0) == pytest.approx(5.0)
    assert break_even_epochs(25.0, 200.0, 200.0) == math.inf
    assert break_even_epochs(25.0, 200.0, 100.0) == math.inf
