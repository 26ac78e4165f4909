"""Compile the decode kernel for a GPU that need not be there, and read what the compiled code takes of it.

`python -m kernels.offline` prints the table of kernels/README.md. Needs triton's compiler, so TRITON_INTERPRET must be unset.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.checks import require
from kernels.decode_io import ImageFormat
from kernels.fast_math import INTERPRETED
from kernels.launch import RowKind, kernel_constants, launch_config
from kernels.rows import CODE_DTYPES
from kernels.sampling import Sampling
from kernels.siren_decode import _decode_siren_kernel
from kernels.spec import SirenSpec

TARGETS = (80, 90, 100)  # A100, H100 and H200, B200
SIZES = ((3, 16, 32), (5, 13, 32), (10, 32, 224), (10, 40, 224), (12, 64, 224))  # depth, hidden, side of the image in pixels
TRITON_TYPES = {
    torch.int8: "i8",
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
    shared_bytes: int
    ptx_lines: int
    sine_instructions: int
    matrix_instructions: tuple[str, ...]
    compile_s: float


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
    outside: str = "extend",
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
    require(not INTERPRETED, "TRITON_INTERPRET", "set", "unset: the interpreter compiles nothing")
    images = ImageFormat(side, side, dtype, None, None, True, channels_last)
    config = launch_config(spec, images.n_pixels)
    n_scales = 0 if bits > 8 else scales or spec.hidden
    kind = RowKind(bits=bits, scales=n_scales, by_image=False, int8_ends=ends == torch.int8)
    sampling = Sampling(outside, torch.zeros(2), supersample)
    constants = kernel_constants(spec, images, kind, sampling, exact_sine=exact_sine, block=config.block)
    source = ASTSource(
        fn=_decode_siren_kernel,
        signature=_signature(constants, bits=bits, ends=ends, dtype=dtype),
        constexprs={(_decode_siren_kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs=_divisible_by_16(images.n_pixels),
    )
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages, "enable_fp_fusion": True}
    start = time.perf_counter()
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    return _read_resources(compiled, time.perf_counter() - start)


def _signature(constants: dict, *, bits: int, ends: torch.dtype, dtype: torch.dtype) -> dict[str, str]:
    scales = torch.float32 if ends == torch.float32 else torch.float16  # as a store has them
    types = {
        "out_ptr": "*" + TRITON_TYPES[dtype],
        "codes_ptr": "*" + TRITON_TYPES[CODE_DTYPES[bits]],
        "ends_ptr": "*" + TRITON_TYPES[ends],
        "scales_ptr": "*" + TRITON_TYPES[scales],
        "end_scales_ptr": "*" + TRITON_TYPES[scales],
        "ids_ptr": "*i64",
        "affine_ptr": "*fp32",
        "edges_ptr": "*fp32",
        **dict.fromkeys(("n_rows", "n_pixels", "width", "scales_stride", "affine_stride", "edges_stride"), "i32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    return {name: types.get(name, "fp32") for name in _decode_siren_kernel.arg_names}


def _divisible_by_16(n_pixels: int) -> dict:
    """Return the launcher's specialisation: torch aligns its tensors, and n_pixels is the one integer that it looks at."""
    names = [name for name in _decode_siren_kernel.arg_names if name.endswith("_ptr")]
    if n_pixels % 16 == 0:
        names.append("n_pixels")
    return {(_decode_siren_kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in names}


def _read_resources(compiled: triton.compiler.CompiledKernel, compile_s: float) -> Resources:
    ptx = compiled.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", _cuobjdump("-res-usage", cubin)))
        # STL and LDL are SASS's stores and loads of local memory
        spills = len(re.findall(r"\b(?:STL|LDL)\b", _cuobjdump("-sass", cubin)))
    matrix = re.findall(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync)\b", ptx)
    return Resources(
        registers=int(usage["REG"]),
        stack_bytes=int(usage["STACK"]),
        local_bytes=int(usage["LOCAL"]),
        spill_instructions=spills,
        shared_bytes=compiled.metadata.shared,
        ptx_lines=ptx.count("\n"),
        sine_instructions=ptx.count("sin.approx.ftz.f32"),
        matrix_instructions=tuple(sorted(set(matrix))),
        compile_s=compile_s,
    )


def _cuobjdump(option: str, cubin: Path) -> str:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print the resources of every size and target as a Markdown table."""
    names = [field.name for field in fields(Resources)]
    print("| size | target | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for depth, hidden, side in SIZES:
        for target in TARGETS:
            resources = compile_decode(SirenSpec(depth, hidden, 30.0), target=target, side=side)
            cells = [getattr(resources, name) for name in names]
            text = [
                ", ".join(cell) if isinstance(cell, tuple) else f"{cell:.3g}" if isinstance(cell, float) else cell
                for cell in cells
            ]
            print(f"| {depth}x{hidden} at {side} px | sm_{target} | " + " | ".join(map(str, text)) + " |")


if __name__ == "__main__":
    main()
