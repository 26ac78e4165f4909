"""A network that learns, and what its epochs have come to: what a checkpoint is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rapid_inr.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class EpochReport:
    """One epoch.

    Args:
        loss: of training, nats.
        top1_pct: accuracy on the clean test images.
        epoch_s: seconds of training alone.
        images_per_s: of training alone, over all processes.
        decoded_top1_pct: accuracy on decoded test images, where there are some.
        val_top1_pct: accuracy on training images held out, where there are some.
    """

    epoch: int
    loss: float
    top1_pct: float
    epoch_s: float
    images_per_s: float
    decoded_top1_pct: float | None = None
    val_top1_pct: float | None = None


@dataclass
class Learner:
    """A network that learns: its weights, their momenta, their running average."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    steps: int = 0

    @cached_property
    def followed(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Averages, the weights that they move towards, and the counters that are copied: listed once, not in every step."""
        weights = self.model.state_dict()
        moving = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        counters = [(self.average[name], weights[name]) for name in weights.keys() - set(moving)]
        return [self.average[name] for name in moving], [weights[name] for name in moving], counters

    @torch.no_grad()
    def follow(self, *, decay: float) -> None:
        """Move the average towards the weights; counters, which are no floats, are copied."""
        averages, weights, counters = self.followed
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for counter, latest in counters:
            counter.copy_(latest)

    def tested(self) -> Callable[[Tensor], Tensor]:
        """Return the network that is judged: with averaged weights, where there are."""
        if self.average is None:
            return self.model
        return lambda images: functional_call(self.model, self.average, (images,))

    def weights(self) -> dict[str, Tensor]:
        """Return the weights and buffers that are judged."""
        return self.model.state_dict() if self.average is None else self.average

    def checkpoint(self, reports: list[EpochReport]) -> Checkpoint:
        names = {id(p): name for name, p in self.model.named_parameters()}
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{names[id(parameter)]}"] = state["momentum_buffer"]
        for name, tensor in (self.average or {}).items():
            tensors[f"average.{name}"] = tensor
        return Checkpoint(tensors, [asdict(report) for report in reports], self.steps)

    def restore(self, checkpoint: Checkpoint) -> list[EpochReport]:
        """Go back to where a training was when `checkpoint` was made, and return what its epochs had come to."""
        self.steps = checkpoint.steps
        self.model.load_state_dict(checkpoint.part("model"))
        momenta = checkpoint.part("momentum")
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momenta[name])
        if self.average is not None:
            for name, tensor in checkpoint.part("average").items():
                self.average[name].copy_(tensor)
        return [EpochReport(**report) for report in checkpoint.reports]
