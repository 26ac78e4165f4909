"""The fused fit compiles for GPUs that are not there, within its budgets."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.spec import SirenSpec
from kernels.tools.offline_fit import FitResources

ROOT = Path(__file__).parents[2]
# A fresh process, since this one may run triton as an interpreter. `python -m kernels.tools.offline_fit` compiles every size.
SCRIPT = """
import dataclasses, json, sys
from kernels.spec import SirenSpec
from kernels.tools.offline_fit import compile_fit

report = {}
for name, size, target in (
    ("3x16", (3, 16), 90), ("3x16", (3, 16), 100), ("masked 4x14", (4, 14), 90), ("10x32", (10, 32), 90),
    ("rounded 3x16", (3, 16), 90), ("masked rounded 10x32", (10, 32), 90),
):
    resources = compile_fit(SirenSpec(*size, 15.0), target=target, masked="masked" in name, rounded="rounded" in name)
    report[f"{name} sm_{target}"] = dataclasses.asdict(resources)
json.dump(report, sys.stdout)
"""
SIZES = {
    "3x16 sm_90": (3, 16), "3x16 sm_100": (3, 16), "masked 4x14 sm_90": (4, 14), "10x32 sm_90": (10, 32),
    "rounded 3x16 sm_90": (3, 16), "masked rounded 10x32 sm_90": (10, 32),
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))  # nothing is compiled already
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SIZES)
def test_the_fit_compiles_within_its_budgets(report, name):
    depth, hidden = SIZES[name]
    resources = FitResources(**report[name])
    assert resources.faults(SirenSpec(depth, hidden, 15.0)) == []
    sines = 2 * depth * max(16, hidden) * resources.block / (32 * resources.num_warps)  # sine and cosine, none taken twice
    assert resources.loop_sines == sines


def test_what_is_over_budget_is_named():
    small, large = SirenSpec(3, 16, 15.0), SirenSpec(10, 32, 30.0)
    good = FitResources(32, 1, 255, 9216, 516, 96, 0, 1047, 2.0)
    assert good.faults(small) == []
    worse = {"loop_instructions": 600, "loop_spills": 1, "shared_bytes": 50_000, "compile_s": 21.0}
    for name, value in worse.items():
        assert len(dataclasses.replace(good, **{name: value}).faults(small)) == 1, name
    assert dataclasses.replace(good, loop_instructions=600, loop_spills=1, shared_bytes=50_000).faults(large) == []
    assert good.clocks_per_pixel == 6  # 3 x 16 sines and cosines, 16 a clock
