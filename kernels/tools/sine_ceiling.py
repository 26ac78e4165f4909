"""A kernel that only computes sines in registers, to measure the ceiling of a GPU's sine unit."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.decode.fast_math import fast_sin

BLOCK = 1024  # values a program: 8 a thread, so that sines can overlap
ROUNDS = 4096  # sines a value
PROGRAMS = 64  # programs an element of the sink: several waves, so that all processors work to the end


@triton.jit
def _sine_kernel(sink_ptr, rounds, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    x = (tl.arange(0, BLOCK) + program).to(tl.float32)
    for _ in range(rounds):
        x = fast_sin(x, 0)
    # the sum keeps the compiler from removing the sines; programs of an element add up
    tl.atomic_add(sink_ptr + program // PROGRAMS, tl.sum(x, axis=0))


def launch_sines(sink: Tensor, *, rounds: int = ROUNDS) -> int:
    """Compute sines on the GPU of `sink`, a float32 vector with one element a processor, and return their number."""
    programs = PROGRAMS * len(sink)
    _sine_kernel[(programs,)](sink, rounds, PROGRAMS=PROGRAMS, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True)
    return programs * BLOCK * rounds
