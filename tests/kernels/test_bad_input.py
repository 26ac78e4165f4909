"""Every bad argument of a decode is refused with a message that names it."""

import re
from dataclasses import replace

import pytest
import torch

from kernels.cosine import CosineSpec
from kernels.spec import SirenSpec
from tests.kernels.random_rows import random_batch

SPEC = SirenSpec(3, 8, 12.0)  # 128 codes, 67 ends and 16 scales a row


def rows(**changes):
    """Return what changes the rows of a batch, each tensor through its function."""

    def change(batch):
        found = {name: new(getattr(batch.rows, name)) if callable(new) else new for name, new in changes.items()}
        return {"rows": replace(batch.rows, **found)}

    return change


def gaps(tensor):
    return tensor.mT.contiguous().mT


BAD_ROWS = {
    "bits out of range": ({}, rows(bits=9), "bits is 9, expected one of (2, 3, 4, 5, 6, 7, 8, 16, 32)"),
    "codes of another type": ({}, rows(codes=torch.Tensor.char), "codes.dtype is torch.int8, expected torch.uint8 at 8 bits"),
    "codes of other bits": ({}, rows(bits=16), "codes.dtype is torch.uint8, expected torch.float16 at 16 bits"),
    "codes of fewer bits": ({}, rows(bits=5), "codes.shape is (5, 128), expected (5, 80) for SirenSpec"),
    "no rows": ({}, rows(codes=lambda t: t[:0], ends=lambda t: t[:0]), "ends.shape is (0, 67), expected [N, 67] with N >= 1"),
    "codes with gaps": ({}, rows(codes=gaps), "codes.stride() is (1, 5), expected that of a contiguous tensor"),
    "codes elsewhere": ({}, rows(codes=lambda t: t.to("meta")), "ends.device is cpu, expected meta, that of codes"),
    "ends of another type": ({}, rows(ends=torch.Tensor.double), "ends.dtype is torch.float64, expected one of"),
    "ends of another length": ({}, rows(ends=lambda t: t[:, 1:]), "ends.shape is (5, 66), expected [N, 67]"),
    "codes without scales": ({}, rows(scales=None), "scales is None, expected a tensor with uint8 codes"),
    "scales without codes": ({"bits": 16}, rows(scales=torch.ones(5, 16)), "scales is a tensor, expected None"),
    "scales of another type": ({}, rows(scales=torch.Tensor.double), "scales.dtype is torch.float64, expected one of"),
    "fewer scales than rows": (
        {},
        rows(scales=lambda t: t[:4]),
        "scales.shape is (4, 16), expected (5, 16) or (1, 16) or (5, 2) or (1, 2)",
    ),
    "int8 ends without scales": ({"ends": torch.int8}, rows(end_scales=None), "end_scales is None, expected a tensor with int8"),
    "one scale an image": (
        {"ends": torch.int8},
        rows(end_scales=lambda t: t[:, :1]),
        "end_scales.shape is (5, 1), expected (5, 4)",
    ),
    "starts without masks": ({}, rows(starts=torch.arange(6)), "masks, starts is None, a tensor, expected both or neither"),
    "masks of floating codes": (
        {"bits": 16},
        rows(masks=torch.zeros(5, 16, dtype=torch.uint8), starts=torch.zeros(6).long()),
        "masks is a tensor, expected None with floating codes",
    ),
    "masks of another type": ({"masked": True}, rows(masks=torch.Tensor.int), "masks.dtype is torch.int32, expected torch.uint8"),
    "too few masks": ({"masked": True}, rows(masks=lambda t: t[:1]), "masks.shape is (1, 16), expected (5, 16)"),
    "rows of one length with starts": ({"masked": True}, rows(codes=lambda t: t[None]), "expected [total bytes] with masks"),
}
BAD = {
    "nonsense backend": (lambda b: {"backend": "cuda"}, "backend is 'cuda', expected one of auto, kernel, torch"),
    "rows of a deeper spec": (lambda b: {"spec": SirenSpec(4, 8, 12.0)}, "ends.shape is (5, 67), expected [N, 75]"),
    "the spec of a cosine series": (
        lambda b: {"spec": CosineSpec(4, 6, 3, 2)},
        "profiles=2), expected a SirenSpec; decode_cosine decodes cosine series",
    ),
    "ids of another type": (lambda b: {"ids": b.ids.int()}, "ids.dtype is torch.int32, expected torch.int64"),
    "an empty batch": (lambda b: {"ids": b.ids[:0]}, "ids.shape is (0,), expected [B] with B >= 1"),
    "ids with gaps": (lambda b: {"ids": b.ids[::2]}, "ids.stride() is (2,), expected"),
    "ids elsewhere": (lambda b: {"ids": b.ids.to("meta")}, "ids.device is meta, expected cpu, that of the rows"),
    "an id too large": (lambda b: {"ids": b.ids + 2}, "ids is in [2, 5], expected within [0, 4]"),
    "affine of another type": (lambda b: {"affine": b.affine.double()}, "affine.dtype is torch.float64, expected torch.float32"),
    "affine of another batch": (
        lambda b: {"affine": b.affine.expand(3, 2, 3)},
        "affine.shape is (3, 2, 3), expected (2, 3) or (4, 2, 3)",
    ),
    "affine elsewhere": (lambda b: {"affine": b.affine.to("meta")}, "affine.device is meta, expected cpu, that of the rows"),
    "a NaN affine": (
        lambda b: {"affine": b.affine * float("nan")},
        "affine is [[nan, nan, nan], [nan, nan, nan]], expected finite",
    ),
    "nonsense padding": (lambda b: {"padding": "wrap"}, "padding is 'wrap', expected one of none, zeros, reflection, border"),
    "reflection without edges": (
        lambda b: {"padding": "reflection"},
        "edges is None, expected [1 - 1/height, 1 - 1/width] of the encoded image with padding='reflection'",
    ),
    "edges of another type": (lambda b: {"edges": torch.zeros(2).double()}, "edges.dtype is torch.float64, expected"),
    "edges of another batch": (lambda b: {"edges": torch.zeros(3, 2)}, "edges.shape is (3, 2), expected (2,) or (4, 2)"),
    "edges beyond the square": (lambda b: {"edges": torch.tensor([0.5, 1.0])}, "edges is [0.5, 1.0], expected 1 - 1 / height"),
    "no sample": (lambda b: {"supersample": 0}, "supersample is 0, expected a whole number from 1 to 16"),
    "half a sample": (lambda b: {"supersample": 1.5}, "supersample is 1.5, expected a whole number from 1 to 16"),
    "no height": (lambda b: {"height": 0}, "height x width is 0x3, expected at least 1x1"),
    "an image too large": (lambda b: {"height": 2**15, "width": 2**15}, "expected under 2^31 values an image"),
    "another image type": (lambda b: {"dtype": torch.float64}, "dtype is torch.float64, expected one of"),
    "bytes without rounding": (lambda b: {"dtype": torch.uint8}, "round_8bit is False, expected True for torch.uint8"),
    "bytes with a mean": (
        lambda b: {"dtype": torch.uint8, "round_8bit": True, "mean": (0, 0, 0), "std": (1, 1, 1)},
        "mean is (0, 0, 0), expected None for torch.uint8",
    ),
    "a mean alone": (lambda b: {"mean": (0, 0, 0)}, "mean, std is (0, 0, 0), None, expected both or neither"),
    "a NaN mean": (lambda b: {"mean": (0, 0, float("nan")), "std": (1, 1, 1)}, "mean is (0, 0, nan), expected three finite"),
    "ids in a list": (lambda b: {"ids": [3, 0]}, "ids is [3, 0], expected a tensor"),
    "a map in a list": (lambda b: {"affine": [1, 0]}, "affine is [1, 0], expected a tensor"),
    "a std of zero": (lambda b: {"mean": (0, 0, 0), "std": (1, 0, 1)}, "std is (1, 0, 1), expected three positive numbers"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_bad_rows_are_named(fault):
    kind, change, message = BAD_ROWS[fault]
    batch = random_batch(SPEC, torch.device("cpu"), height=2, width=3, **kind)
    with pytest.raises(ValueError, match=re.escape(message)):
        batch.decode("auto", **change(batch))


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_argument_is_named(fault):
    batch = random_batch(SPEC, torch.device("cpu"), height=2, width=3)
    changes, message = BAD[fault]
    with pytest.raises(ValueError, match=re.escape(message)):
        batch.decode(**{"backend": "auto"} | changes(batch))


def test_the_kernel_takes_no_siren_wider_than_its_registers_and_torch_does():
    pytest.importorskip("triton")
    batch = random_batch(SirenSpec(2, 65, 12.0), torch.device("cpu"), height=2, width=3)
    with pytest.raises(ValueError, match=r"spec.hidden is 65, expected at most 64 \(backend='torch' takes any\)"):
        batch.decode("kernel")
    assert batch.decode("torch").shape == (4, 3, 2, 3)


def test_the_kernel_needs_a_gpu_where_it_is_compiled(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr("kernels.decode.triton.INTERPRETED", False)
    batch = random_batch(SPEC, torch.device("cpu"), height=2, width=3)
    with pytest.raises(ValueError, match=r"rows.device is cpu, expected a CUDA device, or TRITON_INTERPRET=1 for .*'torch'"):
        batch.decode("kernel")
