"""A network's training passes as CUDA graphs: launched one by one, its kernels keep the host busier than the GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def graphed(model: nn.Module, shape: tuple[int, ...], *, device: torch.device, autocast: bool) -> Callable[[Tensor], Tensor]:
    """Return what computes a model's training forward pass, and its backward pass, by replaying a graph of each.

    Weights, buffers and results are those of the model; batches of another shape, and the model in evaluation mode, run as
    before. On a CPU it is the model itself. Nothing else may use the GPU from this process meanwhile.

    Args:
        model: in training mode, on `device`, its memory format channels_last.
        shape: [B, 3, height, width] of the batches.
        autocast: whether to compute in bfloat16.
    """
    if device.type != "cuda":
        return model
    dtype = torch.bfloat16 if autocast else torch.float32
    sample = torch.zeros(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    plain = model.forward
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast, cache_enabled=False):
        replayed = torch.cuda.make_graphed_callables(model, (sample,))
    with torch.no_grad():  # the sample has been through the batch norms
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])

    def forward(images: Tensor) -> Tensor:
        fits = images.shape == sample.shape and images.dtype == sample.dtype
        return replayed(images) if fits else plain(images)

    return forward
