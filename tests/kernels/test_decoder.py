"""Which backend decodes where, and that the twin alone is enough to import and run the library."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.decode.op import decoder_for
from kernels.decode.torch import decode_siren_torch
from kernels.spec import SirenSpec

ROOT = Path(__file__).parents[2]
WITHOUT_TRITON = """
import sys
import torch
sys.modules["triton"] = None  # an import of it raises ImportError
from kernels.decode.op import decoder_for
from kernels.spec import SirenSpec
from rapid_inr.store import decode
from rapid_inr.encoding import encode
from rapid_inr.inr import fit
from rapid_inr.training import loop as train

result = fit.fit(
    torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.arange(1), SirenSpec(2, 8, 10.0), fit.FitConfig(steps=2, retries=0)
)
assert result.psnr_db.isfinite().all()
try:
    decoder_for(torch.device("cuda"), SirenSpec(2, 8, 10.0))
except ImportError:
    print("the kernel alone is missing")
"""


@pytest.mark.parametrize(("hidden", "name"), [(1, "decode_siren"), (64, "decode_siren"), (65, "decode_siren_torch")])
def test_a_gpu_decodes_by_the_kernel_what_is_narrow_enough(hidden, name):
    pytest.importorskip("triton")
    assert decoder_for(torch.device("cuda", 1), SirenSpec(2, hidden, 10.0)).__name__ == name


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_elsewhere_the_twin_decodes(device):
    assert decoder_for(torch.device(device), SirenSpec(2, 8, 10.0)) is decode_siren_torch


def test_the_library_works_without_triton():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "the kernel alone is missing\n"), done.stderr
