"""Compile the fused fit for GPUs without having them, and read the resources of its loop over tiles.

`python -m kernels.tools.offline_fit` prints a resource table of kernels/what-was-tried.md and fails if a size exceeds its budget.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from kernels.fit.inputs import Rounding
from kernels.fit.launch import fit_constants, fit_launch, fit_width
from kernels.fit.triton import _fit_siren_kernel
from kernels.spec import SirenSpec
from kernels.tools.machine_code import compile_kernel, cuobjdump, read_instructions, shortest_loop
from kernels.tools.offline import MAX_COMPILE_S, TARGETS

SIZES = ((3, 16), (4, 14), (5, 13), (8, 16), (3, 32), (5, 32), (10, 32), (6, 44), (6, 64))  # depth, hidden
SMALL_DEPTH, SMALL_WIDTH = 3, 16  # sizes up to these keep a tile in registers
MAX_LOOP_INSTRUCTIONS = 1_050  # for 64 pixels of a small size
MAX_SHARED_BYTES = {16: 48 * 1024, 32: 99 * 1024, 64: 99 * 1024}  # the smallest limit of a program on these generations of GPUs
MAX_SPILL_SHARE = 0.05  # of the instructions of the loop; none at a small size
SINE_CLOCKS = 8  # of a 32-lane instruction on a scheduler's sine unit, which is four lanes wide


@dataclass(frozen=True)
class FitResources:
    """The resources of a compiled variant; instructions are those of a warp, for a tile in the loop and a step around it."""

    block: int
    num_warps: int
    registers: int
    shared_bytes: int
    loop_instructions: int
    loop_sines: int
    loop_spills: int
    step_instructions: int
    compile_s: float

    def faults(self, spec: SirenSpec) -> list[str]:
        """List what is over the budget of a size."""
        small = spec.depth <= SMALL_DEPTH and spec.hidden <= SMALL_WIDTH
        a_block = self.loop_instructions * self.num_warps * 64 / self.block
        most_spills = 0 if small else MAX_SPILL_SHARE * self.loop_instructions
        faults = {
            f"{self.loop_spills} instructions of local memory in the loop": self.loop_spills > most_spills,
            f"{a_block:.0f} instructions for 64 pixels": small and a_block > MAX_LOOP_INSTRUCTIONS,
            f"{self.shared_bytes} bytes of shared memory": self.shared_bytes > MAX_SHARED_BYTES[fit_width(spec)],
            f"{self.compile_s:.0f} s of a core to compile": self.compile_s > MAX_COMPILE_S,
        }
        return [what for what, over in faults.items() if over]

    @property
    def clocks_per_pixel(self) -> float:
        """The least clocks of a multiprocessor for a pixel: its four schedulers issue instructions or wait for sines."""
        warp = max(self.loop_instructions, SINE_CLOCKS * self.loop_sines)
        return warp * self.num_warps / 4 / self.block


def compile_fit(spec: SirenSpec, *, target: int, masked: bool = False, rounded: bool = False) -> FitResources:
    """Compile the variant that fits a size.

    Args:
        target: compute capability, 90 for sm_90.
        masked: whether there are masks.
        rounded: whether rows are trained through a quantization with a scale a column and ends in 8 bits.

    Raises:
        ValueError: if triton runs as an interpreter.
    """
    config = fit_launch(spec, capability=target // 10)
    pointers = dict.fromkeys(("rows_ptr", "means_ptr", "squares_ptr", "grads_ptr", "rates_ptr", "roots_ptr"), torch.float32)
    pointers |= {"targets_ptr": torch.float16, "grid_ptr": torch.float16, "starts_ptr": torch.int32}
    pointers |= {"masks_ptr": torch.uint8 if masked else torch.float32}  # without masks, the rows are passed
    pointers |= dict.fromkeys(("rounded_ptr", "log_scales_ptr", "scale_means_ptr", "scale_squares_ptr"), torch.float32)
    scales = torch.zeros(1, spec.depth - 1, spec.hidden)
    rounding = Rounding(scales, 15, 8, 1.0, lambda rows: rows, lambda rows, grad: (grad, scales)) if rounded else None
    integers = ("first_step", "last_step", "first_full", "n_lattices", "n_pixels", "mask_stride")
    compiled, compile_s = compile_kernel(
        _fit_siren_kernel, pointers, integers, fit_constants(spec, config, masked=masked, rounding=rounding), ("n_pixels",),
        target=target, options={"num_warps": config.num_warps, "num_stages": 1},
    )  # fmt: skip
    instructions = read_instructions(compiled)
    tile = shortest_loop(instructions, "MUFU.COS")  # the one over tiles
    return FitResources(
        block=config.block,
        num_warps=config.num_warps,
        registers=int(re.search(r"REG:(\d+)", cuobjdump("-res-usage", compiled))[1]),
        shared_bytes=compiled.metadata.shared,
        loop_instructions=len(tile),
        loop_sines=sum("MUFU" in text for text in tile),
        loop_spills=sum(re.search(r"\b(LDL|STL)\b", text) is not None for text in tile),
        step_instructions=len(instructions) - len(tile),
        compile_s=compile_s,
    )


def main(sizes: Sequence[str]) -> None:
    """Print resources as a Markdown table, without and with masks and rounding, and fail if anything is over budget.

    Args:
        sizes: DEPTHxWIDTH each; empty for all of `SIZES`.
    """
    faults = []
    print("| size | GPU | pixels, warps | registers | shared bytes | loop: instructions, sines, local memory | rest of a step |"
          " clocks a pixel | compile s |\n|---|---|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    chosen = [tuple(map(int, size.split("x"))) for size in sizes] or SIZES
    for rounded, (depth, hidden), target in product((False, True), chosen, TARGETS):
        spec, name = SirenSpec(depth, hidden, 30.0), f"{depth}x{hidden}{', rounded' if rounded else ''}"
        r = compile_fit(spec, target=target, masked=rounded, rounded=rounded)
        print(f"| {name} | sm_{target} | {r.block}, {r.num_warps} | {r.registers} | {r.shared_bytes} | "
              f"{r.loop_instructions}, {r.loop_sines}, {r.loop_spills} | {r.step_instructions} | {r.clocks_per_pixel:.1f} | "
              f"{r.compile_s:.0f} |", flush=True)  # fmt: skip
        faults += [f"{name}, sm_{target}: {fault}" for fault in r.faults(spec)]
    if faults:
        sys.exit("over budget: " + "; ".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
