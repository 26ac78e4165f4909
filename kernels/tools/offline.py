"""Compile the decode kernel for a GPU that need not be there, and read what the compiled code takes of it.

`python -m kernels.tools.offline` prints the resource tables of kernels/what-was-tried.md and fails where a variant is over its
budget. It needs triton's compiler, so TRITON_INTERPRET must be unset.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.checks import require
from kernels.decode.fast_math import INTERPRETED
from kernels.decode.io import ImageFormat
from kernels.decode.launch import kernel_constants, launch_config
from kernels.decode.sampling import Sampling
from kernels.decode.triton import _decode_siren_kernel
from kernels.rows import CODE_DTYPES
from kernels.spec import SirenSpec
from kernels.unpack.triton import _unpack_rows_kernel, unpack_constants, unpacks_before

TARGETS = (80, 90, 100)  # A100, H100 and H200, B200
# depth, hidden, side of the image in pixels: those of the experiments, and the widest
SIZES = (
    (2, 16, 32), (3, 16, 32), (3, 24, 32), (3, 32, 32), (4, 16, 32), (5, 13, 32), (5, 16, 32), (5, 32, 32),
    (6, 44, 224), (10, 28, 224), (10, 32, 224), (10, 40, 224), (12, 64, 224),
)  # fmt: skip
SMALL: dict[str, Any] = {"bits": 5, "ends": torch.int8}  # rows as small as they get without masks
VARIANTS: dict[str, dict[str, Any]] = {  # of 10x40, at VARIANT_SIDE pixels, where a decode reads small codes itself
    "4 bits": {"bits": 4},
    "5 bits": {"bits": 5},
    "5 bits, int8 ends": SMALL,
    "5 bits, int8 ends, 224 px": SMALL | {"side": 224},  # unpacked before
    "5 bits, int8 ends, a scale a layer": SMALL | {"scales": 1},
    "float16 weights": {"bits": 16},
    "float32 weights and images": {"bits": 32, "ends": torch.float32, "dtype": torch.float32},
    "bytes, planar": {"dtype": torch.uint8, "channels_last": False},
    "accurate sine": {"exact_sine": True},
    "zeros padding": {"padding": "zeros"},
    "reflection padding": {"padding": "reflection"},
    "border padding": {"padding": "border"},
    "2x2 samples": {"supersample": 2},
    "5 bits, int8 ends, reflection padding, 2x2 samples": SMALL | {"padding": "reflection", "supersample": 2},
}
VARIANT_SIDE = 32
MATRIX_INSTRUCTION = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
MAX_REGISTERS = 255
MAX_SHARED_BYTES = 48 * 1024  # what a program may take without asking for more
MAX_PTX_LINES = 5_500  # layers unrolled would be 10,000 for 10x32
MAX_UNPACK_PTX_LINES = 1_200
MAX_COMPILE_S = 20.0
TRITON_TYPES = {
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}


@dataclass(frozen=True)
class Resources:
    """What one compiled variant takes: registers and bytes are a thread's, but for `shared_bytes`, a program's."""

    registers: int
    stack_bytes: int
    local_bytes: int
    spill_instructions: int
    num_warps: int
    shared_bytes: int
    ptx_lines: int
    sine_instructions: int
    matrix_instructions: tuple[str, ...]
    compile_s: float

    def faults(self, target: int, *, decodes: bool = True, exact_sine: bool = False) -> list[str]:
        """Name what is over budget or missing for a target; a kernel that does not decode needs neither product nor sine."""
        most_lines = MAX_PTX_LINES if decodes else MAX_UNPACK_PTX_LINES
        matrix = MATRIX_INSTRUCTION[target if self.num_warps >= 4 else 80]
        faults = {
            f"{self.registers} registers": self.registers > MAX_REGISTERS,
            f"{self.stack_bytes} bytes of stack": self.stack_bytes > 0,
            f"{self.local_bytes} bytes of local memory": self.local_bytes > 0,
            f"{self.spill_instructions} spill instructions": self.spill_instructions > 0,
            f"{self.shared_bytes} bytes of shared memory": self.shared_bytes > MAX_SHARED_BYTES,
            f"{self.ptx_lines} lines of PTX": self.ptx_lines > most_lines,
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
    bits: int = 8,
    ends: torch.dtype = torch.float16,
    scales: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    channels_last: bool = True,
    exact_sine: bool = False,
    padding: str = "none",
    supersample: int = 1,
) -> Resources:
    """Compile the variant that a decode of side x side images launches.

    Args:
        target: compute capability, 90 for sm_90.
        bits: of a code.
        ends, dtype: element types of the ends and of the images.
        scales: how many a hidden layer has with integer codes; one a column by default.

    Raises:
        ValueError: if triton runs as an interpreter, which has no compiler.
    """
    images = ImageFormat(side, side, dtype, None, None, True, channels_last)
    config = launch_config(spec, images.n_pixels, capability=target // 10)
    n_scales = 0 if bits > 8 else scales or spec.hidden
    sampling = Sampling(padding, torch.zeros(2), supersample)
    passes = triton.cdiv(images.n_pixels, config.block) * supersample**2
    unpacked = unpacks_before(bits=bits, masked=False, passes=passes)
    constants = kernel_constants(
        spec, images, sampling, bits=bits, scales=n_scales, unpacked=unpacked, int8_ends=ends == torch.int8,
        exact_sine=exact_sine, config=config,
    )  # fmt: skip
    scale = torch.float32 if ends == torch.float32 else torch.float16  # as a store has them
    pointers = {
        "out_ptr": dtype,
        "codes_ptr": CODE_DTYPES[constants["BITS"]],
        "ends_ptr": ends,
        "scales_ptr": scale,
        "end_scales_ptr": scale,
        "ids_ptr": torch.int64,
        "affine_ptr": torch.float32,
        "edges_ptr": torch.float32,
    }
    integers = ("n_images", "n_rows", "n_pixels", "width", "scales_stride", "affine_stride", "edges_stride")
    divisible = ("n_pixels",) if images.n_pixels % 16 == 0 else ()  # the one integer that the launcher looks at
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    compiled = compile_kernel(_decode_siren_kernel, pointers, integers, constants, divisible, target=target, options=options)
    return read_resources(*compiled)


def compile_unpack(spec: SirenSpec, *, target: int, bits: int, masked: bool) -> Resources:
    """Compile the variant that unpacks rows before a decode.

    Raises:
        ValueError: as `compile_decode`.
    """
    pointers = dict.fromkeys(("out_ptr", "codes_ptr", "masks_ptr"), torch.uint8)
    pointers |= dict.fromkeys(("starts_ptr", "ids_ptr"), torch.int64)
    constants = unpack_constants(spec, bits=bits, masked=masked)
    integers = ("n_rows", "row_bytes", "mask_bytes")
    compiled = compile_kernel(_unpack_rows_kernel, pointers, integers, constants, (), target=target, options={"num_warps": 4})
    return read_resources(*compiled)


def compile_kernel(
    kernel: triton.JITFunction,
    pointers: dict[str, torch.dtype],
    integers: tuple[str, ...],
    constants: dict[str, int | bool | str],
    divisible: tuple[str, ...],
    *,
    target: int,
    options: dict[str, Any],
) -> tuple[triton.compiler.CompiledKernel, float]:
    """Compile a kernel as its launch would, and return it with the seconds of a core that it took.

    Args:
        pointers: their element types, by name; all are divisible by 16.
        integers: names of the int32 arguments; what is in no other list is a float32.
        divisible: those of them that are divisible by 16.
        target: compute capability, 90 for sm_90.

    Raises:
        ValueError: if triton runs as an interpreter, which has no compiler.
    """
    require(not INTERPRETED, "TRITON_INTERPRET", "set", "unset: the interpreter compiles nothing")
    types = {name: "*" + TRITON_TYPES[dtype] for name, dtype in pointers.items()}
    types |= dict.fromkeys(integers, "i32") | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "fp32") for name in kernel.arg_names},
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs={(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in (*pointers, *divisible)},
    )
    start = _cpu_s()
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options | {"enable_fp_fusion": True})
    return compiled, _cpu_s() - start


def _cpu_s() -> float:
    """Return the seconds of a core that this process and its children (ptxas) have used, whatever else the machine does."""
    return sum(os.times()[:4])


def read_resources(compiled: triton.compiler.CompiledKernel, compile_s: float) -> Resources:
    ptx = compiled.asm["ptx"]
    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", cuobjdump("-res-usage", compiled)))
    # STL and LDL are SASS's stores and loads of local memory
    spills = len(re.findall(r"\b(?:STL|LDL)\b", cuobjdump("-sass", compiled)))
    matrix = re.findall(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync)\b", ptx)
    return Resources(
        registers=int(usage["REG"]),
        stack_bytes=int(usage["STACK"]),
        local_bytes=int(usage["LOCAL"]),
        spill_instructions=spills,
        num_warps=compiled.metadata.num_warps,
        shared_bytes=compiled.metadata.shared,
        ptx_lines=ptx.count("\n"),
        sine_instructions=ptx.count("sin.approx.ftz.f32"),
        matrix_instructions=tuple(sorted(set(matrix))),
        compile_s=compile_s,
    )


def cuobjdump(option: str, compiled: triton.compiler.CompiledKernel) -> str:
    """Return what NVIDIA's tool says of the machine code of a kernel."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        return subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True).stdout


def main(sizes: Sequence[str]) -> None:
    """Print resources as Markdown tables, and fail by what is over budget.

    Args:
        sizes: DEPTHxWIDTH@PIXELS each; none means every configured size, and every variant of one.
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
    """Print the table of one size in every variant and return its faults."""
    print(f"\n| 10x40 at {VARIANT_SIDE} px | target | " + heading)
    spec, faults = SirenSpec(10, 40, 30.0), []
    for name, options in VARIANTS.items():
        for target in TARGETS:
            resources = compile_decode(spec, target=target, **{"side": VARIANT_SIDE} | options)
            faults += _print_row(name, target, resources, exact_sine="exact_sine" in options)
    for masked in (True, False):
        for target in TARGETS:
            name = f"unpacking{', masks' if masked else ''}, 5 bits"
            resources = compile_unpack(spec, target=target, bits=5, masked=masked)
            faults += _print_row(name, target, resources, decodes=False)
    return faults


def _print_row(name: str, target: int, resources: Resources, **kind: bool) -> list[str]:
    """Print a row and return its faults."""
    cells = astuple(resources)
    text = [", ".join(cell) if isinstance(cell, tuple) else f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]
    print(f"| {name} | sm_{target} | " + " | ".join(map(str, text)) + " |", flush=True)
    return [f"{name}, sm_{target}: {fault}" for fault in resources.faults(target, **kind)]


if __name__ == "__main__":
    main(sys.argv[1:])
