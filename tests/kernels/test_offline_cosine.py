"""The cosine kernel compiles for GPUs that are not there, within its budgets."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.tools.offline import Resources
from kernels.tools.offline_cosine import VARIANTS, find_faults

ROOT = Path(__file__).parents[2]
# A fresh process, since this one may run triton as an interpreter. `python -m kernels.tools.offline_cosine` compiles all.
SCRIPT = """
import dataclasses, json, sys
from kernels.tools.offline_cosine import VARIANTS, compile_cosine

chosen = [(name, 90) for name in VARIANTS] + [("32 frequencies", 80), ("32 frequencies", 100)]
report = [(name, target, *compile_cosine(target=target, **VARIANTS[name])) for name, target in chosen]
json.dump([(name, target, dataclasses.asdict(resources), loop) for name, target, resources, loop in report], sys.stdout)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))  # nothing is compiled already
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {(name, target): (resources, loop) for name, target, resources, loop in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("name", "target"), [*((name, 90) for name in VARIANTS), ("32 frequencies", 80), ("32 frequencies", 100)]
)
def test_the_kernel_compiles_within_its_budgets_to_the_instructions_it_should(report, name, target):
    fields, loop = report[name, target]
    resources = Resources(**fields | {"matrix_instructions": tuple(fields["matrix_instructions"])})
    assert find_faults(resources, loop, target) == []


def test_what_is_over_budget_is_named():
    good = Resources(174, 0, 0, 0, 4, 8192, 2600, 1600, 594, 65, 64, ("wgmma.mma_async",), 2.0)
    assert find_faults(good, 594, 90) == []
    assert find_faults(dataclasses.replace(good, registers=256), 995, 90) == ["256 registers", "995 instructions a block"]
