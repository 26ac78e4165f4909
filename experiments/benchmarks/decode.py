"""The decode suite of the benchmark: size by batch by backend, each held to the float64 decode before it is timed."""

from __future__ import annotations

import importlib.util
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.benchmarks.offline_table import print_offline_table
from experiments.benchmarks.rivals import bmm_chain, nvjpeg_decoder
from experiments.setup.build import build, build_device
from kernels.decode import decode_siren
from kernels.decode.io import MAX_HIDDEN
from kernels.decode.launch import padded_width
from kernels.reference import decode_reference
from kernels.rows import PackedRows
from kernels.spec import OUT_FEATURES, SirenSpec
from kernels.tools.bounds import Ceilings, Work, count_work, time_bounds
from kernels.tools.ceilings import measure_ceilings, timed_s
from kernels.unpack.torch import unpack_layers
from rapid_inr.compress.quantize import quantize
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import psnr_db, to_8bit
from rapid_inr.inr.coords import pixel_affine
from rapid_inr.inr.siren import default_omega, initial_weights
from rapid_inr.runlog.named_warnings import decode_below_roofline, decodes_in_use
from rapid_inr.runlog.run import Run, write_csv

# RGB in [0, 1] that a backend may be off the float64 decode, before rounding: those of tests/tolerances.py, which has the reasons
TOLERANCE_RGB = {"kernel": 3e-3, "torch": 1e-4, "bmm chain": 1e-4}
TARGET_DB = 35.0  # of the image that the PSNR loss is stated for
PIXELS_AT_ONCE = {"cpu": 2**18, "cuda": 2**22}  # of a batch whose size is not given
CHECKED_PIXELS = 2**16  # of a batch that are held to the float64 decode
KERNEL_COLUMNS = 4  # of the kernel's last layer
OWN_STREAM = ("nvjpeg",)  # begins before what the stream of the caller still does
CALL_SIDE, CALLS = 32, 20  # pixels and repetitions of the decode of one image, for the overhead of a call


@dataclass(frozen=True)
class Case:
    """A batch to decode: images of side x side pixels, each with a row of its own."""

    spec: SirenSpec
    side: int
    batch: int
    rows: PackedRows

    @property
    def name(self) -> str:
        return f"{self.spec.depth}x{self.spec.hidden}@{self.side}"

    @cached_property
    def ids(self) -> Tensor:
        return torch.arange(self.batch, device=self.rows.device)

    @property
    def row_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.rows.tensors().values()) // len(self.rows)


@lru_cache  # a copy to a GPU takes longer than some decodes
def affine_on(side: int, device: torch.device) -> Tensor:
    return pixel_affine(side, side).to(device)


Decode = Callable[..., Tensor]  # of a case, and ids, side, dtype and round_8bit by name


def parse_size(text: str) -> tuple[int, int, int]:
    """Return depth, width and side in pixels of ``3x16@32``.

    Raises:
        ValueError: if the text is none.
    """
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)@([1-9]\d*)", text)
    if found is None:
        raise UserError(f"decode.sizes holds {text!r}, expected DEPTHxWIDTH@PIXELS, for instance 3x16@32")
    depth, hidden, side = map(int, found.groups())
    return depth, hidden, side


def make_case(cfg: DictConfig, size: tuple[int, int, int], batch: int | None, device: torch.device) -> Case:
    """Draw the weights that fits start from, and quantize them."""
    depth, hidden, side = size
    spec = SirenSpec(depth, hidden, default_omega(side, side))
    batch = batch or max(1, PIXELS_AT_ONCE[device.type] // side**2)
    weights = initial_weights(spec, range(batch), seed=cfg.seed)
    return Case(spec, side, batch, quantize(weights, spec, build(cfg.quantize)).packed(device))


def backends(case: Case) -> dict[str, Decode]:
    """Return what decodes on the device of a case, by name."""

    def by(backend: str) -> Decode:
        def call(case: Case, *, ids: Tensor, side: int, **options: Any) -> Tensor:
            affine = affine_on(side, ids.device)
            return decode_siren(
                case.rows, ids, affine, spec=case.spec, height=side, width=side, backend=backend, **options
            )  # fmt: skip

        return call

    def chain(case: Case, *, ids: Tensor, side: int, dtype: torch.dtype, round_8bit: bool = True) -> Tensor:
        return bmm_chain(case.rows, ids, spec=case.spec, side=side, dtype=dtype, round_8bit=round_8bit)

    decoders: dict[str, Decode] = {"torch": by("torch"), "bmm chain": chain}
    if case.rows.device.type == "cuda" and case.spec.hidden <= MAX_HIDDEN:
        decoders = {"kernel": by("kernel")} | decoders
    return decoders


def check(case: Case, decoders: Mapping[str, Decode]) -> dict[str, dict[str, float]]:
    """Hold every backend to the float64 decode and return its PSNR against it and what it loses on an image of `TARGET_DB`.

    Raises:
        ValueError: if a backend is off by more than its tolerance; nothing is timed then.
    """
    count = max(1, min(case.batch, CHECKED_PIXELS // case.side**2))
    places = torch.linspace(0, case.batch - 1, count, dtype=torch.float64).round().long().to(case.rows.device)
    options = {"side": case.side, "dtype": torch.float32, "round_8bit": False}
    layers, affine = unpack_layers(case.rows, places, case.spec, torch.float64), affine_on(case.side, places.device)
    exact = decode_reference(layers, affine, omega=case.spec.omega, height=case.side, width=case.side).float()
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0)).to(exact.device)
    target = exact + noise * 10 ** (-TARGET_DB / 20)
    least = (exact - target).double().square().mean()
    quality = {}
    for name, decode in decoders.items():
        found = decode(case, ids=case.ids, **options)[places]
        difference = (found - exact).abs().max().item()
        if not difference <= TOLERANCE_RGB[name]:
            raise UserError(
                f"{name} at {case.name} is off the float64 decode by {difference:.3g}, expected at most {TOLERANCE_RGB[name]:g}; "
                "what is wrong is not timed"
            )
        loss = 10 * math.log10(((found - target).double().square().mean() / least).item())
        quality[name] = {"psnr_db": psnr_db(to_8bit(found), to_8bit(exact)).mean().item(), "loss_db": loss, "off_rgb": difference}
    return quality


def time_all(calls: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int) -> dict[str, dict[str, float]]:
    """Time calls in turn, so that what disturbs the machine disturbs all of them, and return their times in ms."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # warm up
    for _ in range(repeats):
        for name, call in calls.items():
            before = time.process_time()
            wall[name].append(1e3 * timed_s(call, device, head_start=name not in OWN_STREAM))
            cpu[name].append(1e3 * (time.process_time() - before))
    return {
        name: {"ms": median(times), "fastest_ms": min(times), "slowest_ms": max(times), "cpu_ms": median(cpu[name])}
        for name, times in wall.items()
    }


def work_of(case: Case, name: str, dtype: torch.dtype) -> Work:
    padded = name == "kernel"
    return count_work(
        case.spec, n_pixels=case.side**2, batch=case.batch, row_bytes=case.row_bytes, value_bytes=dtype.itemsize,
        width=padded_width(case.spec) if padded else case.spec.hidden, out_columns=KERNEL_COLUMNS if padded else OUT_FEATURES,
    )  # fmt: skip


def time_case(case: Case, ceilings: Ceilings, *, repeats: int) -> list[dict[str, Any]]:
    """Return a row of figures a backend."""
    device, decoders = case.rows.device, backends(case)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.uint8
    quality = check(case, decoders)
    calls: dict[str, Callable[[], object]] = {
        name: lambda decode=decode: decode(case, ids=case.ids, side=case.side, dtype=dtype) for name, decode in decoders.items()
    }
    one = {
        name: lambda decode=decode: decode(case, ids=case.ids[:1], side=CALL_SIDE, dtype=dtype)
        for name, decode in decoders.items()
    }
    if device.type == "cuda":
        images = decoders["torch"](case, ids=case.ids, side=case.side, dtype=torch.uint8)
        jpegs = nvjpeg_decoder(images, n_bytes=case.row_bytes)
        if jpegs is not None:
            calls["nvjpeg"] = jpegs
    overhead = time_all(one, device, repeats=CALLS)
    rows = []
    for name, times in (timed := time_all(calls, device, repeats=repeats)).items():
        row = {"size": case.name, "batch": case.batch, "backend": name, "images_per_s": 1e3 * case.batch / times["ms"], **times}
        row["speedup"] = timed["bmm chain"]["ms"] / times["ms"]
        if name in decoders:
            bounds = time_bounds(work_of(case, name, dtype), ceilings)
            row |= {f"of_{kind}": part for kind, part in bounds.fractions(times["ms"] / 1e3).items()}
            row |= {"binding": bounds.binding, "call_us": 1e3 * overhead[name]["ms"], **quality[name]}
        rows.append(row)
    return rows


def benchmark_decode(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """Time decoding, all sizes, batches and backends of ``cfg.decode``, and write decode.csv into the run's folder."""
    device = build_device(cfg)
    threads, batches = cfg.decode.threads, list(cfg.decode.batches or [])
    if not cfg.decode.sizes:
        raise UserError("decode.sizes is empty, expected sizes such as 3x16@32")
    if min([1 if threads is None else threads, *batches]) < 1:
        raise UserError(f"decode.threads is {threads} and decode.batches {batches}, expected at least 1 each, or null")
    if threads is not None:
        torch.set_num_threads(threads)
    sizes = [parse_size(size) for size in cfg.decode.sizes]
    rows, ceilings = [], {}
    for size in sizes:
        for batch in batches or [None]:
            case = make_case(cfg, size, batch, device)
            measured = measure_ceilings(device, case.spec, n_pixels=case.side**2)
            ceilings[case.name] = {name: getattr(measured, name) for name in ("sines_per_s", "matrix_flop_per_s", "bytes_per_s")}
            rows += time_case(case, measured, repeats=cfg.repeats)
    for warning in decode_below_roofline(rows):
        run.warn(*warning)
    write_csv(run.folder / "decode.csv", rows)
    if cfg.decode.offline:
        print_offline_table(cfg.decode.sizes)
    if device.type == "cuda" and importlib.util.find_spec("torchvision") is None:
        print("no nvJPEG beside it: torchvision is not installed")
    reached_pct = 100 * min(reached for _, reached in decodes_in_use(rows))
    return {"threads": torch.get_num_threads(), "least_of_bound_pct": reached_pct, "ceilings": ceilings, "rows": rows}
