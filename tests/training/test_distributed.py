"""Two processes that train one network together, against one that trains it alone."""

import gc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.training.loop import EvalSets, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.tasks import classification
from tests.tolerances import TWO_PROCESSES

CONFIG = OptimizerConfig(epochs=2, batch_size=12, lr=0.05, ema=0.9)


def train_here(*, rank: int = 0, world_size: int = 1, norm: bool = False) -> dict[str, torch.Tensor | float]:
    """Train a network and return its weights, its average, and its last loss.

    Args:
        norm: whether it has a batch norm, which on CPUs sees each process's images alone.
    """
    images = torch.randint(0, 256, (30, 8, 8, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    torch.manual_seed(0)
    between = (nn.BatchNorm2d(8), nn.ReLU()) if norm else (nn.ReLU(),)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), *between, nn.Flatten(), nn.Linear(288, 3))
    pipeline = resident_pipeline(
        images, torch.arange(30) % 3, mean=(0.5,) * 3, std=(0.25,) * 3, device="cpu", batch_size=12, seed=0,
        augment=AugmentConfig(crop_padding=1, cutout=2, mix="mixup"), rank=rank, world_size=world_size,
    )  # fmt: skip
    test = replace(pipeline, seed=None, augment=None, batch_size=29)  # the last batch has one image, hence one process none
    found = {}

    def look(report, learner) -> None:
        found.update(
            {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
            | {f"average.{name}": tensor.clone() for name, tensor in learner.average.items()},
            loss=report.loss, top1_pct=report.scores["top1_pct"], n_images=round(report.images_per_s * report.epoch_s),
        )  # fmt: skip

    train(model, pipeline, EvalSets(test), CONFIG, task=classification(3), device="cpu", autocast=False, on_epoch=look)
    return found


def test_two_processes_train_as_one_does_up_to_rounding(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")  # to look for no name of this machine
    script = "import sys; from tests.training.test_distributed import as_rank; as_rank(1, sys.argv[1])"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True
    )
    alone, together = train_here(), as_rank(0, str(tmp_path))
    _, err = other.communicate(timeout=120)
    assert other.returncode == 0, err
    others = torch.load(tmp_path / "1.pt", weights_only=True)
    for name, value in together["norm"].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(others["norm"][name]))
    assert "average.1.running_mean" in others["norm"]
    for name, value in alone.items():
        torch.testing.assert_close(torch.as_tensor(together[name]), torch.as_tensor(value), atol=TWO_PROCESSES, rtol=0)
        assert torch.equal(torch.as_tensor(together[name]), torch.as_tensor(others[name]))


def as_rank(rank: int, folder: str) -> dict[str, Any]:
    """Train as one of two processes that find each other through a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = train_here(rank=rank, world_size=2)
        found["norm"] = train_here(rank=rank, world_size=2, norm=True)
    finally:
        gc.collect()  # networks that share gradients hold the group, in cycles; one that outlives it can abort the process's end
        distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")
    return found
