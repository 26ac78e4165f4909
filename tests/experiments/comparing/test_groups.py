import pytest

from experiments.reporting.comparing.groups import SEEDS, differing, headlines, in_order, rows_of
from tests.logged import made


def trained(run: str, *, seed: int, pipeline: str = "inr", top1: float | None = None, **more):
    config = {"seed": seed, "run_dir": f"runs/{run}", "pipeline": {"name": pipeline}, "optimizer": {"epochs": 6}}
    return made(run, config=config | more.pop("config", {}), metrics={} if top1 is None else {"top1_pct": top1}, **more)


def test_only_what_differs_is_told_and_not_what_changes_no_result():
    runs = [trained("a", seed=0), trained("b", seed=1, pipeline="resident"), trained("c", seed=2)]
    assert differing(runs) == ["pipeline", "seed"]
    assert differing(runs, but=SEEDS) == ["pipeline"]


def test_a_key_that_some_runs_lack_differs():
    runs = [trained("a", seed=0), trained("b", seed=0, config={"resume_from": 3})]
    assert differing(runs) == ["resume_from"]


def test_true_and_one_are_different_and_one_is_one_as_a_float():
    assert differing([made(config={"x": True}), made(config={"x": 1})]) == ["x"]
    assert differing([made(config={"x": 1.0}), made(config={"x": 1})]) == []


def test_the_shape_of_an_inr_is_told_as_one():
    shapes = [{"inr": {"depth": depth, "hidden": 16, "omega": omega}} for depth, omega in ((3, 15), (4, 15), (4, 30))]
    assert differing([made(config=config) for config in shapes]) == ["inr", "inr.omega"]


def test_a_store_is_told_by_the_settings_of_its_maker_where_they_are_known():
    bits = [
        {"store": f"{b}.inr", "store.quantize.bits": b, "store.seed": 0, "store.inr": "3x16", "store.inr.depth": 3}
        for b in (8, 6)
    ]
    assert differing([made(config=config) for config in bits]) == ["store.quantize.bits"]
    assert differing([made(config=bits[0]), made(config={"store": "unknown.inr"})]) == ["store"]
    assert differing([made(config=bits[0]), made(config={"store": None})]) == []  # whose pipelines differ


def test_runs_that_differ_in_their_seeds_are_a_row_with_mean_and_std():
    runs = [
        trained("a", seed=0, top1=50.0),
        trained("b", seed=1, top1=54.0),
        trained("c", seed=0, top1=60.0, pipeline="resident"),
    ]
    inr, resident = rows_of(runs, ["pipeline"])
    assert inr.keys == {"pipeline": "inr"}
    assert (inr.spread("top1_pct").mean, inr.spread("top1_pct").n) == (52.0, 2)
    assert inr.spread("top1_pct").std == pytest.approx(8**0.5)
    assert (resident.spread("top1_pct").mean, resident.spread("top1_pct").std) == (60.0, None)
    assert inr.spread("loss") is None


def test_only_finished_runs_are_averaged_and_the_status_counts_the_others():
    runs = [trained("a", seed=0, top1=50.0), trained("b", seed=1, top1=0.0, status="failed"), trained("c", seed=2, status="dead")]
    (row,) = rows_of(runs, [])
    assert (row.spread("top1_pct").mean, row.spread("top1_pct").n) == (50.0, 1)
    assert row.status == "1 finished, 1 failed, 1 dead"
    assert [rows_of(runs[i:], [])[0].status for i in (1, 2)] == ["1 failed, 1 dead", "dead"]


def test_a_status_that_nobody_foresaw_is_shown_too():
    (row,) = rows_of([made("a"), made("b", status="preempting"), made("c", status="preempting")], [])
    assert row.status == "1 finished, 2 preempting"


def test_what_is_no_finite_number_is_not_averaged():
    metrics = [{"x": 1.0, "device": "cpu"}, {"x": float("inf"), "ok": True}, {"x": None, "points": [1]}]
    (row,) = rows_of([made(str(i), metrics=some) for i, some in enumerate(metrics)], [])
    assert row.metrics() == ["x"]
    assert (row.spread("x").mean, row.spread("x").n) == (1.0, 1)


def test_runs_of_different_code_are_not_averaged_unless_told():
    runs = [trained("a", seed=0, top1=50.0, code="aaaa"), trained("b", seed=1, top1=52.0, code="bbbb")]
    with pytest.raises(
        ValueError, match=r"^2 runs \(pipeline=inr\) are of 2 versions of the code, aaaa, bbbb: where=code=... takes"
    ):
        rows_of(runs, ["pipeline"])
    assert rows_of(runs, ["pipeline"], any_code=True)[0].spread("top1_pct").n == 2
    assert len(rows_of(runs, ["pipeline", "code"])) == 2
    assert len(rows_of(runs, [], each=True)) == 2


def test_code_that_came_to_nothing_stops_no_average():
    runs = [trained("a", seed=0, top1=50.0, code="aaaa"), trained("b", seed=1, code="bbbb", status="failed")]
    assert rows_of(runs, [])[0].spread("top1_pct").n == 1


def test_code_is_known_by_its_digest_or_a_clean_commit():
    assert made(code="d", commit="e", dirty=True).code == "d"
    assert made(code=None, commit="e", dirty=False).code == "e"
    assert made(code=None, commit="e", dirty=True).code is None
    assert made(code=None).code is None


def test_rows_are_in_the_order_of_numbers_shapes_and_texts():
    shapes = ["10x40", "3x16", "5x13", None, "other"]
    rows = rows_of([made(str(i), config={"shape": shape, "n": 10 - i}) for i, shape in enumerate(shapes)], ["shape"])
    assert [row.keys["shape"] for row in rows] == ["3x16", "5x13", "10x40", "other", None]
    rows = rows_of([made(str(n), config={"n": n}) for n in (10, 9, 100)], ["n"])
    assert [row.keys["n"] for row in rows] == [9, 10, 100]


def test_rows_sort_by_keys_facts_and_means_and_what_lacks_them_comes_last():
    tops = {"a": 50.0, "b": None, "c": 60.0}
    runs = [trained(name, seed=0, top1=top, started=f"2026-01-0{9 - i}") for i, (name, top) in enumerate(tops.items())]
    rows = rows_of(runs, ["run"])
    assert [row.keys["run"] for row in in_order(rows, "top1_pct")] == ["a", "c", "b"]
    assert [row.keys["run"] for row in in_order(rows, "top1_pct", falling=True)] == ["c", "a", "b"]
    assert [row.keys["run"] for row in in_order(rows, "started")] == ["c", "b", "a"]
    assert [row.keys["run"] for row in in_order(rows, "run", falling=True)] == ["c", "b", "a"]


def test_headlines_come_first_and_without_any_what_there_is():
    assert headlines(rows_of([made(metrics={"images": 3, "bpp": 2.0, "psnr_db": 30.0})], [])) == ["psnr_db", "bpp"]
    assert headlines(rows_of([made(metrics={"images": 3, "omega": 30})], [])) == ["images", "omega"]
