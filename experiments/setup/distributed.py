"""Join the processes that torchrun has started, which train one network together."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
from collections.abc import Iterator

import torch
from omegaconf import DictConfig
from torch import distributed

from experiments.setup.build import build_device
from experiments.setup.processes import is_main_process, world_size


@contextlib.contextmanager
def init_distributed(cfg: DictConfig) -> Iterator[None]:
    """Join the processes that torchrun has started, if it has, each on a GPU of its own where there are GPUs.

    Only the first keeps its run: the others write theirs where it is deleted, and print nothing but errors.
    """
    if world_size() == 1:
        yield
        return
    device = build_device(cfg)
    if device.type == "cuda":
        cfg.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(build_device(cfg))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with contextlib.ExitStack() as stack:
            if not is_main_process():
                cfg.run_dir = stack.enter_context(tempfile.TemporaryDirectory()) + "/run"
                cfg.track.mode = "off"
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    finally:
        gc.collect()  # networks that share gradients hold the group, in cycles; one that outlives it can abort the process's end
        distributed.destroy_process_group()
