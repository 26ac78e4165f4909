"""The kernels compile for GPUs that are not there, within their budgets: what the interpreter cannot show."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.tools.offline import Resources

ROOT = Path(__file__).parents[2]
# A fresh process, since this one may run triton as an interpreter. `python -m kernels.tools.offline` compiles the whole table.
SCRIPT = """
import dataclasses, json, sys
from kernels.tools.conversions import KINDS, count_loop
from kernels.tools.offline import ROWS, TARGETS, VARIANT_SIDE, VARIANTS, compile_decode, compile_prepare
from kernels.spec import SirenSpec

report = {}
for target in TARGETS:
    # with four warps and Triton 3.8 or 3.9, 10x32 and 6x44 spill on sm_100
    for depth, hidden, side in ((3, 16, 32), (12, 64, 224), (10, 32, 224), (10, 40, 224), (6, 44, 224)):
        report[f"{depth}x{hidden} sm_{target}"] = compile_decode(SirenSpec(depth, hidden, 30.0), target=target, side=side)
    spec = SirenSpec(10, 40, 30.0)
    for name in sys.argv[1:] if target == 90 else sys.argv[-1:]:
        report[f"{name} sm_{target}"] = compile_decode(spec, target=target, side=VARIANT_SIDE, **VARIANTS[name])
    name = {80: "5 bits, int8 ends, a scale a layer", 90: "5 bits, masks", 100: "float32"}[target]
    report[f"preparing sm_{target}"] = compile_prepare(spec, target=target, **ROWS[name])
loops = {kind: count_loop(kind, target=90) for kind in KINDS}
json.dump({"loops": loops} | {name: dataclasses.asdict(resources) for name, resources in report.items()}, sys.stdout)
"""
TARGETS = ("sm_80", "sm_90", "sm_100")
CHOSEN = ("float32 images", "bytes, planar", "accurate sine", "reflection padding, 2x2 samples")
DECODES = [
    *(f"{size} {target}" for size in ("3x16", "12x64", "10x32", "10x40", "6x44") for target in TARGETS),
    *(f"{name} sm_90" for name in CHOSEN),
    *(f"{CHOSEN[-1]} {target}" for target in ("sm_80", "sm_100")),
]
PREPARES = [f"preparing {target}" for target in TARGETS]
# instructions of a warp in a layer, at most, by launch.py's configurations
LAYER = {"3x16 sm_90": 265, "10x32 sm_90": 325, "10x40 sm_90": 200, "6x44 sm_90": 200, "10x32 sm_100": 325, "10x40 sm_100": 255}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))  # nothing is compiled already
    done = subprocess.run([sys.executable, "-c", SCRIPT, *CHOSEN], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", DECODES + PREPARES)
def test_a_kernel_compiles_within_its_budgets_to_the_instructions_it_should(report, name):
    resources = Resources(**report[name] | {"matrix_instructions": tuple(report[name]["matrix_instructions"])})
    kind = {"decodes": name in DECODES, "exact_sine": name.startswith("accurate sine")}
    assert resources.faults(int(name.split("sm_")[1]), **kind) == []


@pytest.mark.parametrize("name", LAYER)
def test_a_layer_takes_few_instructions(report, name):
    assert 0 < report[name]["loop_instructions"] <= LAYER[name]


def test_the_loops_that_are_timed_for_conversions_hold_nothing_else(report):
    sines, conversions, both = (report["loops"][kind] for kind in ("sines", "conversions", "both"))
    assert sines["F2FP"] == conversions["MUFU.SIN"] == 0
    assert both["MUFU.SIN"] == both["F2FP"] > 0
    assert sines["all"] <= 2 * sines["MUFU.SIN"] + 4  # the sines' range reductions, and the loop itself
    assert conversions["all"] <= conversions["F2FP"] + 4
    assert both["all"] <= 3 * both["F2FP"] + 4


def test_what_is_over_budget_or_missing_is_named():
    good = Resources(80, 0, 0, 0, 4, 2048, 1400, 900, 300, 64, 64, ("wgmma.mma_async",), 2.0)
    assert good.faults(90) == []
    worse = {"registers": 256, "stack_bytes": 8, "local_bytes": 8, "spill_instructions": 2, "shared_bytes": 50_000,
             "ptx_lines": 9_000, "sine_instructions": 0, "matrix_instructions": (), "compile_s": 21.0}  # fmt: skip
    for name, value in worse.items():
        assert len(dataclasses.replace(good, **{name: value}).faults(90)) == 1, name
    assert good.faults(100) == ["no tcgen05.mma"]
    assert dataclasses.replace(good, num_warps=2).faults(90) == ["no mma.sync"]
    assert good.faults(90, exact_sine=True) == ["64 hardware sines"]
    assert dataclasses.replace(good, sine_instructions=0, matrix_instructions=()).faults(90, decodes=False) == []


def test_nothing_is_compiled_by_an_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "kernels.tools.offline"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "ValueError: TRITON_INTERPRET is set, expected unset" in done.stderr
