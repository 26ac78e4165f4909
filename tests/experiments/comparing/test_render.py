import csv
import io
import json

import pytest

from experiments.reporting.comparing.baseline import against, baselines
from experiments.reporting.comparing.groups import rows_of
from experiments.reporting.comparing.render import Comparison, as_aligned, figure, grid, render
from experiments.reporting.comparing.where import known_keys
from tests.logged import made

TOP1 = {"inr": [50.0, 51.0, 53.0], "resident": [54.0, 55.0, 54.5], "ram_100%": [54.25]}


def compared(*, baseline: str | None = "resident", metrics=("top1_pct", "store_bytes")) -> Comparison:
    runs = [
        made(
            f"{pipeline}/{seed}", config={"pipeline": {"name": pipeline}, "seed": seed},
            metrics={"top1_pct": value} | ({"store_bytes": 4210000} if pipeline == "inr" else {}),
        )
        for pipeline, values in TOP1.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    runs.append(made("inr/3", config={"pipeline": {"name": "inr"}, "seed": 3}, status="dead"))
    rows = rows_of(runs, ["pipeline"])
    bases = [] if baseline is None else baselines(rows, baseline, runs)
    return Comparison("train", rows, metrics, frozenset(known_keys(runs)), bases, against(rows, bases, metrics) if bases else [])


def test_a_terminals_table_is_aligned():
    assert render(compared(), "table").splitlines() == [
        "pipeline  n  status                  top1_pct            Δ top1_pct    store_bytes  Δ store_bytes",
        "────────  ─  ──────────────────  ────────────  ────────────────────  ─────────────  ─────────────",
        "inr       3  3 finished, 1 dead  51.33 ± 1.53  -3.17 x0.942 p=0.058  4,210,000 ± 0              —",
        "ram_100%  1  finished                   54.25          -0.25 x0.995              —              —",
        "resident  3  finished            54.50 ± 0.50              baseline              —       baseline",
    ]


def test_markdown_is_a_table_with_numbers_on_the_right():
    lines = render(compared(baseline=None, metrics=["top1_pct"]), "md").splitlines()
    assert lines == [
        "| pipeline | n | status | top1_pct |",
        "|---|--:|---|--:|",
        "| inr | 3 | 3 finished, 1 dead | 51.33 ± 1.53 |",
        "| ram_100% | 1 | finished | 54.25 |",
        "| resident | 3 | finished | 54.50 ± 0.50 |",
    ]


def test_latex_has_booktabs_and_no_letter_that_breaks_it():
    text = render(compared(metrics=["top1_pct"]), "latex")
    lines = text.splitlines()
    assert lines[:3] == [r"\begin{tabular}{lrlrr}", r"\toprule", r"pipeline & n & status & top1\_pct & $\Delta$ top1\_pct \\"]
    assert lines[5] == r"ram\_100\% & 1 & finished & 54.25 & -0.25 x0.995 \\"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert not set("±Δ—") & set(text)


def test_csv_has_every_number_in_full_and_keys_by_their_whole_names():
    rows = list(csv.DictReader(io.StringIO(render(compared(), "csv"))))
    assert list(rows[0]) == [
        "pipeline", "runs", "n", "status",
        "top1_pct", "top1_pct_std", "top1_pct_n", "top1_pct_delta", "top1_pct_ratio", "top1_pct_p",
        "store_bytes", "store_bytes_std", "store_bytes_n", "store_bytes_delta", "store_bytes_ratio", "store_bytes_p",
    ]  # fmt: skip
    assert float(rows[0]["top1_pct"]) == 154 / 3
    assert rows[0]["runs"].split() == ["inr/0", "inr/1", "inr/2", "inr/3"]
    assert (rows[1]["top1_pct_std"], rows[1]["top1_pct_p"], rows[2]["top1_pct_delta"]) == ("", "", "")


def test_json_says_everything():
    told = json.loads(render(compared(), "json"))
    assert told["verb"] == "train"
    row = told["rows"][0]
    assert (row["keys"], row["n"], row["status"]) == ({"pipeline": "inr"}, 3, "3 finished, 1 dead")
    assert row["metrics"]["top1_pct"].keys() == {"mean", "std", "n", "values", "unit", "delta", "ratio", "p"}
    assert row["metrics"]["top1_pct"]["values"] == TOP1["inr"]
    assert (row["metrics"]["top1_pct"]["unit"], row["metrics"]["store_bytes"]["unit"]) == ("%", "bytes")
    assert "delta" not in told["rows"][2]["metrics"]["top1_pct"]  # the baseline's own


def test_single_runs_are_named_and_told_without_n():
    runs = [made("a", config={"x": None}, metrics={"psnr_db": 30.0}), made("b", config={"x": 1.5}, metrics={"psnr_db": 31.25})]
    table = grid(Comparison("encode", rows_of(runs, ["x"]), ["psnr_db"], frozenset(known_keys(runs))))
    assert [head.text for head in table.heads] == ["x", "run", "status", "psnr_db"]
    assert table.rows == [["1.5", "b", "finished", "31.25"], ["—", "a", "finished", "30.00"]]
    table = grid(Comparison("encode", rows_of(runs, ["run"]), ["psnr_db"], frozenset(known_keys(runs))))
    assert [head.text for head in table.heads] == ["run", "status", "psnr_db"]


def test_a_metric_that_not_all_runs_of_a_row_have_says_of_how_many_it_is():
    runs = [made("a", metrics={"psnr_db": 30.0, "x": 2.0}), made("b", metrics={"psnr_db": 31.0})]
    table = grid(Comparison("encode", rows_of(runs, []), ["psnr_db", "x"], frozenset(known_keys(runs))))
    assert table.rows == [["2", "finished", "30.50 ± 0.71", "2 (n=1)"]]


def test_only_a_terminal_cuts_long_cells_and_never_a_path():
    runs = [made("a", config={"x": list(range(40))}), made("b", config={"x": "some/" * 12})]
    table = grid(Comparison("encode", rows_of(runs, ["x"]), [], frozenset({"x"})))
    aligned = as_aligned(table)
    assert "38, 39]" in table.rows[0][0]
    assert "…" in aligned
    assert "some/" * 12 in aligned


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("psnr_db", 30.0, "30.00"), ("top1_pct", 53.746, "53.75"), ("store_bytes", 4210000, "4,210,000"), ("epochs", 6.0, "6"),
        ("images_per_s", 397.884, "397.9"), ("images_per_s", 12345.6, "12,346"), ("loss", 0.012345, "0.01235"),
    ],
)  # fmt: skip
def test_numbers_are_told_as_exactly_as_they_mean(metric, value, text):
    assert figure(metric, value) == text
    assert figure(metric, value, signed=True) == f"+{text}"


def test_a_tiny_chance_is_told_as_a_bound():
    runs = [made(f"{x}{i}", config={"x": x}, metrics={"v": 100 * x + i}) for x in (1, 2) for i in range(3)]
    rows = rows_of(runs, ["x"])
    bases = baselines(rows, "1", runs)
    table = grid(Comparison("train", rows, ["v"], frozenset({"x"}), bases, against(rows, bases, ["v"])))
    assert table.rows[1][-1] == "+100 x1.99 p<0.001"
