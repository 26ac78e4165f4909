"""What only a DataLoader has: worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapid_inr.pipelines import dataloader

HERE = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
TRAINER = """
import torch
from rapid_inr.pipelines import dataloader
from rapid_inr.pipelines.ram import RamImages

if __name__ == "__main__":
    images = RamImages(torch.zeros(8, 4, 4, 3, dtype=torch.uint8).share_memory_())
    pipeline = dataloader.loader_pipeline(
        images, torch.zeros(8), image_size=(4, 4), mean=(0, 0, 0), std=(1, 1, 1), device="cpu", workers=2, batch_size=4
    )
    batches = pipeline.epoch(0)
    next(batches)
    print("reading", flush=True)
    torch.multiprocessing.get_context().Event().wait()
"""

IN_JOBLIB = """
import torch
from joblib import Parallel, delayed
from rapid_inr.pipelines.dataloader import loader_pipeline
from rapid_inr.pipelines.ram import RamImages

def n_images():
    images = RamImages(torch.zeros(8, 4, 4, 3, dtype=torch.uint8).share_memory_())
    options = {"image_size": (4, 4), "mean": (0, 0, 0), "std": (1, 1, 1), "device": "cpu", "workers": 1, "batch_size": 4}
    return sum(len(batch.ids) for batch in loader_pipeline(images, torch.zeros(8), **options).epoch(0))

if __name__ == "__main__":
    print(Parallel(n_jobs=2)([delayed(n_images)()]))
"""


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found = []
    for path in os.listdir("/proc"):
        try:
            with open(f"/proc/{path}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found += [int(path), *children(int(path))]
    return found


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_workers_end_with_the_process_that_they_read_for_even_if_it_is_killed(tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=HERE) as trainer:
        assert trainer.stdout.readline() == "reading\n"
        workers = children(trainer.pid)
        assert len(workers) >= 3  # the server that forks, and two workers
        os.kill(trainer.pid, signal.SIGKILL)
    try:
        until = time.monotonic() + 10 * dataloader.WATCH_S
        while any(map(lives, workers)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not [pid for pid in workers if lives(pid)]
    finally:
        for pid in filter(lives, workers):
            os.kill(pid, signal.SIGKILL)


def test_workers_start_in_a_job_of_joblib(tmp_path):
    pytest.importorskip("joblib")
    script = tmp_path / "jobs.py"
    script.write_text(IN_JOBLIB)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=HERE)
    assert done.stdout == "[8]\n", done.stderr
