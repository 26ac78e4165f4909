"""The command that trains, started as several processes."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from experiments.setup.build import build_device
from experiments.setup.distributed import init_distributed
from experiments.training.inputs import require_runnable
from tests.experiments.commands import SMOKE, composed

SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=12", "dataset.test_count=5", "dataset.limit=12")
MIXED = ("augment=strong", "optimizer.batch_size=4", "optimizer.ema=0.5", "optimizer.validation_split=0.2")


def start_training(*options: str) -> subprocess.Popen[str]:
    """Start a training of two processes."""
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "experiments.train")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}  # to look for no name of this machine
    return subprocess.Popen(
        [*launch, *SMOKE, *SHAPES, *MIXED, *options],
        cwd=Path(__file__).parents[2], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def two_processes_train(*options: str) -> str:
    """Return what they print."""
    process = start_training(*options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_two_processes_train_from_half_a_store_each_and_one_of_them_keeps_the_run(command, tmp_path):
    command("encode", *SMOKE, *SHAPES, "inr=2x8", "out=a.inr")
    inr = ("pipeline=inr", f"store={tmp_path / 'a.inr'}")
    assert command("train", *SMOKE, *SHAPES, *MIXED, *inr, "run_dir=alone")[0] == 0
    printed = two_processes_train(*inr, "pipeline.shard_store=true", f"run_dir={tmp_path / 'both'}")
    assert printed.count("inr: top-1") == 1
    alone, both = (json.loads((tmp_path / run / "record.json").read_text())["metrics"] for run in ("alone", "both"))
    assert (both["epochs"], both["images"]) == (alone["epochs"], alone["images"]) == (1, 12)
    assert both["device_bytes"] == alone["device_bytes"] / 2
    assert load_file(tmp_path / "both" / "inr_best.safetensors")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
def test_the_processes_of_a_torchrun_that_is_killed_end_too(tmp_path):
    process = start_training("pipeline=resident", "optimizer.epochs=100000", f"run_dir={tmp_path / 'run'}")
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
            pytest.fail(process.stderr.read())
    process.kill()
    process.communicate(timeout=30)  # both processes have its pipes, so these close when both have ended


def test_each_process_takes_its_own_gpu_and_the_run_keeps_what_was_asked_for(monkeypatch):
    cfg, chosen = composed("train", *SMOKE, *SHAPES), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(distributed, "init_process_group", chosen.append)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with init_distributed(cfg):
        assert build_device(cfg) == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1"), "nccl", torch.device("cuda:1")]
    assert cfg.device == "auto"  # or a finished run would count as one of another configuration


@pytest.mark.parametrize(
    ("verb", "overrides", "message"),
    [
        ("export", [], "export is run by one process, not by 2; start it without torchrun"),
        ("train", ["-m", "seed=0,1"], "torchrun runs one job, not the several of a multirun (-m); start it once for each"),
        ("encode", ["-m", "seed=0,1", "out=a.inr"], "torchrun runs one job, not the several of a multirun (-m)"),
    ],
)
def test_what_several_processes_cannot_share_is_refused_in_one_line(command, tmp_path, monkeypatch, verb, overrides, message):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = command(verb, *overrides)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_one_process_is_told_how_to_start_those_it_would_share_a_store_with():
    cfg = composed("train", "dataset=shapes", "pipeline=inr", "store=a.inr", "pipeline.shard_store=true")
    with pytest.raises(ValueError, match=r"there is one process; start several with: torchrun --nproc-per-node=N"):
        require_runnable(cfg)
