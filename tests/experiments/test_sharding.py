"""Encoding in shards: interrupted and continued, shared among jobs, merged; the file is the same in every case."""

import csv
import errno
import json
import os
import signal
import subprocess

import pytest
import torch
from filelock import FileLock
from PIL import Image

from experiments.encoding import encode_job, merging
from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.runlog.liveness import this_process
from rapid_inr.store.decode import decode_each
from rapid_inr.store.format import read_store
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import ShardFolder
from rapid_inr.store.siren import SirenCode
from tests.experiments.commands import SHAPES, SMOKE, TINY

SHARDED = (*TINY, "shard_images=2")  # of nine images: five shards


@pytest.fixture
def whole(encoded):
    """The bytes of the file that is encoded without interruption, as one shard."""
    return encoded.read_bytes()


def shards_of(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupted_after(monkeypatch, n_shards):
    """Let a command write some parts and interrupt it at the next, as Ctrl-C would."""
    written, write = [], ShardFolder.write

    def write_some(folder, shard):
        if len(written) == n_shards:
            raise KeyboardInterrupt
        written.append(shard.number)
        write(folder, shard)

    monkeypatch.setattr(ShardFolder, "write", write_some)


def test_what_is_interrupted_continues_to_the_same_bytes(command, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        interrupted_after(patch, 3)
        code, _, err = command("encode", *SHARDED, "out=a.inr", "run_dir=first")
    assert (code, "3 shards are kept in a.inr.shards; the same command continues" in err) == (130, True)
    assert json.loads((tmp_path / "first" / "record.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "a.inr").exists()
    code, _, err = command("encode", *SHARDED, "out=a.inr", "run_dir=second")
    assert (code, "resuming: 3 of 5 shards exist" in err) == (0, True)
    assert (tmp_path / "a.inr").read_bytes() == whole
    assert not (tmp_path / "a.inr.shards").exists()
    assert json.loads((tmp_path / "second" / "record.json").read_text())["metrics"]["images"] == 9
    assert len((tmp_path / "second" / "images.csv").read_text().splitlines()) == 10


@pytest.mark.parametrize("status", ["interrupted", "failed", "running", "finished"])
def test_the_same_command_takes_over_the_folder_of_a_run_that_did_not_finish(command, tmp_path, status):
    encode = ("encode", *TINY, "out=a.inr", "run_dir=run")
    assert command(*encode)[0] == 0
    path = tmp_path / "run" / "record.json"
    record = json.loads(path.read_text())
    gone = {"process": {**this_process(), "pid": 1, "start": -1}} if status == "running" else {}
    path.write_text(json.dumps(record | {"status": status} | gone))
    (tmp_path / "a.inr").unlink()
    code, _, err = command(*encode)
    assert (code, "run holds a run already" in err) == ((2, True) if status == "finished" else (0, False))


def test_what_is_killed_continues_to_the_same_bytes(command, tmp_path, program, whole):
    process = program("experiments.encode", *SHARDED, "out=a.inr")
    first = tmp_path / "a.inr.shards" / "00000.shard"
    while not first.exists():
        try:
            process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended before it was killed: {process.stderr.read()}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shards = tmp_path / "a.inr.shards"
    kept = len(list(shards.glob("[0-9]*.shard")))  # none if it was killed after its end, when it needs overwrite=true
    code, _, err = command("encode", *SHARDED, "out=a.inr", "overwrite=true")
    assert code == 0
    assert (f"resuming: {kept} of 5 shards exist" in err) == (kept > 0)
    assert (tmp_path / "a.inr").read_bytes() == whole


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


def fail(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_there_and_the_shards_outlive_a_merge_that_fails(command, tmp_path, monkeypatch, whole):
    for number in (1, 2):
        assert command("encode", *SHARDED, f"shard={number}/2", "out=a.inr")[0] == 0
    (tmp_path / "a.inr").write_text("what was there")
    for step in ("read_store", "write_images_csv"):
        with monkeypatch.context() as patch:
            patch.setattr(merging, step, fail)
            assert command("merge", "out=a.inr", "overwrite=true")[0] == 2
        assert (tmp_path / "a.inr").read_text() == "what was there"
    assert len(list((tmp_path / "a.inr.shards").glob("*.shard"))) == 5
    assert command("merge", "out=a.inr", "overwrite=true")[0] == 0
    assert (tmp_path / "a.inr").read_bytes() == whole


@pytest.mark.parametrize("step", ["write_sheet", "measure_decoded", "require_unchanged"])
def test_an_error_after_the_last_shard_leaves_no_store_and_the_same_command_ends_the_run(
    command, tmp_path, monkeypatch, whole, step
):
    with monkeypatch.context() as patch:
        patch.setattr(encode_job, step, fail)
        assert command("encode", *SHARDED, "out=a.inr")[0] == 2
    assert not (tmp_path / "a.inr").exists()
    code, _, err = command("encode", *SHARDED, "out=a.inr")
    assert (code, "resuming: 5 of 5 shards exist" in err) == (0, True)
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


@pytest.mark.parametrize("verb", ["encode", "merge"])
def test_the_same_command_removes_the_shards_of_a_finished_run_that_was_killed_before(
    command, tmp_path, monkeypatch, whole, verb
):
    if verb == "merge":
        assert command("encode", *SHARDED, "shard=1/1", "out=a.inr", "keep_shards=true")[0] == 0
        (tmp_path / "a.inr").unlink()
    options = (verb, *(SHARDED if verb == "encode" else ()), "out=a.inr", "run_dir=run")
    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "clear", fail)
        assert command(*options)[0] == 2
    assert command(*options)[0] == 0
    assert not (tmp_path / "a.inr.shards").exists()
    assert (tmp_path / "a.inr").read_bytes() == whole
    assert command(*options)[0] == 2


@pytest.mark.parametrize("verb", ["encode", "merge"])
@pytest.mark.parametrize("left", [0, 2, 4])
def test_the_same_command_removes_what_a_kill_has_left_of_the_shards(command, tmp_path, whole, verb, left):
    options = (*SHARDED, "out=a.inr")
    assert command("encode", *options, "keep_shards=true")[0] == 0
    shards = tmp_path / "a.inr.shards"
    (shards / ".lock").touch()
    for path in sorted(shards.glob("*.shard"))[left:]:
        path.unlink()
    code, out, _ = command(verb, *(options if verb == "encode" else ("out=a.inr",)))
    assert (code, out) == (0, "a.inr is whole; what was left of its shards is removed\n")
    assert not shards.exists()
    assert (tmp_path / "a.inr").read_bytes() == whole


@pytest.mark.parametrize("verb", ["encode", "merge"])
def test_a_run_that_ended_after_its_store_was_written_is_ended_by_the_same_command(command, tmp_path, monkeypatch, whole, verb):
    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "clear", fail)
        assert command("encode", *SHARDED, "out=a.inr", "run_dir=first")[0] == 2
    assert (tmp_path / "a.inr").read_bytes() == whole  # and the shards are there still
    assert command(verb, *(SHARDED if verb == "encode" else ()), "out=a.inr", "run_dir=second")[0] == 0
    assert json.loads((tmp_path / "second" / "record.json").read_text())["metrics"]["images"] == 9
    assert not (tmp_path / "a.inr.shards").exists()
    code, _, err = command("encode", *SHARDED, "out=a.inr")
    assert (code, "a.inr exists; overwrite=true replaces it" in err) == (2, True)


PHOTOS = ("dataset=image_folder", "dataset.root=photos", *SMOKE, "inr=2x8", "shard_images=2", "out=a.inr")


def test_an_image_that_was_replaced_since_is_never_stored_from_its_old_shard(command, tmp_path, photos):
    photos()
    assert command("encode", *PHOTOS, "shard=1/2")[0] == 0
    Image.new("RGB", (12, 12), "red").save(tmp_path / "photos" / "train" / "light" / "4.png")  # the last
    code, _, err = command("encode", *PHOTOS)
    assert (code, "have changed since); choose another out=, or overwrite=true" in err) == (2, True)
    assert command("encode", *PHOTOS, "overwrite=true")[0] == 0
    image = list(decode_each(read_store(tmp_path / "a.inr")))[9]
    assert (image.double().mean((0, 1)) - torch.tensor([255.0, 0, 0])).abs().max() < 40


def test_an_image_that_changes_its_size_meanwhile_is_named(command, tmp_path, photos, monkeypatch):
    photos()
    path, write = tmp_path / "photos" / "train" / "dark" / "1.png", ShardFolder.write

    def change_and_write(folder, shard):
        Image.new("RGB", (7, 9)).save(path)
        write(folder, shard)

    monkeypatch.setattr(ShardFolder, "write", change_and_write)
    code, _, err = command("encode", *PHOTOS)
    assert code == 2
    assert "1 files have changed since this encoding began, the first: photos/train/dark/1.png" in err


def test_files_that_are_left_out_are_counted_in_one_warning(command, tmp_path, photos):
    photos()
    (tmp_path / "photos" / "train" / "dark" / "0.png").write_text("no picture")
    (tmp_path / "photos" / "train" / "dark" / "more").mkdir()
    (tmp_path / "photos" / "train" / "dark" / "1.png").rename(tmp_path / "photos" / "train" / "dark" / "more" / "1.png")
    for name in ("notes.txt", "more.txt"):
        (tmp_path / "photos" / "train" / name).touch()
    code, _, err = command("encode", *PHOTOS, "dataset.on_corrupt=skip", "run_dir=r")
    assert code == 0
    assert "[files_left_out]: 4 of 12 files left out: 1 unreadable (photos/train/dark/0.png" in err
    assert "1 in sub-folders (photos/train/dark/more/1.png), 2 of another type (the first: photos/train/more.txt)" in err
    assert err.count("warning [") == 1
    with (tmp_path / "r" / "left_out.csv").open() as file:
        rows = [(row["why"], row["file"].partition(":")[0].removeprefix("photos/train/")) for row in csv.DictReader(file)]
    assert json.loads(command("info", "store=a.inr")[1])["skipped"] == [0]
    deeper = ("in sub-folders", "dark/more/1.png")
    other = "of another type"
    assert rows == [("unreadable", "dark/0.png"), deeper, (other, "more.txt"), (other, "notes.txt")]


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


def test_the_table_of_images_names_their_files(command, photos, tmp_path):
    photos("photos")
    options = ("dataset=image_folder", "dataset.root=photos", "dataset.exclude=[train/dark/1.png]", *SMOKE, "inr=2x8")
    assert command("encode", *options, "out=a.inr", "run_dir=r", "shard_images=2")[0] == 0
    with (tmp_path / "r" / "images.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)][:3] == [f"train/dark/{i}.png" for i in (0, 2, 3)]
    assert read_store(tmp_path / "a.inr").names[-1] == "light/4.png"


def test_shards_that_another_job_merges_keep_the_names(command, photos, tmp_path):
    photos()
    options = ("dataset=image_folder", "dataset.root=photos", *SMOKE, "inr=2x8", "shard_images=3", "out=a.inr")
    for job in ("1/2", "2/2"):
        assert command("encode", *options, f"shard={job}")[0] == 0
    assert command("merge", "out=a.inr", "track=off")[0] == 0
    assert read_store(tmp_path / "a.inr").names == tuple(f"{label}/{i}.png" for label in ("dark", "light") for i in range(5))


def test_images_that_an_encoding_or_an_export_skipped_are_left_out_by_the_training(command, tmp_path, photos):
    photos()
    (tmp_path / "photos" / "train" / "light" / "1.png").write_text("no picture")
    photos_of = ("dataset=image_folder", "dataset.root=photos", *SMOKE)
    assert command("encode", *photos_of, "dataset.on_corrupt=skip", "inr=2x8", "out=a.inr")[0] == 0
    assert command("export", *photos_of, "dataset.on_corrupt=skip", "format=png", "out=E")[0] == 0
    train = ("train", *photos_of, "optimizer.batch_size=4")
    for number, pipeline in enumerate(
        (("pipeline=inr", "store=a.inr"), ("pipeline=dataloader", "pipeline.workers=0", "files=E"))
    ):
        code, _, err = command(*train, *pipeline, f"run_dir=r{number}")
        assert code == 0, err
        assert json.loads((tmp_path / f"r{number}" / "record.json").read_text())["metrics"]["images"] == 9
