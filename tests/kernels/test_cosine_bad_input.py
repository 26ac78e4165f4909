"""Every bad argument of a cosine decode is refused with a message that names it."""

import re
from dataclasses import replace

import pytest
import torch

from kernels.cosine import CosineSpec
from kernels.spec import SirenSpec
from tests.kernels.random_codes import random_codes

SPEC = CosineSpec(4, 6, 3, 2)
BAD_ROWS = {
    "no rows": ("codes", lambda t: t[:0], "codes.shape is (0, 7), expected [N, bytes] with N >= 1"),
    "codes of another type": ("codes", torch.Tensor.char, "codes.dtype is torch.int8, expected torch.uint8"),
    "codes without a profile": ("codes", lambda t: t[:, 1:], "codes.shape is (5, 6), expected (5, 7) for CosineSpec"),
    "codes with gaps": (
        "codes",
        lambda t: t.mT.contiguous().mT,
        "codes.stride() is (1, 5), expected that of a contiguous tensor",
    ),
    "an unknown profile": ("codes", lambda t: t.fill_(2), "the profile of an image is 2, expected 0 to 1"),
    "words of another type": ("books", torch.Tensor.float, "books.dtype is torch.float32, expected torch.float16"),
    "books of one profile": ("books", lambda t: t[:1], "books.shape is (1, 6, 256, 3), expected (2, 6, 256, 3)"),
    "books elsewhere": ("books", lambda t: t.to("meta"), "books.device is meta, expected cpu, that of codes"),
    "a table of another type": ("table", torch.Tensor.int, "table.dtype is torch.int32, expected torch.int16"),
    "a table of fewer components": ("table", lambda t: t[:, 1:], "table.shape is (2, 47), expected (2, 48)"),
    "a basis of one axis": ("basis", lambda t: t[:, 0], "basis.shape is (48,), expected [K, J]"),
    "fewer coefficients than a table has, and no basis": ("basis", lambda t: None, "table.shape is (2, 48), expected (2, 32)"),
    "a basis of another type": ("basis", torch.Tensor.half, "basis.dtype is torch.float16, expected torch.float32"),
    "places of another number": ("places", lambda t: t[1:], "places.shape is (31,), expected (32,)"),
    "a place that no series has": ("places", lambda t: t.fill_(48), "places is in [48, 48], expected within [0, 47]"),
    "a table beyond the words": ("table", lambda t: t.fill_(18), "table is in [18, 18], expected within [-1, 17]"),
    "a table below nothing": ("table", lambda t: t.fill_(-2), "table is in [-2, -2], expected within [-1, 17]"),
    "colour of two channels": ("colour", lambda t: t[:2], "colour.shape is (2, 3), expected (3, 3)"),
    "a mean of another type": ("mean", torch.Tensor.half, "mean.dtype is torch.float16, expected torch.float32"),
}
BAD = {
    "nonsense backend": ({"backend": "cuda"}, "backend is 'cuda', expected one of auto, kernel, torch"),
    "rows of another spec": ({"spec": CosineSpec(4, 5, 3, 2)}, "codes.shape is (5, 7), expected (5, 6) for CosineSpec"),
    "the spec of a SIREN": ({"spec": SirenSpec(3, 8, 12.0)}, "omega=12.0), expected a CosineSpec; decode_siren decodes SIRENs"),
    "an id too large": ({"ids": torch.tensor([5])}, "ids is in [5, 5], expected within [0, 4]"),
    "a map that is not finite": ({"affine": torch.full((2, 3), torch.inf)}, "affine is [[inf, inf, inf]"),
    "reflection without edges": ({"padding": "reflection"}, "edges is None, expected [1 - 1/height, 1 - 1/width]"),
    "no height": ({"height": 0}, "height x width is 0x3, expected at least 1x1"),
    "bytes without rounding": ({"dtype": torch.uint8}, "round_8bit is False, expected True for torch.uint8"),
}
BAD_SPECS = {
    "frequencies is 65, expected 1 to 64": {"frequencies": 65},
    "groups is 0, expected 1 to 10922": {"groups": 0},
    "groups is 10923, expected 1 to 10922": {"groups": 10923},
    "dimensions is 9, expected 1 to 8": {"dimensions": 9},
    "profiles is 33, expected 1 to 32": {"profiles": 33},
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_bad_rows_are_named(fault):
    batch, (name, change, message) = random_codes(SPEC, torch.device("cpu"), height=2, width=3), BAD_ROWS[fault]
    rows = replace(batch.rows, **{name: change(getattr(batch.rows, name))})
    with pytest.raises(ValueError, match=re.escape(message)):
        batch.decode("auto", rows=rows)


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_argument_is_named(fault):
    batch, (changes, message) = random_codes(SPEC, torch.device("cpu"), height=2, width=3), BAD[fault]
    with pytest.raises(ValueError, match=re.escape(message)):
        batch.decode(**{"backend": "auto"} | changes)


@pytest.mark.parametrize("message", BAD_SPECS)
def test_a_bad_spec_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(SPEC, **BAD_SPECS[message])
