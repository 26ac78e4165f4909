"""The command that trains, started as several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from tests.experiments.commands import SMOKE

SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=12", "dataset.test_count=5", "dataset.limit=12")
MIXED = ("augment=strong", "optimize.batch_size=4", "optimize.ema=0.5", "optimize.held_out=0.2")


def test_two_processes_train_and_one_of_them_keeps_the_run(tmp_path):
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "experiments.train")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}  # to look for no name of this machine
    done = subprocess.run(
        [*launch, *SMOKE, *SHAPES, *MIXED, f"run_dir={tmp_path / 'run'}"],
        cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resident: top-1") == 1
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["metrics"]["epochs"], record["metrics"]["images"]) == (1, 12)
    assert load_file(tmp_path / "run" / "resident_best.safetensors")
