"""The named warnings as a user meets them: provoked, named on stderr and in the record, and absent where nothing is wrong."""

import json
import shutil

import pytest
import torch

from experiments.training.inputs import open_input
from rapid_inr.store.packed import StoreTooLarge
from tests.experiments.commands import SHAPES, SMOKE, TINY, run_here


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
    monkeypatch.setattr("experiments.encoding.encode_job.make_shards", lambda *a, **k: pytest.fail("fitted"))
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


TRAIN = ("train", *SMOKE, *SHAPES)


@pytest.fixture(scope="module")
def raw_run(tmp_path_factory):
    """A run of train, for all tests."""
    folder = tmp_path_factory.mktemp("raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_here(patch, *TRAIN, "run_dir=raw") == 0
    return folder / "raw"


@pytest.fixture
def baseline(raw_run, tmp_path):
    """Copy that run; its accuracy is then what a test says it was."""
    path = shutil.copytree(raw_run, tmp_path / "raw") / "record.json"

    def claim(top1_pct, **others):
        record = json.loads(path.read_text())
        record["metrics"]["top1_pct"] = top1_pct
        path.write_text(json.dumps(record | others))
        return "baseline=raw"

    return claim


def test_an_accuracy_far_under_its_baseline_is_named_and_the_loss_is_recorded(warned, baseline, tmp_path):
    assert warned(*TRAIN, baseline(100.0)) == ["accuracy_below_baseline"]
    metrics = json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]
    assert metrics["baseline_pct"] == 100
    assert metrics["lost_points"] == 100 - metrics["top1_pct"] > 2
    assert warned(*TRAIN, baseline(0.0)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("optimizer.epochs=3",), "baseline raw was trained with optimizer.epochs=1, this is optimizer.epochs=3"),
        (("augment=none",), "baseline raw was trained with augment.crop_padding=4, this is augment.crop_padding=0"),
        (("dataset.seed=1",), "baseline raw was trained with dataset.seed=0, this is dataset.seed=1"),
        (("backbone.width=5",), "baseline raw was trained with backbone.width=4, this is backbone.width=5"),
    ],
)
def test_a_baseline_of_another_training_is_none(command, baseline, tmp_path, options, message):
    code, _, err = command(*TRAIN, *options, baseline(50.0), "run_dir=run")
    assert (code, err) == (2, f"error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_another_seed_or_pipeline_may_have_the_same_baseline(warned, baseline):
    assert warned(*TRAIN, baseline(0.0), "seed=3", "pipeline=ram", "pipeline.workers=0") == []


@pytest.mark.parametrize("others", [{"status": "failed"}, {"verb": "demo"}])
def test_a_baseline_that_did_not_finish_or_is_of_another_command_is_none(command, baseline, others):
    code, _, err = command(*TRAIN, baseline(50.0, **others), "run_dir=run")
    assert code == 2
    assert f"error: baseline raw is a {others.get('status', 'finished')} run of {others.get('verb', 'train')}" in err


def test_the_demo_holds_inr_against_raw(warned, monkeypatch):
    demo = ("demo", *SMOKE, "dataset.count=10", "dataset.test_count=5", "dataset.size=12", "inr=2x8", "fit.min_psnr_db=1")
    marks = {"inr": 80.0, "resident": 82.1}
    arms = iter(marks.values())  # resident is trained first
    monkeypatch.setattr("experiments.demo.summary", lambda epochs, metric: {"top1_pct": next(arms), "images_per_s": 1.0})
    assert warned(*demo) == []
    arms = iter((82.1, 80.0))
    assert warned(*demo) == ["accuracy_below_baseline"]


def test_a_decode_far_from_its_roofline_is_named(warned, tmp_path, monkeypatch):
    decode = ("benchmark", "suite=decode", "device=cpu", *SMOKE)
    assert set(warned(*decode, "decode.batches=[1]")) == {"decode_below_roofline"}
    metrics = json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]
    assert metrics["least_of_bound_pct"] == pytest.approx(100 * metrics["rows"][0][f"of_{metrics['rows'][0]['binding']}"])
    monkeypatch.setattr("rapid_inr.runlog.named_warnings.LEAST_OF_ROOFLINE", 0.0)
    assert warned(*decode) == []


def test_a_decode_that_the_step_waits_for_is_named(warned, monkeypatch):
    speeds = ("benchmark", "suite=pipelines", *SMOKE, *SHAPES, "pipelines=[resident,inr]", "fit.min_psnr_db=1")
    pipelines = "experiments.benchmarks.pipelines"
    seconds = iter((1.0, 2.0, 3.0, 2.0, 1.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0))  # loader, step, both of each pipeline
    monkeypatch.setattr(f"{pipelines}._epochs_s", lambda *a, **k: next(seconds))
    assert warned(*speeds) == ["decode_slower_than_step"]
    assert warned(*speeds) == []


def test_of_a_store_without_room_in_the_gpu_the_benchmark_says_so_and_times_the_others(warned, monkeypatch):
    def refuse(cfg):
        if cfg.pipeline.name == "inr":
            raise StoreTooLarge("the store needs 9 bytes")
        return open_input(cfg)

    monkeypatch.setattr("experiments.benchmarks.pipelines.open_input", refuse)
    speeds = ("benchmark", "suite=pipelines", *SMOKE, *SHAPES, "pipelines=[resident,inr]", "fit.min_psnr_db=1")
    assert warned(*speeds) == ["store_does_not_fit"]


@pytest.fixture
def one_thread():
    """One thread of torch: on a busy machine, threads that wait for each other slow the step more than the decode."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["encoding", "speed"])
def test_a_provoked_failure_has_its_warning_on_record(command, tmp_path, name):
    verb = {"encoding": "encode", "speed": "benchmark"}[name]
    code, _, err = command(verb, "-m", f"experiment=failures_of_{name}/smoke", "track=off")
    assert code == 0, err
    warned = {path.parent.name: json.loads(path.read_text())["warnings"] for path in tmp_path.rglob("smoke/*/record.json")}
    assert len(warned) == 2
    assert all(variant in [warning["name"] for warning in some] for variant, some in warned.items())


def test_a_provoked_loss_of_accuracy_has_its_warning_on_record(command, tmp_path):
    experiment = ("train", "-m", "experiment=failures_of_training/smoke", "track=off")
    folder = tmp_path / "runs" / "failures_of_training" / "smoke"
    assert command(*experiment, "variant=raw")[0] == 0
    record = json.loads((folder / "raw" / "record.json").read_text())
    record["metrics"]["top1_pct"] = 100.0  # so few images teach a network nothing
    (folder / "raw" / "record.json").write_text(json.dumps(record))
    assert command(*experiment, "variant=accuracy_below_baseline")[0] == 0
    warnings = json.loads((folder / "accuracy_below_baseline" / "record.json").read_text())["warnings"]
    assert "accuracy_below_baseline" in [warning["name"] for warning in warnings]
