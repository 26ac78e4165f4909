"""Compile the cosine kernel for GPUs without having them, and read the resources of its loop over blocks.

`python -m kernels.tools.offline_cosine` prints a resource table of kernels/what-was-tried.md and fails if one is over its budget.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from kernels.cosine.launch import BLOCK, cosine_constants, warps_of
from kernels.cosine.spec import CosineSpec
from kernels.cosine.triton import _decode_cosine_kernel
from kernels.decode.io import ImageFormat
from kernels.decode.sampling import Sampling
from kernels.tools.machine_code import compile_kernel, read_instructions, shortest_loop
from kernels.tools.offline import TARGETS, Resources, read_resources

VARIANTS: dict[str, dict[str, Any]] = {
    "32 frequencies": {},
    "16 frequencies": {"frequencies": 16},
    "64 frequencies": {"frequencies": 64},
    "bytes": {"dtype": torch.uint8},
    "zeros padding": {"padding": "zeros"},
    "reflection padding, 2x2 samples": {"padding": "reflection", "supersample": 2},
}
MAX_LOOP_INSTRUCTIONS = {80: 1000, 90: 800, 100: 800}  # of a warp for a block; phases in another layout take 250 more


def compile_cosine(
    *, target: int, frequencies: int = 32, dtype: torch.dtype = torch.bfloat16, padding: str = "none", supersample: int = 1,
) -> tuple[Resources, int]:  # fmt: skip
    """Compile a variant; return its resources and the instructions of a warp for a block of pixels.

    Raises:
        ValueError: if triton runs as an interpreter.
    """
    images = ImageFormat(32, 32, dtype, None, None, True, dtype != torch.uint8)
    spec, sampling = CosineSpec(frequencies, 1, 1, 1), Sampling(padding, torch.zeros(2), supersample)
    pointers = {"out_ptr": dtype, "z_ptr": torch.float16}
    pointers |= dict.fromkeys(("colour_ptr", "mean_ptr", "affine_ptr", "edges_ptr"), torch.float32)
    integers = ("n_images", "n_pixels", "width", "affine_stride", "edges_stride")
    compiled, compile_s = compile_kernel(
        _decode_cosine_kernel, pointers, integers, cosine_constants(spec, images, sampling), ("n_pixels",),
        target=target, options={"num_warps": warps_of(spec), "num_stages": 1},
    )  # fmt: skip
    return read_resources(compiled, compile_s), len(shortest_loop(read_instructions(compiled), "MUFU.SIN"))


def find_faults(resources: Resources, loop_instructions: int, target: int) -> list[str]:
    """List what is over budget or missing for a target."""
    slow = [f"{loop_instructions} instructions a block"] if loop_instructions > MAX_LOOP_INSTRUCTIONS[target] else []
    return resources.faults(target) + slow


def main() -> None:
    """Print resources as a Markdown table, and fail if anything is over budget."""
    faults = []
    print(f"| variant | GPU | registers | shared bytes | instructions for {BLOCK} pixels |\n|---|---|--:|--:|--:|")
    for name, options in VARIANTS.items():
        for target in TARGETS:
            resources, loop = compile_cosine(target=target, **options)
            print(f"| {name} | sm_{target} | {resources.registers} | {resources.shared_bytes} | {loop} |", flush=True)
            faults += [f"{name}, sm_{target}: {fault}" for fault in find_faults(resources, loop, target)]
    if faults:
        sys.exit("over budget: " + "; ".join(faults))


if __name__ == "__main__":
    main()
