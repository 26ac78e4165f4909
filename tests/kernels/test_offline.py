"""The kernel compiles for GPUs that are not there, within its budgets: what the interpreter cannot show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A fresh process, since this one may run triton as an interpreter; every size on every target, then other variants of one size.
SCRIPT = """
import dataclasses, json, sys
import torch
from kernels.offline import SIZES, TARGETS, compile_decode
from kernels.spec import SirenSpec

wanted = {f"{d}x{h} sm_{t}": (d, h, side, t, {}) for d, h, side in SIZES for t in TARGETS}
variants = {
    "accurate sine": {"exact_sine": True},
    "bytes": {"dtype": torch.uint8, "channels_last": False},
    "float16 weights": {"bits": 16},
    "float32 weights": {"bits": 32, "ends": torch.float32, "dtype": torch.float32},
}
wanted |= {name: (10, 32, 224, 90, options) for name, options in variants.items()}
report = {
    name: dataclasses.asdict(compile_decode(SirenSpec(d, h, 30.0), side=side, target=t, **options))
    for name, (d, h, side, t, options) in wanted.items()
}
json.dump(report, sys.stdout)
"""
SIZES = ["3x16", "5x13", "10x32", "10x40", "12x64"]
VARIANTS = ["accurate sine", "bytes", "float16 weights", "float32 weights"]
MATRIX_INSTRUCTION = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma"}
MAX_REGISTERS = 255
MAX_SHARED_BYTES = 48 * 1024  # what a program may take without asking for more
MAX_PTX_LINES = 6_000  # measured: 4,722 (10x40 on sm_100); layers unrolled would be 10,000 for 10x32
MAX_COMPILE_S = 20.0


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))  # nothing is compiled already
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [f"{size} {target}" for size in SIZES for target in MATRIX_INSTRUCTION] + VARIANTS)
def test_the_kernel_compiles_within_its_budgets(report, name):
    resources = report[name]
    assert resources["registers"] <= MAX_REGISTERS
    assert (resources["stack_bytes"], resources["local_bytes"], resources["spill_instructions"]) == (0, 0, 0)
    assert resources["shared_bytes"] <= MAX_SHARED_BYTES
    assert resources["ptx_lines"] <= MAX_PTX_LINES
    assert resources["compile_s"] <= MAX_COMPILE_S


@pytest.mark.parametrize("target", MATRIX_INSTRUCTION)
@pytest.mark.parametrize("size", SIZES)
def test_layers_run_on_the_matrix_units_and_sines_in_hardware(report, size, target):
    resources = report[f"{size} {target}"]
    assert MATRIX_INSTRUCTION[target] in resources["matrix_instructions"]
    assert resources["sine_instructions"] > 0


def test_the_accurate_sine_uses_no_hardware_sine(report):
    assert report["accurate sine"]["sine_instructions"] == 0


def test_nothing_is_compiled_by_an_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-m", "kernels.offline"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "ValueError: TRITON_INTERPRET is set, expected unset" in done.stderr
