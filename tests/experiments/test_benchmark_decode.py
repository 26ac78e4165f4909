"""The decode suite: it times what is right only, and its rivals are what they claim."""

import csv
import json

import pytest
import torch

from experiments.benchmarks import decode as benchmark_decode
from experiments.benchmarks.decode import TOLERANCE_RGB, parse_size
from experiments.benchmarks.rivals import as_jpeg, bmm_chain, nearest_quality
from kernels.decode import decode_siren
from kernels.spec import SirenSpec
from tests import tolerances
from tests.experiments.commands import SMOKE
from tests.kernels.random_rows import random_batch

DECODE = ("suite=decode", "device=cpu", *SMOKE)


def test_every_backend_has_a_row_in_the_table_the_record_and_the_file(command, tmp_path):
    code, out, err = command("benchmark", *DECODE, "run_dir=run")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]
    assert [(row["size"], row["batch"], row["backend"]) for row in metrics["rows"]] == [
        ("2x8@8", 3, "torch"),
        ("2x8@8", 3, "bmm chain"),
    ]
    for row in metrics["rows"]:
        assert row["images_per_s"] == pytest.approx(3e3 / row["ms"])
        assert row["fastest_ms"] <= row["ms"] <= row["slowest_ms"]
        assert 0 < row["of_sine"] < 1
        assert row["psnr_db"] > 70
        assert abs(row["loss_db"]) <= 0.05
        assert row["call_us"] > 0
    assert "| 2x8@8 | 3 | bmm chain |" in out
    with (tmp_path / "run" / "decode.csv").open(newline="") as file:
        assert [row["backend"] for row in csv.DictReader(file)] == ["torch", "bmm chain"]


def test_the_tables_give_each_suite_a_block_of_its_own(command):
    command("benchmark", *DECODE, "run_dir=kept/decode")
    command("benchmark", "suite=fit", "dataset=shapes", *SMOKE, "run_dir=kept/fit")
    out = command("tables", "root=kept")[1]
    blocks = dict(zip(*[iter(out.split("\n\n"))] * 2, strict=True))
    assert "kept/fit/record.json" in blocks["**Speed of fitting**"]
    assert "kept/decode" not in blocks["**Speed of fitting**"]
    assert blocks["**Speed of decoding**"].count("kept/decode/record.json") == 2


def test_a_wrong_backend_is_named_and_nothing_is_timed(command, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_decode, "decode_siren", lambda *args, **options: decode_siren(*args, **options).mT.contiguous())
    monkeypatch.setattr(benchmark_decode, "time_all", lambda *args, **kwargs: pytest.fail("timed"))
    code, _, err = command("benchmark", *DECODE, "run_dir=run")
    assert code == 2
    assert err.startswith("error: torch at 2x8@8 is off the float64 decode by 0.")
    assert "expected at most 0.0001" in err
    assert not (tmp_path / "run" / "decode.csv").exists()


def test_a_backend_that_gives_nan_is_wrong(command, monkeypatch):
    monkeypatch.setattr(benchmark_decode, "bmm_chain", lambda *a, **k: torch.full((3, 3, 8, 8), torch.nan))
    code, _, err = command("benchmark", *DECODE, "run_dir=run")
    assert code == 2
    assert "bmm chain at 2x8@8 is off the float64 decode by nan" in err


def test_the_tolerances_are_the_suites():
    assert TOLERANCE_RGB == {
        "kernel": tolerances.KERNEL_RGB,
        "torch": tolerances.FAST_TORCH_RGB,
        "bmm chain": tolerances.FAST_TORCH_RGB,
    }


@pytest.mark.parametrize("ends", [torch.float16, torch.int8])
def test_the_chain_decodes_what_the_formula_does(ends):
    batch = random_batch(SirenSpec(3, 13, 15.0), torch.device("cpu"), height=9, width=9, ends=ends)
    exact = batch.reference()
    chain = bmm_chain(batch.rows, batch.ids, spec=batch.keywords["spec"], side=9, dtype=torch.float32, round_8bit=False)
    torch.testing.assert_close(chain, exact, atol=TOLERANCE_RGB["bmm chain"], rtol=0)
    levels = bmm_chain(batch.rows, batch.ids, spec=batch.keywords["spec"], side=9, dtype=torch.uint8)
    assert (levels.int() - exact.mul(255).round().int()).abs().max() <= 1


def test_the_jpeg_beside_it_has_the_bytes_nearest_to_the_rows():
    image = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    quality = nearest_quality(image, n_bytes=3000)
    assert 1 < quality < 95
    chosen = abs(len(as_jpeg(image, quality)) - 3000)
    assert chosen <= min(abs(len(as_jpeg(image, quality + step)) - 3000) for step in (-2, 2))


@pytest.mark.parametrize("size", ["3x16", "3x16@0", "ax1@3", "3x16@32px"])
def test_a_size_that_is_none_is_said(size):
    with pytest.raises(ValueError, match=r"decode.sizes holds .*, expected DEPTHxWIDTH@PIXELS"):
        parse_size(size)
