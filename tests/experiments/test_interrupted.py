"""What an encoding or a merge leaves when it is interrupted, killed or fails: the same command continues to the same bytes."""

import errno
import json
import signal
import subprocess

import pytest

from experiments.encoding import encode_job, merging
from rapid_inr.runlog.liveness import this_process
from rapid_inr.store.shards import ShardFolder
from tests.experiments.commands import SHARDED, TINY


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
