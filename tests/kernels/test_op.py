"""The public decode: which backend it takes, what it promises torch.compile, and that it works without triton."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from kernels.cosine import CosineSpec, decode_cosine
from kernels.cosine import op as cosine_op
from kernels.decode import decode_siren, op
from kernels.decode.op import decode_operator
from kernels.spec import SirenSpec
from tests.kernels.random_codes import random_codes
from tests.kernels.random_rows import random_batch

ROOT = Path(__file__).parents[2]
SPEC = SirenSpec(2, 8, 12.0)
CPU = torch.device("cpu")
KINDS = {
    "plain": {},
    "int8 ends and masks": {"bits": 5, "ends": torch.int8, "masked": True},
    "floating": {"bits": 16},
    "shared scales": {"bits": 4, "shared_scales": True, "scales": 1},
}
NORMALISED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "channels_last": True, "dtype": torch.bfloat16}
REFLECTED = {"padding": "reflection", "edges": torch.tensor([0.5, 2 / 3]), "supersample": 2}
WITHOUT_TRITON = """
import sys
import torch
sys.modules["triton"] = None  # an import of it raises ImportError
from kernels.decode.op import _choose
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
    _choose("auto", torch.device("cuda"), SirenSpec(2, 8, 10.0))
except ImportError:
    print("the kernel alone is missing")
"""


def batch_of(**kind):
    return random_batch(SPEC, CPU, height=2, width=3, **kind)


@pytest.mark.parametrize(
    ("device", "hidden", "name"),
    [("cuda:1", 1, "decode_siren_triton"), ("cuda:1", 64, "decode_siren_triton"), ("cpu", 8, "decode_siren_torch"),
     ("mps", 8, "decode_siren_torch")],
)  # fmt: skip
def test_a_gpu_decodes_by_the_kernel_and_other_devices_by_torch(device, hidden, name):
    if name == "decode_siren_triton":
        pytest.importorskip("triton")
    assert op._choose("auto", torch.device(device), SirenSpec(2, hidden, 10.0)).__name__ == name


def test_the_example_of_the_readme_runs():
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "kernels/README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)  # our own text
    images = names["images"]
    assert images.shape == (3, 3, 32, 32)
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])


def test_a_gpu_decodes_wide_sirens_by_torch_and_warns_once():
    op._warn_of_width.cache_clear()
    with pytest.warns(UserWarning, match="up to 64 wide; width 65 is decoded by torch, about 500 times slower"):
        assert op._choose("auto", torch.device("cuda"), SirenSpec(2, 65, 10.0)).__name__ == "decode_siren_torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op._choose("auto", torch.device("cuda"), SirenSpec(3, 65, 10.0))


def test_the_library_works_without_triton():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "the kernel alone is missing\n"), done.stderr


def by_operator(monkeypatch, batch, module, name, **changes):
    """Return the operator's arguments for a decode that is being compiled."""
    arguments = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        patch.setattr(module, name, lambda *given: arguments.append(given))
        batch.decode("auto", **changes)
    return arguments[0]


@pytest.mark.parametrize("changes", [NORMALISED, REFLECTED], ids=["normalised", "reflected"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_is_the_decode_and_keeps_the_promises_of_one(monkeypatch, kind, changes):
    batch = batch_of(**KINDS[kind])
    arguments = by_operator(monkeypatch, batch, op, "decode_operator", **changes)
    assert torch.equal(decode_operator(*arguments), batch.decode("auto", **changes))
    torch.library.opcheck(decode_operator, arguments)


@pytest.mark.parametrize("changes", [NORMALISED, REFLECTED], ids=["normalised", "reflected"])
def test_so_does_the_operator_of_cosine_codes(monkeypatch, changes):
    batch = random_codes(CosineSpec(5, 10, 3, 2), CPU, height=2, width=3)
    arguments = by_operator(monkeypatch, batch, cosine_op, "decode_cosine_operator", **changes)
    assert torch.equal(cosine_op.decode_cosine_operator(*arguments), batch.decode("auto", **changes))
    torch.library.opcheck(cosine_op.decode_cosine_operator, arguments)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch 2.11's compiler warns of torch itself
@pytest.mark.parametrize("family", ["siren", "cosine"])
def test_a_whole_program_compiles_around_a_decode(family):
    batch = batch_of() if family == "siren" else random_codes(CosineSpec(5, 10, 3, 2), CPU, height=2, width=3)
    decode = decode_siren if family == "siren" else decode_cosine
    keywords = batch.keywords | NORMALISED

    def program(rows, ids, affine):
        return decode(rows, ids, affine, **keywords).float().mean((2, 3)) * 2

    try:
        compiled = torch.compile(program, fullgraph=True, backend="aot_eager")
        images = compiled(batch.rows, batch.ids, batch.affine)
    finally:
        torch.compiler.reset()
    assert torch.equal(images, program(batch.rows, batch.ids, batch.affine))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [*KINDS, "cosine codes"])
def test_a_decode_is_captured_in_a_graph_and_replayed_for_other_ids(kind):
    device = torch.device("cuda")
    if kind in KINDS:
        batch = random_batch(SPEC, device, height=2, width=3, **KINDS[kind])
    else:
        batch = random_codes(CosineSpec(5, 10, 3, 2), device, height=2, width=3)
    batch.decode("auto")  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        images = batch.decode("auto")
    batch.ids.copy_(torch.tensor([0, 4, 2, 2], device=device))
    graph.replay()
    assert torch.equal(images, batch.decode("auto"))
