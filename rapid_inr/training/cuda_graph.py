"""A training step up to the gradients: launched kernel by kernel, or on a GPU replayed as one CUDA graph.

Launching the kernels of a small network one by one keeps the host busier than the GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rapid_inr.pipelines.batches import Batch

LossOf = Callable[[Tensor, Batch], Tensor]  # (logits, batch) -> loss
Step = Callable[[Batch], Tensor]
WARM_UPS = 3  # steps before the capture, in which libraries choose their kernels


def plain_step(model: nn.Module, loss_of: LossOf, *, autocast: bool) -> Step:
    """Return a step that writes the gradients of a batch to the model's parameters and returns its loss, detached.

    Args:
        model: in training mode.
        autocast: whether to compute in bfloat16.
    """

    def step(batch: Batch) -> Tensor:
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=autocast, cache_enabled=False):
            loss = loss_of(model(batch.images), batch)
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        return loss.detach()

    return step


def replayed_step(model: nn.Module, loss_of: LossOf, *, autocast: bool) -> Step:
    """Return the same step for a model on a GPU, captured at the first batch and replayed for all batches of its shape.

    A larger batch is captured again, since only the rare batch lacks images; smaller batches take the plain step. The next step
    overwrites the loss and the gradients.
    """
    plain, captured, largest = plain_step(model, loss_of, autocast=autocast), None, 0

    def step(batch: Batch) -> Tensor:
        nonlocal captured, largest
        if len(batch.images) > largest:
            captured, largest = None, len(batch.images)  # the old graph frees its memory first
            captured = CapturedStep(model, plain, batch)
        return captured.replay(batch) if captured.fits(batch) else plain(batch)

    return step


class CapturedStep:
    """A step captured as a CUDA graph, with the tensors that it reads and writes.

    Args:
        model: on the GPU of `like`; the capture changes neither weights nor buffers.
        plain: the step to capture.
        like: a batch of the shape to replay.
    """

    def __init__(self, model: nn.Module, plain: Step, like: Batch) -> None:
        self._tensors = {name: tensor.clone() for name, tensor in like.tensors().items()}
        static = Batch(ids=like.ids, **self._tensors)
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        device = like.images.device
        with torch.cuda.device(device):
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    plain(static)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # capture only this thread's calls, so that a DataLoader's threads can keep working
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._loss = plain(static)
            with torch.no_grad():  # undo what the warm-up did to the batch norm statistics
                for buffer, before in buffers:
                    buffer.copy_(before)
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]

    def fits(self, batch: Batch) -> bool:
        """Return whether a batch has the shapes and dtypes of the captured one."""
        shapes = ({name: (t.shape, t.dtype) for name, t in tensors.items()} for tensors in (batch.tensors(), self._tensors))
        return next(shapes) == next(shapes)

    def replay(self, batch: Batch) -> Tensor:
        """Take the step with a batch that fits."""
        for name, tensor in batch.tensors().items():
            self._tensors[name].copy_(tensor)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient  # a plain step in between replaced them
        self._graph.replay()
        return self._loss
