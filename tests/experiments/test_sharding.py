"""Encoding in shards that are shared among jobs and merged; the file is the same in every case."""

import json
import os

import pytest
import torch
from filelock import FileLock

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import ShardFolder
from rapid_inr.store.siren import SirenCode
from tests.experiments.commands import SHAPES, SHARDED, TINY


def shards_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_jobs_make_their_own_shards_and_merge_makes_the_store(command, tmp_path, whole):
    code, out, _ = command("encode", *SHARDED, "shard=2/3", "out=a.inr", "run_dir=two")
    assert (code, "shard 2/3: 2 of 5 shards, 3 images" in out) == (0, True)
    assert shards_of(tmp_path / "a.inr.shards") == ["00001.shard", "00004.shard"]
    assert json.loads((tmp_path / "two" / "record.json").read_text())["metrics"]["images"] == 3
    code, _, err = command("merge", "out=a.inr")
    assert (code, "lacks 3 of 5 shards (00000, 00002, 00003)" in err) == (2, True)
    for shard in ("1/3", "3/3"):
        assert command("encode", *SHARDED, f"shard={shard}", "out=a.inr")[0] == 0
    code, out, _ = command("merge", "out=a.inr", "run_dir=merged", "keep_shards=true")
    assert (code, "a.inr: 9 images" in out) == (0, True)
    assert (tmp_path / "a.inr").read_bytes() == whole
    assert json.loads((tmp_path / "merged" / "record.json").read_text())["metrics"]["psnr_db"] > 10
    assert len(shards_of(tmp_path / "a.inr.shards")) == 5
    assert command("merge", "out=a.inr")[0] == 0  # to the same bytes
    assert (tmp_path / "a.inr").read_bytes() == whole
    assert not (tmp_path / "a.inr.shards").exists()


def test_a_share_without_train_images_is_measured_and_merged(command, tmp_path):
    options = ("dataset=shapes", "dataset.size=12", "dataset.count=4", "dataset.test_count=4", "dataset.split=all")
    options = (*options, "shard_images=4", "inr=2x8", "fit.steps=4", "track=off", "out=a.inr")
    code, out, _ = command("encode", *options, "shard=2/2", "run_dir=two")
    assert (code, "shard 2/2: 1 of 2 shards, 4 images" in out) == (0, True)
    assert json.loads((tmp_path / "two" / "record.json").read_text())["metrics"]["psnr_db"] > 5
    assert command("encode", *options, "shard=1/2")[0] == 0
    assert command("merge", "out=a.inr")[0] == 0


def test_a_floor_that_no_image_reaches_ends_after_the_first_shard_and_is_named_again_by_the_merge(command, tmp_path):
    options = (*SHARDED, "prune=floor", "prune.floor_db=99", "prune.finetune_steps=1", "out=a.inr")
    code, out, err = command("encode", *options)
    assert (code, out) == (2, "")
    assert "error: prune.floor_db is 99, but the best of the first 2 images has" in err.splitlines()[-1]
    assert shards_of(tmp_path / "a.inr.shards") == ["00000.shard"]
    for shard in ("1/2", "2/2"):
        assert command("encode", *options, f"shard={shard}")[0] == 0
    code, _, err = command("merge", "out=a.inr", "run_dir=merged")
    assert (code, "warning [nothing_pruned]: no image meets prune.rule=floor" in err) == (0, True)
    assert (tmp_path / "merged" / "distributions.png").is_file()


def test_the_bar_of_a_job_counts_the_shards_of_all(command, tmp_path, monkeypatch):
    assert "3/9" in command("encode", *SHARDED, "shard=2/3", "out=a.inr")[2]
    write = ShardFolder.write

    def write_two(folder, shard):  # while this job makes its shards, another makes shard 2
        write(folder, shard)
        folder.file(2).write_bytes(folder.file(1).read_bytes())

    monkeypatch.setattr(ShardFolder, "write", write_two)
    assert "9/9" in command("encode", *SHARDED, "shard=1/3", "out=a.inr")[2]


def test_a_job_without_a_shard_has_nothing_to_do(command):
    code, out, _ = command("encode", *SHARDED, "shard=6/6", "out=a.inr")
    assert (code, "shard 6/6: 0 of 5 shards, 0 images" in out) == (0, True)


def test_shards_of_another_encoding_are_refused_or_replaced(command, tmp_path, whole):
    assert command("encode", *SHARDED, "shard=1/2", "out=a.inr", "fit.steps=3")[0] == 0
    code, out, err = command("encode", *SHARDED, "out=a.inr")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "a.inr.shards holds shards of another encoding (fit.steps is 3 there, 20 here)" in err
    assert command("encode", *SHARDED, "out=a.inr", "overwrite=true")[0] == 0
    assert (tmp_path / "a.inr").read_bytes() == whole


def test_a_damaged_shard_is_replaced_and_the_others_are_used(command, tmp_path, whole):
    assert command("encode", *SHARDED, "shard=1/2", "out=a.inr")[0] == 0
    shards = tmp_path / "a.inr.shards"
    (shards / "00002.shard").write_bytes(b"torn")
    assert command("encode", *SHARDED, "out=a.inr")[0] == 2
    code, _, err = command("encode", *SHARDED, "out=a.inr", "overwrite=true")
    assert (code, "removed 1 file of another encoding, or damaged, from a.inr.shards" in err) == (0, True)
    assert "resuming: 2 of 5 shards exist" in err
    assert (tmp_path / "a.inr").read_bytes() == whole


@pytest.mark.parametrize("verb", ["encode", "merge", "export"])
def test_of_two_processes_that_write_one_output_the_second_is_refused(command, tmp_path, verb):
    command("encode", *SHARDED, "out=a.inr", "keep_shards=true")
    options = {"encode": (*SHARDED, "out=a.inr"), "merge": ("out=a.inr", "track=off"), "export": (*SHAPES, "out=files")}
    folder = tmp_path / ("files" if verb == "export" else "a.inr.shards")
    folder.mkdir(exist_ok=True)
    kept = shards_of(tmp_path)
    with FileLock(folder / ".lock"):
        code, _, err = command(verb, *options[verb], *(() if verb == "export" else ("overwrite=true",)), "run_dir=second")
    assert (code, err.splitlines()[-1]) == (2, f"error: another process is writing {'files' if verb == 'export' else 'a.inr'}")
    assert set(shards_of(tmp_path)) - {"second"} == set(kept)
    assert command(verb, *options[verb], *(() if verb == "export" else ("overwrite=true",)), "run_dir=second")[0] == 0
    assert not (folder / ".lock").exists()


def test_what_all_images_share_is_decided_once(command, tmp_path):
    shared = (*SHARDED, "quantize.granularity=dataset", "out=a.inr")
    assert command("encode", *shared, "shard=1/2")[0] == 0
    before = (tmp_path / "a.inr.shards" / "shared.shard").read_bytes()
    assert command("encode", *shared, "shard=2/2")[0] == 0
    assert (tmp_path / "a.inr.shards" / "shared.shard").read_bytes() == before
    assert command("merge", "out=a.inr")[0] == 0


@pytest.mark.parametrize(
    ("verb", "overrides", "message"),
    [
        ("encode", [*TINY, "out=a.inr", "shard=0/2"], "shard is '0/2', expected i/n with i from 1 to n"),
        ("encode", [*TINY, "out=a.inr", "shard=3/2"], "shard is '3/2'"),
        ("encode", [*TINY, "out=a.inr", "shard=2"], "shard is '2', expected i/n"),
        ("encode", [*TINY, "out=a.inr", "shard_images=0"], "shard_images is 0, expected at least 1"),
        (
            "encode",
            [*TINY, "out=a.inr", "quantize.bits=16", "prune=fixed"],
            "prune.rule is fixed, expected none with quantize.bits=16",
        ),
        (
            "encode",
            [*TINY, "out=a.inr", "quantize.bits=32", "refine.steps=3"],
            "refine.steps is 3, expected 0 with quantize.bits=32",
        ),
        (
            "encode",
            [*TINY, "out=a.inr", "quantize.rounding=gptq", "refine=qat"],
            "refine.steps is 400 with quantize.rounding=gptq, expected 0: choose refine=none",
        ),
        (
            "encode",
            [*TINY, "out=a.inr", "quantize.rounding=gptq", "inr=6x44"],
            "quantize.rounding is 'gptq' with 10,167 weights a network",
        ),
        ("merge", ["out=a.inr"], "no shards in a.inr.shards"),
        ("merge", [], "out=... is required"),
    ],
)
def test_an_error_of_sharding_is_one_line_before_any_work(command, tmp_path, verb, overrides, message):
    code, out, err = command(verb, *overrides)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert os.listdir(tmp_path) == []


def test_a_multirun_shares_the_shards_among_its_jobs(command, tmp_path, whole):
    code, out, err = command("encode", "-m", *SHARDED, "shard=1/2,2/2", "out=a.inr")
    assert code == 0, err
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("shard")] == ["shard 1/2", "shard 2/2"]
    commands = {json.loads(path.read_text())["command"] for path in (tmp_path / "runs" / "encode").glob("*/record.json")}
    assert commands == {f"python -m experiments.encode {' '.join(SHARDED)} shard={i}/2 out=a.inr" for i in (1, 2)}
    assert command("merge", "out=a.inr")[0] == 0
    assert (tmp_path / "a.inr").read_bytes() == whole


def test_torchrun_shares_the_shards_among_its_processes_and_merges(program, tmp_path, whole):
    code = SirenCode(SirenSpec(1, 1, 1.0), QuantizeConfig(granularity="dataset"))
    foreign = ShardFolder(
        tmp_path / "a.inr.shards",
        StorePlan(code, (), (), 9, 2, "beef"),
    )
    foreign.share(lambda: {"scales": torch.ones(1)})  # for the first process to remove
    options = (*SHARDED, "out=a.inr", "overwrite=true")
    process = program("torch.distributed.run", "--nproc-per-node=2", "-m", "experiments.encode", *options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err.count("removed 1 file of another encoding, or damaged, from a.inr.shards") == 1
    assert out.startswith("a.inr: 9 images")
    assert out.count("\n") == 1
    assert (tmp_path / "a.inr").read_bytes() == whole
    assert len(list(tmp_path.glob("runs/encode/*"))) == 1
