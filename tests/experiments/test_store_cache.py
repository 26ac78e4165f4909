"""A training makes the store, or the files, that it needs: once, whole, and shared by all jobs that need the same."""

import json
import os

import pytest

from experiments.training import store_cache
from tests.experiments.commands import SMOKE, composed

SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=20", "dataset.test_count=6", "dataset.limit=20")
TRAIN = ("train", *SMOKE, *SHAPES, "optimizer.batch_size=4", "inr=2x8")


def metrics_of(folder):
    return json.loads((folder / "record.json").read_text())["metrics"]


def store_name(*overrides):
    cfg = composed(*TRAIN, *overrides)
    return store_cache.store_path(store_cache._encode_config(cfg, split="train")).name


def test_training_from_inrs_is_one_command_and_the_next_one_takes_the_same_store(command, tmp_path):
    for seed in (0, 1):
        code, out, err = command(*TRAIN, "pipeline=inr", f"seed={seed}", f"run_dir=r{seed}")
        assert code == 0, err
        assert ("making it" in err) == (seed == 0)
    (store,) = (tmp_path / "stores").glob("shapes-train-2x8-*.inr")
    first, second = (metrics_of(tmp_path / run) for run in ("r0", "r1"))
    assert first["store"] == second["store"] == f"stores/{store.name}"
    assert f"images from stores/{store.name}" in out
    encoded = metrics_of(store.with_name(f"{store.name}.run"))
    assert first["store_psnr_db"] == encoded["psnr_db"]
    assert first["store_encode_ms_per_image"] == encoded["encode_ms_per_image"]
    assert first["store_bytes"] == store.stat().st_size


def test_test_images_are_decoded_from_a_store_of_their_own(command, tmp_path):
    assert command(*TRAIN, "test_on_decoded=true", "pipeline=inr", "run_dir=a")[0] == 0
    metrics = metrics_of(tmp_path / "a")
    assert metrics["test_store"].startswith("stores/shapes-test-2x8-")
    assert "decoded_top1_pct" in metrics


@pytest.mark.parametrize("pipeline", [("pipeline=resident",), ("pipeline=dataloader", "pipeline.workers=0", "export.bytes=900")])
def test_no_test_image_is_encoded_for_a_training_without_inrs(command, tmp_path, pipeline):
    assert command(*TRAIN, *pipeline, "test_on_decoded=true", "run_dir=a")[0] == 0
    assert "decoded_top1_pct" not in metrics_of(tmp_path / "a")
    assert not list((tmp_path / "stores").glob("*.inr"))


@pytest.mark.parametrize(
    "changed",
    ["inr.hidden=9", "fit.steps=21", "quantize=int6", "prune=fixed", "dataset.seed=1", "dataset.limit=19", "dataset.size=13"],
)
def test_what_decides_the_bytes_decides_the_name(changed):
    assert store_name() != store_name(changed)


@pytest.mark.parametrize("changed", ["seed=3", "optimizer.epochs=9", "augment=none", "dataset.test_limit=2", "fit.max_batch=7"])
def test_what_changes_no_byte_changes_no_name(changed):
    assert store_name() == store_name(changed)


def test_series_are_named_by_their_bytes_and_by_what_teaches_their_codebooks():
    series = ("inr=cosine", "inr.bytes=9")
    names = {store_name(*series, *others) for others in ((), ("inr.profiles=2",), ("dataset.seed=1",))}
    assert len(names) == 3
    assert all(name.startswith("shapes-train-cosine-9-") for name in names)


def test_other_pictures_are_another_store(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def store_name():
        cfg = composed("train", "dataset=image_folder", f"dataset.root={root}")
        return store_cache.store_path(store_cache._encode_config(cfg, split="train")).name

    root = photos()
    before = store_name()
    path = next((tmp_path / "photos" / "train").rglob("*.png"))
    os.utime(path, ns=(1, 1))
    assert store_name() != before


def test_a_store_whose_encode_did_not_end_is_made_again(tmp_path, monkeypatch):
    made = []

    def make(run):
        made.append(run)
        path.write_text("store")
        if len(made) == 1:
            raise KeyboardInterrupt

    cfg, path = composed(*TRAIN), tmp_path / "a.inr"
    monkeypatch.setattr(store_cache, "command_line", lambda: "")
    with pytest.raises(KeyboardInterrupt):
        store_cache._make_once(path, make, verb="encode", config=cfg)
    for _ in range(2):
        store_cache._make_once(path, make, verb="encode", config=cfg)
    assert len(made) == 2


def test_files_are_exported_on_demand_by_quality_by_bytes_and_as_decoded(command, tmp_path):
    reads = (*TRAIN, "pipeline=dataloader", "pipeline.workers=0")
    exports = {
        "q": ("export.quality=30",), "inr": ("export.as_inr=true", "quantize=fp32"),
        "decoded": ("export.format=png", "export.decoded=true"),
    }  # fmt: skip
    for name, options in exports.items():
        code, _, err = command(*reads, *options, f"run_dir={name}")
        assert code == 0, err
    metrics = {name: metrics_of(tmp_path / name) for name in exports}
    assert metrics["q"]["files_quality"] == 30
    assert metrics["q"]["files_export_ms_per_image"] > 0
    assert metrics["decoded"]["files_psnr_db"] < metrics["inr"]["files_psnr_db"]
    assert len({m["files"] for m in metrics.values()}) == 3
    _, _, err = command(*reads, *exports["q"], "run_dir=again")
    assert "making it" not in err


def test_a_pipeline_ignores_what_it_does_not_read(command, tmp_path):
    assert command("encode", *SMOKE, *SHAPES, "inr=2x8", "out=a.inr")[0] == 0
    both = ("pipeline=resident,inr", "store=a.inr", "files=nowhere", "folder=runs/a")
    code, _, err = command(TRAIN[0], "-m", *TRAIN[1:], *both)
    assert code in (0, None), err
    stores = [metrics_of(path.parent).get("store") for path in (tmp_path / "runs" / "a").rglob("record.json")]
    assert sorted(map(str, stores)) == ["None", "a.inr"]
    assert not (tmp_path / "stores").exists()
