"""`make gpu`, whole and small on whatever device there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments" / "gpu.sh"
STAGES = ["tests", "decode", "fit", "accuracy", "speedup-32", "speedup-224", "photos", "gptq", "qat", "nccl"]


def gpu(folder, **environment):
    environment = os.environ | {"PY": sys.executable, "PRESET": "smoke", "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([SCRIPT], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_all_stages_run_at_smoke_and_are_skipped_when_started_again(tmp_path):
    done = gpu(tmp_path)
    assert (done.returncode, re.findall(r"^== (\S+): code 0", done.stdout, re.MULTILINE)) == (0, STAGES), done.stdout
    listed = subprocess.run(["tar", "tzf", tmp_path / "runs/gpu/records.tgz"], capture_output=True, text=True, check=True).stdout
    assert {"runs/gpu/decode.log", "runs/gpu/photos/record.json", "runs/accuracy/smoke/raw-0/config.yaml"} <= set(listed.split())
    again = gpu(tmp_path, PY="false")
    assert re.findall(r"^== (\S+): done before", again.stdout, re.MULTILINE) == STAGES


def test_the_page_has_the_stages_and_their_limits():
    limits = re.findall(r"^(?:stage|run|own) (\S+) (\d+) ", SCRIPT.read_text(), re.MULTILINE)
    rows = re.findall(r"^\| \d+ \| `(\S+)` \| (\d+) \|", (SCRIPT.parents[1] / "docs" / "gpu.md").read_text(), re.MULTILINE)
    assert [name for name, _ in limits] == STAGES
    assert rows == limits


def test_a_stage_that_fails_is_named_and_the_next_one_starts(tmp_path):
    done = gpu(tmp_path, PY="false", STAGES="decode fit")
    assert re.findall(r"^== (\S+): code 1", done.stdout, re.MULTILINE) == ["decode", "fit"]
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "failed: decode fit")


def test_make_gpu_with_a_python_installs_nothing(tmp_path):
    make = ["make", "--no-print-directory", "--dry-run", "-C", str(SCRIPT.parents[1]), "gpu"]
    run = subprocess.run([*make, "PY=python3"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ['PY=python3 PRESET=h200 STAGES="" experiments/gpu.sh']
