"""A training step up to the gradients: kernel by kernel, or on a GPU as one CUDA graph that is replayed.

Launched one by one, the kernels of a small network keep the host busier than the GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rapid_inr.pipelines.batches import Batch

LossOf = Callable[[Tensor, Batch], Tensor]  # of logits and their batch
Step = Callable[[Batch], Tensor]
WARM_UPS = 3  # passes in which libraries choose their kernels, before one is captured


def plain_step(model: nn.Module, loss_of: LossOf, *, autocast: bool) -> Step:
    """Return what leaves the gradients of a batch in the parameters of a model, and returns its loss, detached.

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
    """Return the same for a model on a GPU, captured at the first batch and replayed for all that are shaped alike.

    It is captured again at a larger batch, since those that lack images are the exception; other batches take the plain way. The
    loss that is returned, and the gradients, are overwritten by the next step.
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
    """A step that has been captured as a CUDA graph, with the tensors that it reads and writes.

    Args:
        model: on the GPU of `like`; neither its weights nor its buffers are changed.
        plain: the step.
        like: a batch of the shape that is replayed.
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
            # the threads of a DataLoader may go on: the capture minds this thread's calls alone
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._loss = plain(static)
            with torch.no_grad():  # the statistics of batch norms have seen the warm-up
                for buffer, before in buffers:
                    buffer.copy_(before)
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]

    def fits(self, batch: Batch) -> bool:
        """Return whether a batch is shaped like the one that was captured."""
        shapes = ({name: (t.shape, t.dtype) for name, t in tensors.items()} for tensors in (batch.tensors(), self._tensors))
        return next(shapes) == next(shapes)

    def replay(self, batch: Batch) -> Tensor:
        """Take the step with a batch that fits."""
        for name, tensor in batch.tensors().items():
            self._tensors[name].copy_(tensor)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient  # a plain step between has put others there
        self._graph.replay()
        return self._loss
