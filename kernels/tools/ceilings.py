"""Measure the ceilings of this device for a decode: sines, matrix products and memory bandwidth."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from kernels.decode.cpu_sine import sine_
from kernels.spec import SirenSpec
from kernels.tools.bounds import Ceilings
from kernels.workers import for_each

REPEATS = 7  # the fastest counts, since a ceiling is free of disturbances
CPU_SINES = 2**16  # float32 values in a buffer that fits the cache of a core
CPU_PASSES = 16
CPU_SIDE = 1024  # of a large matrix product
CPU_COPY_BYTES = 2**27
GPU_SIDE = 8192
GPU_COPY_BYTES = 2**30
HEAD_START_CYCLES = 2_000_000  # of a GPU's clock, about a millisecond


def timed_s(function: Callable[[], object], device: torch.device, *, head_start: bool = True) -> float:
    """Return the seconds until the device has finished a call.

    Args:
        head_start: whether to keep a GPU busy until the call is launched, so that Python's time does not count; not for work on
            another stream, which would start in the meantime.
    """
    if device.type != "cuda":
        began = time.perf_counter()
        function()
        return time.perf_counter() - began
    with torch.cuda.device(device):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        if head_start:
            torch.cuda._sleep(HEAD_START_CYCLES)
        begin.record()
        function()
        end.record()
        end.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure_ceilings(device: torch.device, spec: SirenSpec, *, n_pixels: int) -> Ceilings:
    """Measure the ceilings of a device for decodes of `spec`.

    On a CPU, with torch's number of threads: the faster of torch's sine and ours on a buffer in the cache; the faster of a decode
    layer in the cache and a large product; a copy of memory. On a CUDA GPU: hardware sines in registers, a large float16 product,
    a copy on the device.

    Raises:
        ImportError: on a CUDA device without triton.
    """
    if device.type != "cuda":
        return _cpu_ceilings(spec, n_pixels)
    with torch.cuda.device(device):  # triton launches on the current device
        return _gpu_ceilings(device)


def _best_rate(amount: float, function: Callable[[], object], device: torch.device) -> float:
    function()
    return amount / min(timed_s(function, device) for _ in range(REPEATS))


def _cpu_ceilings(spec: SirenSpec, n_pixels: int) -> Ceilings:
    cpu, threads = torch.device("cpu"), torch.get_num_threads()

    def rate(amount: float, operation: Callable[[int], object]) -> float:
        """Measure the operation in all threads, each on separate data."""

        def repeat(thread: int) -> None:
            for _ in range(CPU_PASSES):
                operation(thread)

        return _best_rate(amount * threads * CPU_PASSES, lambda: for_each(repeat, range(threads)), cpu)

    phases = torch.rand(threads, CPU_SINES)
    sines = max(rate(CPU_SINES, lambda i: torch.sin(phases[i])), rate(CPU_SINES, lambda i: sine_(phases[i])))
    pixels = min(n_pixels, max(1, CPU_SINES // spec.hidden))
    images = max(1, CPU_SINES // (spec.hidden * pixels))
    weights, bias = torch.rand(threads, images, spec.hidden, spec.hidden), torch.rand(spec.hidden, 1)
    inputs = torch.rand(threads, images, spec.hidden, pixels)
    outputs = torch.empty_like(inputs)
    layer = rate(2 * images * spec.hidden**2 * pixels, lambda i: torch.baddbmm(bias, weights[i], inputs[i], out=outputs[i]))
    large = torch.rand(CPU_SIDE, CPU_SIDE)
    product = _best_rate(2 * CPU_SIDE**3, lambda: large @ large, cpu)
    source = torch.zeros(CPU_COPY_BYTES // 4)
    target = torch.empty_like(source)
    copy = _best_rate(2 * CPU_COPY_BYTES, lambda: target.copy_(source), cpu)
    return Ceilings(sines_per_s=sines, matrix_flop_per_s=max(layer, product), bytes_per_s=copy)


def _gpu_ceilings(device: torch.device) -> Ceilings:
    from kernels.tools.sine_ceiling import launch_sines  # not at the top: triton exists for Linux only

    processors = torch.cuda.get_device_properties(device).multi_processor_count
    sink = torch.empty(processors, device=device)
    count = launch_sines(sink)
    sines = _best_rate(count, lambda: launch_sines(sink), device)
    a = torch.randn(GPU_SIDE, GPU_SIDE, device=device, dtype=torch.float16)
    out = torch.empty_like(a)
    product = _best_rate(2 * GPU_SIDE**3, lambda: torch.mm(a, a, out=out), device)
    source = torch.zeros(GPU_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _best_rate(2 * GPU_COPY_BYTES, lambda: target.copy_(source), device)
    return Ceilings(sines_per_s=sines, matrix_flop_per_s=product, bytes_per_s=copy)
