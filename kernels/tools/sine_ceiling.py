"""A kernel that only computes sines, conversions to float16, or both, in registers, to measure a GPU's units."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.decode.fast_math import fast_sin

BLOCK = 1024  # values a program: 8 a thread, so that sines can overlap
ROUNDS = 4096  # sines a value
PROGRAMS = 64  # programs an element of the sink: several waves, so that all processors work to the end
# converts two values to the halves of 32 bits, which are the next float32; moves between registers cost nothing
CONVERT = tl.constexpr("{ .reg .b32 h; cvt.rn.f16x2.f32 h, $1, $1; mov.b32 $0, h; }")


@triton.jit
def _units_kernel(sink_ptr, rounds, SINES: tl.constexpr, CONVERSIONS: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    x = (tl.arange(0, BLOCK) + program).to(tl.float32)
    y = x * 0.0
    for _ in range(rounds):
        if SINES:
            x = fast_sin(x, 0)
        if CONVERSIONS:
            y = tl.inline_asm_elementwise(CONVERT, "=f,f", [y], dtype=tl.float32, is_pure=True, pack=1)
    # the sum keeps the compiler from removing them; programs of an element add up
    tl.atomic_add(sink_ptr + program // PROGRAMS, tl.sum(x + y, axis=0))


def launch_sines(sink: Tensor, *, rounds: int = ROUNDS, sines: bool = True, conversions: bool = False) -> int:
    """Compute sines, conversions or both on the GPU of `sink`, float32 with one element a processor; return how many."""
    programs = PROGRAMS * len(sink)
    _units_kernel[(programs,)](
        sink, rounds, SINES=sines, CONVERSIONS=conversions, PROGRAMS=PROGRAMS, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
    )
    return programs * BLOCK * rounds
