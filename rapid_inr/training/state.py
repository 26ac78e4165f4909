"""The state of a training: the network, its optimizer and EMA, and the reports of its epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rapid_inr.training.checkpoint import Checkpoint, CheckpointError


@dataclass(frozen=True)
class EpochReport:
    """The report of one epoch.

    Args:
        loss: training loss, nats an image or pixel.
        epoch_s: seconds of training, without evaluation.
        images_per_s: of training, without evaluation, over all processes.
        scores: in percent, named by the task's metric: ``top1_pct`` on clean test images and, if there are any,
            ``decoded_top1_pct`` on decoded ones and ``val_top1_pct`` on the validation split.
    """

    epoch: int
    loss: float
    epoch_s: float
    images_per_s: float
    scores: dict[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Return the report as one line of metrics."""
        return {
            "epoch": self.epoch, "loss": self.loss, **self.scores, "epoch_s": self.epoch_s, "images_per_s": self.images_per_s
        }  # fmt: skip

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the report with these `values`."""
        own = ("epoch", "loss", "epoch_s", "images_per_s")
        return cls(*(values[name] for name in own), {name: value for name, value in values.items() if name not in own})


@dataclass
class Learner:
    """A network in training, its optimizer and, with EMA, the average of its weights."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    steps: int = 0

    @cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """The averages, their weights, and (average, latest) pairs of counters: listed once, not in every step."""
        weights = self.model.state_dict()
        moving = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        counters = [(self.average[name], weights[name]) for name in weights.keys() - set(moving)]
        return [self.average[name] for name in moving], [weights[name] for name in moving], counters

    @torch.no_grad()
    def update_average(self, *, decay: float) -> None:
        """Update the average by the current weights; integer counters are copied."""
        averages, weights, counters = self._averaged
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for counter, latest in counters:
            counter.copy_(latest)

    def tested(self) -> Callable[[Tensor], Tensor]:
        """Return the network to evaluate: with the EMA of the weights, if there is one."""
        if self.average is None:
            return self.model
        return lambda images: functional_call(self.model, self.average, (images,))

    def weights(self) -> dict[str, Tensor]:
        """Return the weights and buffers to evaluate and save."""
        return self.model.state_dict() if self.average is None else self.average

    def checkpoint(self, reports: list[EpochReport]) -> Checkpoint:
        names = {id(p): name for name, p in self.model.named_parameters()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{names[id(parameter)]}"] = state["momentum_buffer"]
        for name, tensor in (self.average or {}).items():
            tensors[f"average.{name}"] = tensor
        return Checkpoint(tensors, [report.values() for report in reports], self.steps)

    def restore(self, checkpoint: Checkpoint) -> list[EpochReport]:
        """Load the state of a checkpoint and return the reports of its epochs.

        Raises:
            CheckpointError: if its tensors do not fit this network.
        """
        self._require_fits(checkpoint)
        self.steps = checkpoint.steps
        self.model.load_state_dict(checkpoint.part("model"))
        momenta = checkpoint.part("momentum")
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momenta[name])
        for name, tensor in checkpoint.part("average").items():
            self.average[name].copy_(tensor)
        return [EpochReport.of(report) for report in checkpoint.reports]

    def _require_fits(self, checkpoint: Checkpoint) -> None:
        expected = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        expected |= {f"average.{name}": tensor for name, tensor in (self.average or {}).items()}
        if checkpoint.steps and self.optimizer.defaults["momentum"]:
            expected |= {f"momentum.{name}": p for name, p in self.model.named_parameters() if p.requires_grad}
        for name in sorted(expected.keys() | checkpoint.tensors.keys()):
            wanted, actual = (
                (tuple(tensors[name].shape), tensors[name].dtype) if name in tensors else "none"
                for tensors in (expected, checkpoint.tensors)
            )
            if wanted != actual:
                raise CheckpointError(f"the checkpoint does not fit this network: {name} is {actual}, expected {wanted}")
