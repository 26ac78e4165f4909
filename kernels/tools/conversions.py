"""Does the conversion of float32 to float16 use a GPU's sine unit? `python -m kernels.tools.conversions` tells in five seconds.

A decode does one conversion of two values (F2FP) for two sines. If they share a unit, both together take the sum of their times;
if not, the longer of the two.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kernels.decode.fast_math import fast_sin
from kernels.tools.ceilings import timed_s
from kernels.tools.machine_code import compile_kernel, find_loops, read_instructions

BLOCK = 1024  # values a program: 8 a thread, so that none need wait for the one before
ROUNDS = 4096
PROGRAMS = 64  # a processor
REPEATS = 15  # the fastest counts
KINDS = {"sines": (True, False), "conversions": (False, True), "both": (True, True)}
# a conversion of two values to the halves of 32 bits, which are the next float32; moves between registers cost nothing
CONVERT = tl.constexpr("{ .reg .b32 h; cvt.rn.f16x2.f32 h, $1, $1; mov.b32 $0, h; }")


@triton.jit
def _units_kernel(sink_ptr, rounds, SINES: tl.constexpr, CONVERSIONS: tl.constexpr, BLOCK: tl.constexpr):
    x = (tl.arange(0, BLOCK) + tl.program_id(0)).to(tl.float32)
    y = x
    for _ in range(rounds):
        if SINES:
            x = fast_sin(x, 0)
        if CONVERSIONS:
            y = tl.inline_asm_elementwise(CONVERT, "=f,f", [y], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(sink_ptr + tl.program_id(0), tl.sum(x + y, axis=0))  # keeps the compiler from leaving them out


def count_loop(kind: str, *, target: int) -> dict[str, int]:
    """Return how many sines, conversions and instructions the loop of a kind is compiled to; see `compile_kernel`."""
    sines, conversions = KINDS[kind]
    constants = {"SINES": sines, "CONVERSIONS": conversions, "BLOCK": BLOCK}
    compiled, _ = compile_kernel(
        _units_kernel, {"sink_ptr": torch.float32}, ("rounds",), constants, (), target=target, options={"num_warps": 4}
    )
    loop = max(find_loops(read_instructions(compiled)), key=len).values()
    return {name: sum(name in text for text in loop) for name in ("MUFU.SIN", "F2FP")} | {"all": len(loop)}


def main() -> None:
    """Print the time of each kind, and how much of the shorter one adds to the longer when both are done."""
    device = torch.device("cuda")
    programs = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
    sink = torch.empty(programs, device=device)
    seconds = {}
    for name, (sines, conversions) in KINDS.items():

        def launch(sines: bool = sines, conversions: bool = conversions) -> None:
            _units_kernel[(programs,)](
                sink, ROUNDS, SINES=sines, CONVERSIONS=conversions, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=True
            )

        launch()
        seconds[name] = min(timed_s(launch, device) for _ in range(REPEATS))
        print(f"{name}: {1e3 * seconds[name]:.2f} ms, {programs * BLOCK * ROUNDS / seconds[name] / 1e12:.2f}e12 a second")
    *alone, both = seconds.values()
    print(f"{(both - max(alone)) / min(alone):.0%} of the shorter is added: 100% is one unit, 0% two")


if __name__ == "__main__":
    main()
