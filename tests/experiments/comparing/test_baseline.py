import pytest
from scipy import stats

from experiments.reporting.comparing.baseline import Against, against, baselines, welch_p
from experiments.reporting.comparing.groups import rows_of
from experiments.reporting.summaries import summarise
from tests.logged import made


def study(top1: dict[tuple[str, int], list[float]]):
    runs = [
        made(f"{pipeline}-{width}-{seed}", config={"pipeline": {"name": pipeline}, "width": width}, metrics={"top1_pct": value})
        for (pipeline, width), values in top1.items()
        for seed, value in enumerate(values)
    ]
    return runs, rows_of(runs, ["pipeline", "width"])


TWO = {("inr", 8): [50.0, 51.0, 53.0], ("resident", 8): [54.0, 55.0, 54.5]}
FOUR = TWO | {("inr", 16): [60.0], ("resident", 16): [64.0]}


@pytest.mark.parametrize("asked", ["resident", "pipeline=resident", "pipeline=resident,width>4", "resident-8-1"])
def test_a_baseline_is_named_by_a_cell_by_conditions_or_by_a_run(asked):
    runs, rows = study(TWO)
    assert baselines(rows, asked, runs) == [rows[1], rows[1]]


def test_each_row_has_the_baseline_that_agrees_with_it_in_the_rest():
    runs, rows = study(FOUR)
    assert [row.keys for row in rows] == [{"pipeline": p, "width": w} for p in ("inr", "resident") for w in (8, 16)]
    assert baselines(rows, "resident", runs) == [rows[2], rows[3], rows[2], rows[3]]
    assert baselines(rows, "width=8", runs) == [rows[0], rows[0], rows[2], rows[2]]
    assert baselines(rows, "pipeline=resident,width=8", runs) == [rows[2]] * 4


def test_a_row_without_its_counterpart_has_no_baseline():
    runs, rows = study(FOUR | {("ram", 4): [1.0]})
    assert baselines(rows, "resident", runs)[-3:] == [None, rows[3], rows[4]]


@pytest.mark.parametrize("asked", ["dali", "pipeline=dali", "width>100"])
def test_a_baseline_that_is_no_row_is_refused(asked):
    runs, rows = study(TWO)
    with pytest.raises(ValueError, match="is no row of this table"):
        baselines(rows, asked, runs)


def test_runs_each_in_a_row_that_differ_in_nothing_are_no_baseline_together():
    runs = [made(name, config={"width": 8}) for name in ("a", "b")]
    rows = rows_of(runs, [], each=True)
    with pytest.raises(ValueError, match="means 2 rows that differ in no key, expected one; name its run"):
        baselines(rows, "width=8", runs)
    assert baselines(rows, "b", runs) == [rows[1], rows[1]]


def test_a_row_is_told_by_difference_ratio_and_welchs_p():
    runs, rows = study(FOUR)
    found = against(rows, baselines(rows, "resident", runs), ["top1_pct", "loss"])
    expected = stats.ttest_ind(TWO["inr", 8], TWO["resident", 8], equal_var=False).pvalue
    assert found[0]["top1_pct"].delta == pytest.approx(154 / 3 - 54.5)
    assert found[0]["top1_pct"].ratio == pytest.approx(154 / 3 / 54.5)
    assert found[0]["top1_pct"].p == pytest.approx(expected, rel=1e-9)
    assert found[1]["top1_pct"] == Against(-4.0, 60 / 64, None)  # one run on either side says nothing of chance
    assert found[2:] == [{}, {}]  # the baselines themselves


def test_nothing_is_told_of_a_row_without_baseline_or_metric():
    runs, rows = study(FOUR | {("ram", 4): [1.0]})
    found = against(rows, baselines(rows, "resident", runs), ["top1_pct", "loss"])
    assert found[2] == {}
    assert set(found[0]) == {"top1_pct"}


def test_a_baseline_of_zero_has_no_ratio():
    runs, rows = study({("a", 8): [3.0], ("b", 8): [0.0]})
    assert against(rows, baselines(rows, "b", runs), ["top1_pct"])[0]["top1_pct"] == Against(3.0, None, None)


@pytest.mark.parametrize(
    ("left", "right"),
    [([1.0, 2.0], [1.5, 9.0, 4.0]), ([5.0, 5.0], [5.1, 5.2]), ([1e6, 1e6 + 1], [1e6 + 2, 1e6 + 5]), ([1.0, 2.0], [1.0, 2.0])],
)
@pytest.mark.filterwarnings("ignore:Precision loss")  # of scipy, at values that are equal
def test_p_is_that_of_scipys_test(left, right):
    (p,) = welch_p([(summarise(left), summarise(right))])
    assert p == pytest.approx(stats.ttest_ind(left, right, equal_var=False).pvalue, rel=1e-9)


@pytest.mark.parametrize(("left", "right"), [([1.0], [2.0, 3.0]), ([1.0, 2.0], [3.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_p_is_unknown_of_single_runs_and_where_nothing_varies(left, right):
    assert welch_p([(summarise(left), summarise(right))]) == [None]
