"""How much of a device's memory a batch may take."""

from __future__ import annotations

import torch

CUDA_MEMORY_SHARE = 0.5  # of the free device memory


def gpu_budget_bytes(device: torch.device) -> int:
    """Return how many bytes the buffers of a batch may take on a GPU."""
    # the driver counts memory that torch's allocator caches as used, but torch can still hand it out
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(CUDA_MEMORY_SHARE * (torch.cuda.mem_get_info(device)[0] + held))
