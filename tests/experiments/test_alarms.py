"""The failure signatures as a user meets them: provoked, named on stderr and in the record, and absent where nothing is wrong."""

import json

import pytest

from tests.experiments.commands import TINY


@pytest.fixture
def warned(command, tmp_path):
    """Run a command to its end; returns the names of the warnings in its record, all of which were told."""

    def run(verb, *overrides):
        code, _, err = command(verb, *overrides, "run_dir=run", "overwrite=true")
        assert code == 0, err
        found = [warning["name"] for warning in json.loads((tmp_path / "run" / "record.json").read_text())["warnings"]]
        assert all(f"warning [{name}]: " in err for name in found)
        return found

    return run


def test_images_that_are_stored_poorly_are_named(warned):
    assert "fits_not_converged" in warned("encode", *TINY, "out=a.inr", "fit.min_psnr_db=60")
    assert warned("encode", *TINY, "out=a.inr", "fit.min_psnr_db=1") == []


def test_a_store_that_will_not_fit_is_told_before_it_is_made(warned, command, tmp_path, monkeypatch):
    assert warned("encode", *TINY, "out=a.inr", "gpu_memory_gb=0.000001", "fit.min_psnr_db=1") == ["store_does_not_fit"]
    assert warned("encode", *TINY, "out=a.inr", "gpu_memory_gb=1", "fit.min_psnr_db=1") == []
    monkeypatch.setattr("experiments.encoding.make_shards", lambda *a, **k: pytest.fail("fitted"))
    with pytest.raises(pytest.fail.Exception, match="fitted"):
        command("encode", *TINY, "out=c.inr", "gpu_memory_gb=0.000001", "run_dir=c")
    assert [w["name"] for w in json.loads((tmp_path / "c" / "record.json").read_text())["warnings"]] == ["store_does_not_fit"]


def test_a_pruned_store_is_held_against_the_memory_once_its_size_is_known(warned):
    pruned = ("prune=fixed", "prune.max_ratio=0.5", "prune.finetune_steps=2", "fit.min_psnr_db=1", "overwrite=true")
    assert warned("encode", *TINY, *pruned, "out=a.inr", "gpu_memory_gb=0.000001") == ["store_does_not_fit"]
    assert warned("encode", *TINY, *pruned, "out=a.inr", "gpu_memory_gb=0.001") == []


def test_a_share_of_the_shards_is_warned_like_the_whole(warned):
    share = ("shard=1/2", "shard_images=4", "out=a.inr", "gpu_memory_gb=0.000001")
    assert warned("encode", *TINY, *share) == ["store_does_not_fit"]
