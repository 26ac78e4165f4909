"""From the records of an experiment to its tables in every form, beside what the paper claims."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from experiments.reporting import tables
from experiments.reporting.cells import Gap, Link, Measured, gap, listed, measured, summarize, value_of
from experiments.reporting.formats import cell_text, to_csv, to_latex, to_markdown
from experiments.reporting.open_questions import growth
from experiments.reporting.paper_tables import accuracy, break_even
from experiments.reporting.run_tables import RUN_TABLES, runs_of_their_own
from experiments.reporting.runs import read_runs
from experiments.reporting.tables import Table, made_tables
from experiments.tables import experiment_markdown, filled, write_table
from rapid_inr.errors import UserError
from tests.experiments.reporting.written import SAMPLE, write_run, write_sample

ROOT = Path(__file__).parents[3]
PARTS = ("cifar10", "kodak-224", "photos")  # of rate_distortion
PAGES = (
    "README.md", "docs/results.md", "docs/tables.md", "docs/compression.md",
    *(f"docs/rate_distortion/{name}.md" for name in PARTS),
)  # fmt: skip
SAMPLE_MARKDOWN = """\
**Memory.** Preset cpu; 2 cores, Fast.

| dataset | % of RGB | stored bytes | records |
|---|--:|--:|---|
| a | 5.0 | 1,234,567 | [record](runs/sample/cpu/encode-a/record.json) |

| claim | dataset | paper | ours ± spread (n) | delta | within the claim? | records |
|---|---|---|--:|--:|---|---|
| stored dataset, of its raw RGB bytes | a | about 5% | 5.0 (1) | +0.0 | yes | [record](runs/sample/cpu/encode-a/record.json) |
| formula of the quantizer | a | — | 1,234,567 (1) | — | — | [record](runs/sample/cpu/encode-a/record.json) |

**Accuracy.** Preset cpu; 2 cores, Fast; mean ± standard deviation over the runs of a row; a difference ± its standard error; \
one below 2 standard errors is marked "no difference told".

| dataset | codec | variant | top-1, % | points lost | n | records |
|---|---|---|--:|---|--:|---|
| a | SIREN | s | 90.50 ± 2.12 | 1.50 ± 2.50, no difference told | 2 | \
[1](runs/sample/cpu/inr-a-s-0/record.json) [2](runs/sample/cpu/inr-a-s-1/record.json) |
| a | raw | — | 92.00 ± 2.83 | — | 2 | [1](runs/sample/cpu/raw-a-0/record.json) [2](runs/sample/cpu/raw-a-1/record.json) |
| b | raw | — | 70.00 | — | 1 | [record](runs/sample/cpu/raw-b-0/record.json) |

| claim | dataset | codec | variant | paper | ours ± spread (n) | delta | within the claim? | records |
|---|---|---|---|---|--:|--:|---|---|
| top-1 lost against training from raw images (the abstract says "marginal") | a | SIREN | s | about 2 points | 1.50 ± 2.50 \
(2) | -0.50 | yes, not surely | [1](runs/sample/cpu/inr-a-s-0/record.json) [2](runs/sample/cpu/inr-a-s-1/record.json) |

- not measured: sample/cpu/encode-b: failed, ValueError: it | broke"""


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Leave the sample's records in runs/ of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(tables.TABLES, "sample", SAMPLE)
    return write_sample(Path("runs"))


def printed(root, name="sample", *, linked_from=Path(), **options):
    return experiment_markdown(read_runs(root), name, linked_from=linked_from, **options)


def test_the_tables_of_an_experiment_are_printed_with_its_claims_and_with_what_failed(sample):
    assert printed(sample) == SAMPLE_MARKDOWN
    assert "[record](../runs/sample/cpu/encode-a/record.json)" in printed(sample, linked_from=Path("docs"))


def test_presets_are_never_mixed_and_smoke_proves_no_claim(sample):
    write_sample(sample, preset="smoke")
    write_sample(sample, preset="small")
    made = made_tables(read_runs(sample), "sample")
    assert [table.preset for table in made] == [preset for preset in ("cpu", "small", "smoke") for _ in range(2)]
    assert [table.name for table in made] == ["memory", "accuracy"] * 3
    assert [len(table.claims) for table in made] == [2, 1, 2, 0, 0, 0]  # `small` is too small to decide about accuracy
    assert [table.name for table in made_tables(read_runs(sample), "sample", preset="cpu")] == ["memory", "accuracy"]
    compared = ["not compared with the paper" in table.note for table in made]
    assert compared == [False, False, False, False, True, True]


def test_a_preset_without_runs_names_those_that_have_some(sample):
    assert "No finished run of preset paper; there are runs of cpu." in printed(sample, preset="paper")
    assert printed(sample, "other", preset="paper") == "Not measured yet."


def test_the_tables_of_a_preset_list_the_failed_runs_of_that_preset_alone(sample):
    write_sample(sample, preset="small")
    text = printed(sample, preset="small")
    assert [line.split(": ")[1] for line in text.splitlines() if "not measured" in line] == ["sample/small/encode-b"]


def test_a_run_that_is_there_twice_is_refused(sample):
    write_sample(sample / "again")
    with pytest.raises(UserError, match=r"sample/cpu/.* is there twice"):
        made_tables(read_runs(sample), "sample")


def test_runs_whose_settings_were_edited_in_between_are_named(sample, capsys):
    for seed in range(2):
        options = {"dataset": {"name": "shapes"}, "labels": {"dataset": "c", "codec": "raw"}, "optimizer": {"epochs": 5 + seed}}
        config = options | {"experiment_name": "sample", "preset": "cpu", "seed": seed}
        write_run(Path(f"runs/sample/cpu/c-{seed}"), config=config, seed=seed, metrics={"top1_pct": 50.0 + seed})
    printed(sample)
    assert capsys.readouterr().err == ("warning [averaged_over]: rows of accuracy average runs that differ in optimizer.epochs\n")


def test_the_title_names_the_dataset_and_the_commands_make_a_variant_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setitem(tables.TABLES, "accuracy", [Table("accuracy", "Networks on {dataset}", accuracy)])
    choice = {"experiment_name": "accuracy", "preset": "smoke", "dataset": {"name": "shapes"}}
    for variant, seed in [("mine", 0), ("mine", 1), ("raw", 0)]:
        write_run(
            tmp_path / f"{variant}-{seed}", config=choice | {"labels": {"codec": variant, "variant": variant}}, seed=seed,
            metrics={"top1_pct": 50.0},
            command=f"python -m experiments.train experiment=accuracy/smoke variant={variant} seed={seed} overwrite=true",
        )  # fmt: skip
    text = printed(tmp_path, "accuracy")
    assert "**Networks on shapes.**" in text
    assert "    python -m experiments.train -m experiment=accuracy/smoke variant=mine,raw seed=0,1" in text.splitlines()


def test_an_experiment_without_tables_has_one_of_what_its_runs_have(sample, monkeypatch):
    monkeypatch.delitem(tables.TABLES, "sample")
    text = printed(sample)
    assert "| verb | dataset | codec | variant | % of RGB | top-1, % | n | records |" in text


def test_a_table_is_written_in_every_form(sample):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    made = made_tables(read_runs(sample), "sample")
    assert {write_table(table, Path("out")) for table in made} == {Path("out/sample/cpu")}
    folder = Path("out/sample/cpu")
    assert "[record](../../../runs/sample/cpu/encode-a/record.json)" in (folder / "memory.md").read_text()
    rows = pd.read_csv(folder / "accuracy.csv")
    assert rows["top-1, %"].tolist() == [90.5, 92.0, 70.0]  # numbers in full
    assert rows["top-1, % (n)"].tolist() == [2, 2, 1]
    assert json.loads((folder / "memory_claims.json").read_text())[0]["ours ± spread (n)"] == "5.0 (1)"
    latex = (folder / "accuracy.tex").read_text()
    assert r"a & SIREN & s & 90.50 $\pm$ 2.12 & 1.50 $\pm$ 2.50, no difference told & 2 \\" in latex
    with Image.open(folder / "accuracy.png") as picture:
        assert picture.format == "PNG"


def test_without_matplotlib_all_but_the_pictures_is_written(sample, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for table in made_tables(read_runs(sample), "sample"):
        write_table(table, Path("out"))
    assert not list(Path("out").rglob("*.png"))
    assert Path("out/sample/cpu/accuracy.csv").is_file()
    assert "warning [no_picture]: curves need matplotlib" in capsys.readouterr().err


def test_an_experiment_that_there_is_not_is_refused_by_name(command, sample):
    code, out, err = command("tables", "root=runs", "name=sampel")
    assert (code, out) == (2, "")
    assert re.match("error: name is 'sampel', expected one of .*accuracy, .*sample", err)
    assert command("tables", "root=runs", "name=pruning")[:2] == (0, "\n# pruning\n\nNot measured yet.\n")


def test_links_lead_to_the_line_of_a_run(command, sample):
    code, out, err = command("tables", "root=runs/sample", "records=results/sample/records.jsonl")
    assert (code, out) == (0, "results/sample/records.jsonl: 6 runs below runs/sample are in it\n"), err
    assert '"run": "cpu/encode-a"' in Path("results/sample/records.jsonl").read_text().splitlines()[0]
    assert "[record](../results/sample/records.jsonl#L1)" in printed("results", linked_from=Path("docs"))


def test_blocks_are_filled_and_a_name_that_is_unknown_is_told(sample):
    text = "before\n<!-- experiment:sample -->\nold\n<!-- /experiment:sample -->\nafter"
    made = filled(text, sample, linked_from=Path())
    assert made == f"before\n<!-- experiment:sample -->\n{SAMPLE_MARKDOWN}\n<!-- /experiment:sample -->\nafter"
    assert filled(made, sample, linked_from=Path()) == made
    with pytest.raises(UserError, match=r"a block experiment is 'other', expected one of .*, sample"):
        filled(text.replace("sample", "other"), sample, linked_from=Path())
    with pytest.raises(UserError, match="the text has no block"):
        filled("nothing", sample, linked_from=Path())


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_pages_are_those_of_the_committed_records(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert filled(text, ROOT / "results", linked_from=(ROOT / page).parent) == text


def test_every_committed_run_is_in_a_table_of_a_page():
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    runs = read_runs(ROOT / "results")
    shown = {name for name, (_, make) in RUN_TABLES.items() if len(make(runs_of_their_own(runs)))}
    assert all(f"<!-- results:{name} -->\n|" in pages for name in shown)
    assert all(re.search(rf":{name}[ /]", pages) for name in set(runs.experiment.dropna()))


def test_a_training_that_made_its_store_on_demand_has_its_psnr_on_its_own_record(tmp_path):
    for seed in range(2):
        for codec, metrics in {"raw": {"top1_pct": 81.0}, "SIREN": {"top1_pct": 80.0, "store_psnr_db": 33.0}}.items():
            config = {"experiment_name": "accuracy", "preset": "cpu", "seed": seed, "labels": {"codec": codec}}
            write_run(tmp_path / f"{codec}{seed}", config=config, seed=seed, metrics=metrics)
    rows = accuracy(read_runs(tmp_path))
    shown = rows[["codec", "PSNR, dB", "points lost"]].map(cell_text).to_numpy().tolist()
    assert shown == [["SIREN", "33.00", "1.00"], ["raw", "—", "—"]]
    assert rows["points lost"][0].std == 0
    for seed in range(2):
        metrics = {"store_bytes": 9, "store_psnr_db": 30.0, "inr_device_bytes": 8}
        config = {"experiment_name": "scaling", "preset": "cpu", "seed": seed, "labels": {"part": "growth", "images": 125}}
        write_run(tmp_path / f"speed{seed}", verb="benchmark", config=config, metrics=metrics)
    assert growth(read_runs(tmp_path)).map(cell_text).iloc[0, :6].tolist() == ["125", "9", "8", "—", "—", "30.00"]


def test_a_mean_has_its_deviation_where_there_is_one_to_speak_of():
    assert str(measured([1.0, 2.0, 3.0], 1)) == "2.0 ± 1.0"
    assert str(measured([2.0, 2.0], 1)) == "2.0"
    assert str(measured([1234.5, None, float("nan"), True, "x"], 0)) == "1,234"
    assert str(measured([float("inf"), 1.0], 1)) == "never"
    assert measured([None], 1) is None
    assert measured([613.0, 613.3], 0).text == "613"


def test_a_difference_is_told_only_if_it_is_larger_than_twice_its_standard_error():
    runs = pd.DataFrame({"raw": [90.0, 92.0, 94.0, None], "inr": [88.0, 90.0, 92.0, 0.0]})
    lost = gap(runs, "raw", "inr", 2)
    assert (lost.mean, lost.n) == (2.0, 3)  # the run without a baseline counts for nothing
    assert lost.std == pytest.approx((4 / 3 + 4 / 3) ** 0.5)  # variances of 4 each
    assert str(lost) == "2.00 ± 1.63, no difference told"
    assert str(Gap(3.27, 1.63, 3, 2)) == "3.27 ± 1.63"
    assert str(gap(runs[:1], "raw", "inr", 1)) == "2.0, no difference told"  # one seed tells nothing
    assert gap(runs[3:], "raw", "inr", 1) is None


def speed_run(folder, device, together):
    speeds = {f"{name}_{what}_images_per_s": rate for name, rate in together.items() for what in ("step", "together")}
    loaders = {f"{name}_loader_images_per_s": 7.0 for name in together}
    config = {"experiment_name": "speedup", "preset": "paper", "labels": {"dataset": "d", "workers": 2}}
    metrics = {"device": device, "store_encode_ms_per_image": 10.0, **speeds, **loaders}
    write_run(folder, verb="benchmark", config=config, metrics=metrics)


def test_a_speed_up_is_judged_on_a_gpu_alone(tmp_path):
    speed_run(tmp_path / "gpu" / "a", "cuda", {"inr": 200.0, "dataloader": 100.0})
    speed_run(tmp_path / "cpu" / "a", "cpu", {"inr": 200.0, "dataloader": 100.0})
    (table,) = made_tables(read_runs(tmp_path / "gpu"), "speedup")
    assert table.rows[["workers", "pipeline", "both", "INR over it"]].map(cell_text).to_numpy().tolist() == [
        ["2", "DataLoader", "100", "2.00"], ["2", "INR", "200", "—"],
    ]  # fmt: skip
    assert table.rows["epochs until encoding pays back"].map(cell_text).tolist() == ["2.0", "—"]
    assert [claim.verdict for claim in table.claims] == ["no"]
    (table,) = made_tables(read_runs(tmp_path / "cpu"), "speedup")
    assert list(table.rows) == ["workers", "pipeline", "loader alone", "step alone", "both", "records"]
    assert table.claims == []
    pytest.importorskip("matplotlib")
    table.draw(tmp_path / "speeds.png")
    with Image.open(tmp_path / "speeds.png") as picture:
        assert picture.size == (960, 504)


def test_rows_are_in_the_order_that_a_reader_expects():
    frame = pd.DataFrame({"run": "r", "path": "p", "net": ["10x2", "2x8", None, "0.5 dB", "0.25 dB"], "x": 1.0})
    assert list(summarize(frame, ["net", "absent"], {"x": ("x", 0), "y": ("none", 1)})["net"].fillna("—")) == [
        "0.25 dB", "0.5 dB", "2x8", "10x2", "—",
    ]  # fmt: skip


def test_a_value_of_another_run_is_found_by_what_both_have_in_common_and_never_guessed():
    runs = pd.DataFrame({"seed": [0, 1, 2], "net": "s"}, index=[5, 6, 7])
    others = pd.DataFrame({"seed": [1, 0], "top": [10.0, 20.0]})
    assert value_of(runs, others, "top", same=["seed"]).fillna(-1).to_dict() == {5: 20.0, 6: 10.0, 7: -1.0}
    assert value_of(runs, others, "none").isna().all()
    with pytest.raises(UserError, match="several runs have"):
        value_of(runs, others, "top")


def test_encoding_breaks_even_by_the_time_that_an_epoch_is_faster():
    epochs = break_even(pd.Series([10.0, 10.0, 10.0]), pd.Series([100.0, 100.0, 100.0]), pd.Series([200.0, 100.0, 50.0]))
    assert epochs.tolist() == [2.0, float("inf"), float("inf")]  # 5 ms of the 10 are won an epoch


def test_a_list_of_runs_has_a_row_each_with_integers_as_integers():
    frame = pd.DataFrame(
        {"run": ["a", "b"], "path": ["x/a", "x/b"], "machine": "m", "cfg.size": [224.0, float("nan")], "psnr": [1.0, 2.5]}
    )
    rows = listed(frame, {"size": ("cfg.size", ""), "PSNR": ("psnr", ".2f"), "none": ("none", ",d")})
    assert rows.to_numpy().tolist() == [
        ["224", "1.00", None, "m", (Link("a", "x/a"),)], [None, "2.50", None, "m", (Link("b", "x/b"),)],
    ]  # fmt: skip


def test_nothing_in_a_cell_is_markup():
    cells = ["a | b", "[x](javascript:alert)", "<b>", "two\nlines", None, (Link("1", "r/1.json"),), Measured(1.5, 0.25, 2, 1)]
    table = pd.DataFrame([cells], columns=list("abcdefg"), dtype=object)
    line = to_markdown(table, linked_from=Path("docs")).splitlines()[-1]
    assert line == r"| a \| b | \[x](javascript:alert) | \<b> | two lines | — | [1](../r/1.json) | 1.5 ± 0.2 |"
    assert to_csv(table).splitlines()[-1].endswith(",r/1.json,1.5,0.25,2")
    pytest.importorskip("jinja2")
    assert r"1.5 $\pm$ 0.2" in to_latex(pd.DataFrame({"50% & Δ": [cells[-1]]}))
    assert r"50\% \& $\Delta$" in to_latex(pd.DataFrame({"50% & Δ": [cells[-1]]}))
