"""Test whether the conversion of float32 to float16 uses a GPU's sine unit: `python -m kernels.tools.conversions`, five seconds.

A decode converts two values (F2FP) for every two sines. If they share a unit, both together take the sum of their times; if not,
the longer of the two.
"""

from __future__ import annotations

import torch

from kernels.tools.ceilings import timed_s
from kernels.tools.machine_code import compile_kernel, find_loops, read_instructions
from kernels.tools.sine_ceiling import BLOCK, PROGRAMS, _units_kernel, launch_sines

REPEATS = 15  # the fastest counts
KINDS = {
    "sines": {"sines": True, "conversions": False},
    "conversions": {"sines": False, "conversions": True},
    "both": {"sines": True, "conversions": True},
}


def count_loop(kind: str, *, target: int) -> dict[str, int]:
    """Return the number of sines, conversions and instructions in the compiled loop of a kind; see `compile_kernel`."""
    constants = {name.upper(): value for name, value in KINDS[kind].items()} | {"PROGRAMS": PROGRAMS, "BLOCK": BLOCK}
    compiled, _ = compile_kernel(
        _units_kernel, {"sink_ptr": torch.float32}, ("rounds",), constants, (), target=target, options={"num_warps": 4}
    )
    loop = max(find_loops(read_instructions(compiled)), key=len).values()
    return {name: sum(name in text for text in loop) for name in ("MUFU.SIN", "F2FP")} | {"all": len(loop)}


def main() -> None:
    """Print the time of each kind, and what fraction of the shorter time adds to the longer when both are done."""
    device = torch.device("cuda")
    sink, seconds = torch.zeros(torch.cuda.get_device_properties(device).multi_processor_count, device=device), []
    for name, units in KINDS.items():
        count = launch_sines(sink, **units)
        seconds.append(min(timed_s(lambda units=units: launch_sines(sink, **units), device) for _ in range(REPEATS)))
        print(f"{name}: {1e3 * seconds[-1]:.2f} ms, {count / seconds[-1] / 1e12:.2f}e12 a second")
    *alone, both = seconds
    print(f"{(both - max(alone)) / min(alone):.0%} of the shorter is added: 100% is one unit, 0% two")


if __name__ == "__main__":
    main()
