"""Every bad argument of a decode is refused by both backends, with a message that names it."""

import re

import pytest
import torch

from kernels.siren_decode import decode_siren
from kernels.siren_decode_torch import decode_siren_torch
from kernels.spec import SirenSpec
from tests.kernels.random_rows import random_batch

SPEC = SirenSpec(3, 8, 12.0)  # 128 codes; 87 floats and 16 scales a row

BAD = {
    "codes of another type": (lambda b: {"codes": b.codes.to(torch.int16)}, "codes.dtype is torch.int16, expected one of"),
    "codes of one dimension": (lambda b: {"codes": b.codes[0]}, "codes.shape is (128,), expected [N, n_hidden_weights]"),
    "no rows": (lambda b: {"codes": b.codes[:0], "floats": b.floats[:0]}, "codes.shape is (0, 128), expected"),
    "codes with gaps": (lambda b: {"codes": b.codes.mT.contiguous().mT}, "codes.stride() is (1, 5), expected"),
    "codes elsewhere": (lambda b: {"codes": b.codes.to("meta")}, "floats.device is cpu, expected meta, that of codes"),
    "floats of another type": (lambda b: {"floats": b.floats.double()}, "floats.dtype is torch.float64, expected one of"),
    "floats without scales": (lambda b: {"floats": b.floats[:, :-16].contiguous()}, "floats.shape is (5, 67), expected (5, 83)"),
    "scales without codes": (lambda b: {"codes": b.codes.half()}, "floats.shape is (5, 83), expected (5, 67)"),
    "fewer floats than codes": (lambda b: {"floats": b.floats[:4]}, "floats.shape is (4, 83), expected (5, 83)"),
    "floats with gaps": (lambda b: {"floats": b.floats.mT.contiguous().mT}, "floats.stride() is (1, 5), expected"),
    "rows of a deeper spec": (
        lambda b: {"spec": SirenSpec(4, 8, 12.0)},
        "codes.shape[1] is 128, expected 192 for SirenSpec(depth=4",
    ),
    "ids of another type": (lambda b: {"ids": b.ids.int()}, "ids.dtype is torch.int32, expected torch.int64"),
    "ids of two dimensions": (lambda b: {"ids": b.ids[None]}, "ids.shape is (1, 4), expected [B]"),
    "an empty batch": (lambda b: {"ids": b.ids[:0]}, "ids.shape is (0,), expected [B] with B >= 1"),
    "ids with gaps": (lambda b: {"ids": b.ids[::2]}, "ids.stride() is (2,), expected"),
    "ids elsewhere": (lambda b: {"ids": b.ids.to("meta")}, "ids.device is meta, expected cpu, that of codes"),
    "an id too large": (lambda b: {"ids": b.ids + 2}, "ids is in [2, 5], expected within [0, 4]"),
    "a negative id": (lambda b: {"ids": b.ids - 1}, "ids is in [-1, 2], expected within [0, 4]"),
    "affine of another type": (lambda b: {"affine": b.affine.double()}, "affine.dtype is torch.float64, expected torch.float32"),
    "affine of another batch": (
        lambda b: {"affine": b.affine.expand(3, 2, 3)},
        "affine.shape is (3, 2, 3), expected (2, 3) or (4, 2, 3)",
    ),
    "affine with gaps": (lambda b: {"affine": b.affine.expand(4, 2, 3)}, "affine.stride() is (0, 3, 1), expected"),
    "affine elsewhere": (lambda b: {"affine": b.affine.to("meta")}, "affine.device is meta, expected cpu, that of codes"),
    "a NaN affine": (
        lambda b: {"affine": b.affine * float("nan")},
        "affine is [[nan, nan, nan], [nan, nan, nan]], expected finite",
    ),
    "an infinite affine": (
        lambda b: {"affine": b.affine + float("inf")},
        "affine is [[inf, inf, inf], [inf, inf, inf]], expected",
    ),
    "no height": (lambda b: {"height": 0}, "height x width is 0x3, expected at least 1x1"),
    "a negative width": (lambda b: {"width": -1}, "height x width is 2x-1, expected at least 1x1"),
    "an image too large": (lambda b: {"height": 2**15, "width": 2**15}, "expected under 2^31 values an image"),
    "another image type": (lambda b: {"dtype": torch.float64}, "dtype is torch.float64, expected one of"),
    "bytes without rounding": (lambda b: {"dtype": torch.uint8}, "round_8bit is False, expected True for torch.uint8"),
    "bytes with a mean": (
        lambda b: {"dtype": torch.uint8, "round_8bit": True, "mean": (0, 0, 0), "std": (1, 1, 1)},
        "mean is (0, 0, 0), expected None for torch.uint8",
    ),
    "a mean alone": (lambda b: {"mean": (0, 0, 0)}, "mean, std is (0, 0, 0), None, expected both or neither"),
    "a mean of one": (lambda b: {"mean": (0.5,), "std": (1, 1, 1)}, "mean is (0.5,), expected three finite numbers"),
    "a NaN mean": (lambda b: {"mean": (0, 0, float("nan")), "std": (1, 1, 1)}, "mean is (0, 0, nan), expected three finite"),
    "a std of zero": (lambda b: {"mean": (0, 0, 0), "std": (1, 0, 1)}, "std is (1, 0, 1), expected three positive numbers"),
}


@pytest.mark.parametrize("decode", [decode_siren, decode_siren_torch], ids=["kernel", "twin"])
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_argument_is_named(fault, decode):
    batch = random_batch(SPEC, torch.device("cpu"), height=2, width=3)
    changes, message = BAD[fault]
    with pytest.raises(ValueError, match=re.escape(message)):
        batch.decode(decode, **changes(batch))


def test_the_kernel_takes_no_siren_wider_than_its_registers_and_the_twin_does():
    batch = random_batch(SirenSpec(2, 65, 12.0), torch.device("cpu"), height=2, width=3)
    with pytest.raises(ValueError, match=r"spec.hidden is 65, expected at most 64 \(decode_siren_torch takes any\)"):
        batch.decode(decode_siren)
    assert batch.decode(decode_siren_torch).shape == (4, 3, 2, 3)


def test_the_kernel_needs_a_gpu_where_it_is_compiled(monkeypatch):
    monkeypatch.setattr("kernels.siren_decode.INTERPRETED", False)
    batch = random_batch(SPEC, torch.device("cpu"), height=2, width=3)
    with pytest.raises(ValueError, match=r"codes.device is cpu, expected a CUDA device \(decode_siren_torch runs on any\)"):
        batch.decode(decode_siren)
