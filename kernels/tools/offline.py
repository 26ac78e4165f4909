"""Compile the decode kernel for GPUs without having them, and read the resources of the compiled code.

`python -m kernels.tools.offline` prints the resource tables of kernels/what-was-tried.md and fails if a variant is over its
budget. It needs triton's compiler, so TRITON_INTERPRET must be unset.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import torch
import triton

from kernels.decode.io import ImageFormat
from kernels.decode.launch import LaunchConfig, kernel_constants, launch_config
from kernels.decode.sampling import Sampling
from kernels.decode.triton import _decode_siren_kernel
from kernels.rows import CODE_DTYPES
from kernels.spec import SirenSpec
from kernels.tools.machine_code import compile_kernel, cuobjdump, find_loops, read_instructions
from kernels.unpack.triton import _prepare_rows_kernel, prepare_constants, prepare_warps

TARGETS = (80, 90, 100)  # A100, H100 and H200, B200
# depth, hidden, side of the image in pixels: the sizes of the experiments, and the widest
SIZES = (
    (2, 16, 32), (3, 16, 32), (3, 24, 32), (3, 32, 32), (4, 16, 32), (5, 13, 32), (5, 16, 32), (5, 32, 32),
    (6, 44, 224), (10, 28, 224), (10, 32, 224), (10, 40, 224), (12, 64, 224),
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {  # of a decode of 10x40 at VARIANT_SIDE pixels
    "float32 images": {"dtype": torch.float32},
    "bytes, planar": {"dtype": torch.uint8, "channels_last": False},
    "accurate sine": {"exact_sine": True},
    "zeros padding": {"padding": "zeros"},
    "reflection padding": {"padding": "reflection"},
    "border padding": {"padding": "border"},
    "2x2 samples": {"supersample": 2},
    "reflection padding, 2x2 samples": {"padding": "reflection", "supersample": 2},
}
ROWS: dict[str, dict[str, Any]] = {  # of 10x40, that are prepared
    "8 bits": {},
    "5 bits, int8 ends": {"bits": 5, "ends": torch.int8},
    "5 bits, int8 ends, a scale a layer": {"bits": 5, "ends": torch.int8, "scales": 1},
    "5 bits, masks": {"bits": 5, "masked": True},
    "float16": {"bits": 16},
    "float32": {"bits": 32, "ends": torch.float32},
}
VARIANT_SIDE = 32
MATRIX_INSTRUCTION = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
MAX_REGISTERS = 255
MAX_SHARED_BYTES = 48 * 1024  # the default limit of a program
MAX_PTX_LINES = 5_500  # unrolled layers would take 10,000 at 10x32
MAX_COMPILE_S = 20.0


@dataclass(frozen=True)
class Resources:
    """The resources of a compiled variant: registers and bytes of a thread, and shared bytes of a program.

    Args:
        instructions: of a warp, counting the loop over layers once.
        loop_instructions, loop_sines: of a warp in a layer; 0 without a loop.
    """

    registers: int
    stack_bytes: int
    local_bytes: int
    spill_instructions: int
    num_warps: int
    shared_bytes: int
    ptx_lines: int
    instructions: int
    loop_instructions: int
    loop_sines: int
    sine_instructions: int
    matrix_instructions: tuple[str, ...]
    compile_s: float

    def faults(self, target: int, *, decodes: bool = True, exact_sine: bool = False) -> list[str]:
        """List what is over budget or missing for a target; only a decode needs matrix products and sines."""
        matrix = MATRIX_INSTRUCTION[target if self.num_warps >= 4 else 80]
        faults = {
            f"{self.registers} registers": self.registers > MAX_REGISTERS,
            f"{self.stack_bytes} bytes of stack": self.stack_bytes > 0,
            f"{self.local_bytes} bytes of local memory": self.local_bytes > 0,
            f"{self.spill_instructions} spill instructions": self.spill_instructions > 0,
            f"{self.shared_bytes} bytes of shared memory": self.shared_bytes > MAX_SHARED_BYTES,
            f"{self.ptx_lines} lines of PTX": self.ptx_lines > MAX_PTX_LINES,
            f"{self.compile_s:.0f} s of a core to compile": self.compile_s > MAX_COMPILE_S,
            f"no {matrix}": decodes and matrix not in self.matrix_instructions,
            f"{self.sine_instructions} hardware sines": decodes and (self.sine_instructions > 0) == exact_sine,
        }
        return [what for what, over in faults.items() if over]


def compile_decode(
    spec: SirenSpec,
    *,
    target: int,
    side: int,
    dtype: torch.dtype = torch.bfloat16,
    channels_last: bool = True,
    exact_sine: bool = False,
    padding: str = "none",
    supersample: int = 1,
    config: LaunchConfig | None = None,
) -> Resources:
    """Compile the variant that decodes side x side images.

    Args:
        target: compute capability, 90 for sm_90.
        dtype: of the images.
        config: launch parameters; by default those of `launch_config`.

    Raises:
        ValueError: if triton runs as an interpreter, which has no compiler.
    """
    images = ImageFormat(side, side, dtype, None, None, True, channels_last)
    config = config or launch_config(spec, images.n_pixels, capability=target // 10)
    sampling = Sampling(padding, torch.zeros(2), supersample)
    constants = kernel_constants(spec, images, sampling, exact_sine=exact_sine, config=config)
    pointers = {"out_ptr": dtype, "weights_ptr": torch.float16} | dict.fromkeys(
        ("ends_ptr", "affine_ptr", "edges_ptr"), torch.float32
    )
    integers = ("n_images", "n_pixels", "width", "affine_stride", "edges_stride")
    divisible = ("n_pixels",) if images.n_pixels % 16 == 0 else ()  # the launcher specialises on this integer only
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    compiled = compile_kernel(_decode_siren_kernel, pointers, integers, constants, divisible, target=target, options=options)
    return read_resources(*compiled)


def compile_prepare(
    spec: SirenSpec,
    *,
    target: int,
    bits: int = 8,
    ends: torch.dtype = torch.float16,
    scales: int | None = None,
    masked: bool = False,
) -> Resources:  # fmt: skip
    """Compile the variant that prepares rows for a decode.

    Args:
        bits: of a code.
        ends: element type of the ends.
        scales: number of scales of a hidden layer with integer codes; by default one a column.

    Raises:
        ValueError: as `compile_decode`.
    """
    scale = torch.float32 if ends == torch.float32 else torch.float16  # as a store has them
    pointers = {
        "weights_ptr": torch.float16, "out_ptr": torch.float32, "codes_ptr": CODE_DTYPES[bits], "ends_ptr": ends,
        "scales_ptr": scale, "end_scales_ptr": scale, "masks_ptr": torch.uint8, "starts_ptr": torch.int64, "ids_ptr": torch.int64,
    }  # fmt: skip
    n_scales = 0 if bits > 8 else scales or spec.hidden
    constants = prepare_constants(spec, bits=bits, masked=masked, scales=n_scales, int8_ends=ends == torch.int8)
    integers = ("n_rows", "scales_stride")
    options = {"num_warps": prepare_warps(constants)}
    return read_resources(
        *compile_kernel(_prepare_rows_kernel, pointers, integers, constants, (), target=target, options=options)
    )


def read_resources(compiled: triton.compiler.CompiledKernel, compile_s: float) -> Resources:
    ptx, instructions = compiled.asm["ptx"], read_instructions(compiled)
    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", cuobjdump("-res-usage", compiled)))
    products = [loop for loop in find_loops(instructions) if any("MMA" in text for text in loop.values())]
    layer = min(products, key=len, default={})
    matrix = re.findall(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync)\b", ptx)
    return Resources(
        registers=int(usage["REG"]),
        stack_bytes=int(usage["STACK"]),
        local_bytes=int(usage["LOCAL"]),
        spill_instructions=len(
            re.findall(r"\b(?:STL|LDL)\b", " ".join(instructions.values()))
        ),  # stores and loads of local memory
        num_warps=compiled.metadata.num_warps,
        shared_bytes=compiled.metadata.shared,
        ptx_lines=ptx.count("\n"),
        instructions=len(instructions),
        loop_instructions=len(layer),
        loop_sines=sum("MUFU" in text for text in layer.values()),
        sine_instructions=ptx.count("sin.approx.ftz.f32"),
        matrix_instructions=tuple(sorted(set(matrix))),
        compile_s=compile_s,
    )


def main(sizes: Sequence[str]) -> None:
    """Print resources as Markdown tables, and fail if anything is over budget.

    Args:
        sizes: DEPTHxWIDTH@PIXELS each; empty for all configured sizes and all variants of one of them.
    """
    heading = " | ".join(field.name for field in fields(Resources)) + " |\n" + "|---" * (len(fields(Resources)) + 2) + "|"
    faults = []
    print("| size | target | " + heading)
    for depth, hidden, side in [tuple(map(int, re.split("[x@]", size))) for size in sizes] or SIZES:
        for target in TARGETS:
            resources = compile_decode(SirenSpec(depth, hidden, 30.0), target=target, side=side)
            faults += _print_row(f"{depth}x{hidden} at {side} px", target, resources)
    faults += [] if sizes else _print_variants(heading)
    if faults:
        sys.exit("over budget: " + "; ".join(faults))


def _print_variants(heading: str) -> list[str]:
    """Print the table of one size in all variants and return its faults."""
    print(f"\n| 10x40 at {VARIANT_SIDE} px | target | " + heading)
    spec, faults = SirenSpec(10, 40, 30.0), []
    for name, options in VARIANTS.items():
        for target in TARGETS:
            resources = compile_decode(spec, target=target, side=VARIANT_SIDE, **options)
            faults += _print_row(name, target, resources, exact_sine="exact_sine" in options)
    for name, options in ROWS.items():
        for target in TARGETS:
            faults += _print_row(f"preparing {name}", target, compile_prepare(spec, target=target, **options), decodes=False)
    return faults


def _print_row(name: str, target: int, resources: Resources, **kind: bool) -> list[str]:
    """Print a row and return its faults."""
    cells = astuple(resources)
    text = [", ".join(cell) if isinstance(cell, tuple) else f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]
    print(f"| {name} | sm_{target} | " + " | ".join(map(str, text)) + " |", flush=True)
    return [f"{name}, sm_{target}: {fault}" for fault in resources.faults(target, **kind)]


if __name__ == "__main__":
    main(sys.argv[1:])
