"""The decode as an operator: what it promises a tracer, and that a compiled program decodes what an eager one does."""

import pytest
import torch

from kernels.decode.op import decode_by_operator, decode_operator, decoder_for
from kernels.decode.torch import decode_siren_torch
from kernels.spec import SirenSpec
from tests.kernels.random_rows import random_batch

SPEC = SirenSpec(2, 8, 12.0)
CPU = torch.device("cpu")
KINDS = {
    "plain": {},
    "int8 ends and own masks": {"bits": 5, "ends": torch.int8, "masks": "own"},
    "floating": {"bits": 16},
    "shared": {"bits": 4, "masks": "shared", "shared_scales": True, "scales": 1},
}
NORMALISED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "channels_last": True, "dtype": torch.bfloat16}
REFLECTED = {"padding": "reflection", "edges": torch.tensor([0.5, 2 / 3]), "supersample": 2}


def batch_of(**kind):
    return random_batch(SPEC, CPU, height=2, width=3, **kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_keeps_its_promises(monkeypatch, kind):
    batch, calls = batch_of(**KINDS[kind]), []
    monkeypatch.setattr("kernels.decode.op.decode_operator", lambda *arguments: calls.append(arguments))
    batch.decode(decode_by_operator, **NORMALISED)
    batch.decode(decode_by_operator, **REFLECTED)
    for arguments in calls:
        torch.library.opcheck(decode_operator, arguments)


@pytest.mark.parametrize("changes", [{}, NORMALISED, REFLECTED], ids=["plain", "normalised", "reflected"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_is_the_backend(kind, changes):
    batch = batch_of(**KINDS[kind])
    assert torch.equal(batch.decode(decode_by_operator, **changes), batch.decode(decode_siren_torch, **changes))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch 2.11's compiler warns of torch itself
def test_a_whole_program_compiles_around_a_decode():
    batch = batch_of()
    keywords = batch.keywords | NORMALISED

    def program(rows, ids, affine):
        images = decoder_for(ids.device, SPEC)(rows, ids, affine, **keywords)
        return images.float().mean((2, 3)) * 2

    try:
        compiled = torch.compile(program, fullgraph=True, backend="aot_eager")
        found = compiled(batch.rows, batch.ids, batch.affine)
    finally:
        torch.compiler.reset()
    assert torch.equal(found, program(batch.rows, batch.ids, batch.affine))


def test_eager_calls_do_without_the_operator():
    assert decoder_for(CPU, SPEC) is decode_siren_torch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_decode_is_captured_in_a_graph_and_replayed_for_other_ids(kind):
    device = torch.device("cuda")
    batch = random_batch(SPEC, device, height=2, width=3, **KINDS[kind])
    decode = decoder_for(device, SPEC)
    batch.decode(decode)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        images = batch.decode(decode)
    batch.ids.copy_(torch.tensor([0, 4, 2, 2], device=device))
    graph.replay()
    assert torch.equal(images, batch.decode(decode))
