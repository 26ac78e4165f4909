"""Time the decode kernel under many launch configurations on a GPU: `python -m kernels.tools.tune [DEPTHxWIDTH@PIXELS ...]`.

The winners are copied to kernels/decode/launch.py by hand. A decode never tunes itself, so that runs are reproducible.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import torch

from kernels.decode.io import ImageFormat
from kernels.decode.launch import LaunchConfig, capability_of, launch_config, padded_width
from kernels.decode.sampling import Sampling
from kernels.decode.triton import decode_siren_triton
from kernels.reference import decode_reference
from kernels.rows import PackedRows
from kernels.spec import SirenSpec, n_ends
from kernels.tools.ceilings import measure_ceilings, timed_s
from kernels.unpack.torch import unpack_layers

SIZES = ("3x16@32", "5x13@32", "10x32@224", "10x40@224", "6x44@224")
BLOCKS = (64, 128, 256, 512)
WARPS = (1, 2, 4, 8)
POLYNOMIAL_EVERY = (0, 8, 4)
VALUES_A_THREAD = (32, 96)  # of a layer: with fewer, fixed costs dominate; with more, registers spill
PIXELS_AT_ONCE = 2**24  # of a timed batch: about a millisecond
REPEATS = 15
TOLERANCE_RGB = 3e-3  # between kernel and reference, as in the tests


@dataclass(frozen=True)
class Case:
    """A batch of random SIRENs, 8-bit codes and float16 ends, to decode into bfloat16 images of side x side."""

    spec: SirenSpec
    side: int
    rows: PackedRows
    ids: torch.Tensor
    affine: torch.Tensor

    def decode(self, config: LaunchConfig, *, count: int | None = None, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        images = ImageFormat(self.side, self.side, dtype, None, None, dtype == torch.bfloat16, True)
        sampling = Sampling("none", None, 1)
        return decode_siren_triton(
            self.rows, self.ids[:count], self.affine, spec=self.spec, images=images, sampling=sampling, exact_sine=False,
            config=config,
        )  # fmt: skip


def make_case(size: str, device: torch.device) -> Case:
    depth, hidden, side = map(int, re.split("[x@]", size))
    spec, n = SirenSpec(depth, hidden, 30.0), PIXELS_AT_ONCE // side**2
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (n, spec.n_hidden_weights), dtype=torch.uint8, generator=draw)
    ends = torch.empty(n, n_ends(spec)).uniform_(-0.2, 0.2, generator=draw).half()
    bound = (6 / hidden) ** 0.5 / spec.omega  # of a SIREN's initial weights
    scales = torch.full((n, (depth - 1) * hidden), bound / 127).half()
    rows = PackedRows(codes.to(device), ends.to(device), scales.to(device), None, 8)
    affine = torch.tensor([[2 / side, 0, 1 / side - 1], [0, 2 / side, 1 / side - 1]], device=device)
    return Case(spec, side, rows, torch.arange(n, device=device), affine)


def candidates(spec: SirenSpec, n_pixels: int, *, capability: int) -> Iterator[LaunchConfig]:
    """Yield the current launch parameters for a major compute capability, then the alternatives worth trying."""
    present, width = launch_config(spec, n_pixels, capability=capability), padded_width(spec)
    yield present
    for block, warps, every in itertools.product(BLOCKS, WARPS, POLYNOMIAL_EVERY):
        values = block * width // (32 * warps)
        if block > n_pixels or not VALUES_A_THREAD[0] <= values <= VALUES_A_THREAD[1] or block < 64 * max(1, warps // 4):
            continue
        config = LaunchConfig(block, num_warps=warps, polynomial_every=every)
        if config != present:
            yield config


def compile_chunk(size: str, configs: Sequence[LaunchConfig]) -> None:
    """Compile into triton's cache, in a separate process."""
    case = make_case(size, torch.device("cuda"))
    for config in configs:
        try:
            case.decode(config, count=1)
        except Exception as error:  # the timing process meets the same error and skips the configuration
            print(f"{size} {config}: {type(error).__name__}", file=sys.stderr)


def compile_all(sizes: Sequence[str]) -> None:
    """Compile all candidates in parallel processes."""
    workers = max(1, (os.cpu_count() or 1) - 2)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = []
        for size in sizes:
            depth, hidden, side = map(int, re.split("[x@]", size))
            configs = list(candidates(SirenSpec(depth, hidden, 30.0), side**2, capability=capability_of(torch.device("cuda"))))
            jobs += [(size, configs[start :: max(1, len(configs) // 3)]) for start in range(max(1, len(configs) // 3))]
        for job in [pool.submit(compile_chunk, *job) for job in jobs]:
            job.result()


def tune(size: str) -> None:
    """Print a row for each configuration, the fastest first."""
    device = torch.device("cuda")
    case = make_case(size, device)
    ceilings = measure_ceilings(device, case.spec, n_pixels=case.side**2)
    n, few = len(case.ids), max(1, 2**16 // case.side**2)
    layers = unpack_layers(case.rows, case.ids[:few], case.spec, torch.float64)
    exact = decode_reference(layers, case.affine, omega=case.spec.omega, height=case.side, width=case.side)
    timed = []
    for config in candidates(case.spec, case.side**2, capability=capability_of(device)):
        try:
            off = (case.decode(config, count=few, dtype=torch.float32) - exact).abs().max().item()
            case.decode(config)
            ms = median(1e3 * timed_s(lambda config=config: case.decode(config), device) for _ in range(REPEATS))
        except Exception as error:  # skip a configuration that does not compile
            print(f"{size} {config}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr)
            continue
        timed.append((ms if off <= TOLERANCE_RGB else float("inf"), off, config))
    present = launch_config(case.spec, case.side**2, capability=capability_of(device))
    for ms, off, c in [*sorted(timed, key=lambda row: row[0])[:12], *(row for row in timed if row[2] == present)]:
        rate = 1e3 * n / ms
        of_sine = rate * case.spec.depth * case.spec.hidden * case.side**2 / ceilings.sines_per_s
        print(
            f"| {size} | {c.block} | {c.num_warps} | {c.polynomial_every} | {rate:,.0f} | {of_sine:.0%} | {off:.1e} |",
            flush=True,
        )


def main(sizes: Sequence[str]) -> None:
    """Print a table of configurations; the last row of a size is the current one."""
    compile_all(sizes)
    print("| size | pixels a program | warps | polynomial every | images/s | of the sine bound | off, RGB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for size in sizes:
        tune(size)


if __name__ == "__main__":
    main(sys.argv[1:] or SIZES)
