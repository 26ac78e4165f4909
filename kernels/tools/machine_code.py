"""Compile kernels for GPUs without having them, and read their machine code."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.checks import require
from kernels.decode.fast_math import INTERPRETED

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
    """Compile a kernel like its launch would; return it and the CPU seconds that this took.

    Args:
        pointers: element types of the pointers, by name; all are divisible by 16.
        integers: names of the int32 arguments; arguments in no list are float32.
        divisible: the integers that are divisible by 16.
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
    """Return the CPU seconds that this process and its children (ptxas) have used."""
    return sum(os.times()[:4])


def read_instructions(compiled: triton.compiler.CompiledKernel) -> dict[int, str]:
    """Return the instructions of a kernel by their addresses, without padding."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+([@A-Z].*?);", cuobjdump("-sass", compiled))
    return {int(address, 16): text for address, text in lines if not text.startswith("NOP")}


def find_loops(instructions: dict[int, str]) -> Iterator[dict[int, str]]:
    """Yield the instructions of each loop, from the target of a backward jump to the jump."""
    for end, text in instructions.items():
        jump = re.search(r"\bBRA\b.*0x([0-9a-f]+)", text)
        if jump and int(jump[1], 16) < end:
            yield {address: each for address, each in instructions.items() if int(jump[1], 16) <= address <= end}


def shortest_loop(instructions: dict[int, str], contents: str) -> list[str]:
    """Return the instructions of the shortest loop with all instructions that contain a text."""
    inside = {address for address, text in instructions.items() if contents in text}
    return list(min((loop for loop in find_loops(instructions) if inside <= loop.keys()), key=len).values())


def cuobjdump(option: str, compiled: triton.compiler.CompiledKernel) -> str:
    """Return the output of NVIDIA's cuobjdump for a kernel."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        return subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True).stdout
