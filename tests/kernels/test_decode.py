"""The last link of the chain of trust: the reference <- the kernel and the CPU backend; and what both promise alike."""

import itertools

import pytest
import torch

from kernels.rows import PackedRows
from kernels.spec import SirenSpec, end_sections
from rapid_inr.evaluation.metrics import to_8bit
from rapid_inr.inr.coords import pixel_affine
from tests.kernels.random_rows import Batch, random_batch
from tests.tolerances import FAST_TORCH_RGB, KERNEL_RGB

# the interpreter computes with numpy, which warns of what a GPU takes in silence
interpreter_warnings = pytest.mark.filterwarnings("ignore::RuntimeWarning")
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
TOLERANCE = {"kernel": KERNEL_RGB, "torch": FAST_TORCH_RGB}
IMAGE_SIZES = itertools.cycle([(5, 7), (1, 1), (33, 17), (16, 16)])  # under a block, one pixel, ragged blocks, whole blocks
SIZES = [
    (d, h, *next(IMAGE_SIZES))
    for h in (1, 7, 13, 16, 24, 32, 33, 40, 48, 64)
    for d in ((1, 2, 3, 5) if h in (13, 16) else (2, 3))
]


@pytest.fixture
def batch(device):
    return random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7)


@pytest.mark.parametrize(("depth", "hidden", "height", "width"), SIZES)
def test_a_backend_decodes_what_the_reference_does(device, backend, depth, hidden, height, width):
    batch = random_batch(SirenSpec(depth, hidden, 12.0), device, height=height, width=width, ids=(3, 0), seed=depth * hidden)
    torch.testing.assert_close(batch.decode(backend), batch.reference(), atol=TOLERANCE[backend], rtol=0)


KINDS = {
    **{f"{bits} bits": {"bits": bits} for bits in range(2, 8)},
    "8 bits, float32 ends": {"ends": torch.float32},
    "float16": {"bits": 16},
    "float16, float32 ends": {"bits": 16, "ends": torch.float32},
    "float32": {"bits": 32, "ends": torch.float32},
    "float32, int8 ends": {"bits": 32, "ends": torch.int8},
    "5 bits, int8 ends, a scale a layer": {"bits": 5, "ends": torch.int8, "scales": 1},
    "shared scales": {"bits": 8, "scales": 1, "shared_scales": True},
    "shared scales, one a column": {"bits": 3, "shared_scales": True},
    **{f"masks, {bits} bits": {"bits": bits, "masked": True} for bits in (3, 8)},
    "masks, 5 bits, int8 ends": {"bits": 5, "masked": True, "ends": torch.int8},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_row_is_read(device, backend, kind):
    batch = random_batch(SirenSpec(3, 24, 30.0), device, height=3, width=5, **KINDS[kind])
    torch.testing.assert_close(batch.decode(backend), batch.reference(), atol=TOLERANCE[backend], rtol=0)


@pytest.mark.parametrize("kind", ["float16", "5 bits, int8 ends, a scale a layer"])
def test_the_exact_sine_decodes_the_same(device, backend, kind):
    batch = random_batch(SirenSpec(3, 24, 30.0), device, height=3, width=5, **KINDS[kind])
    torch.testing.assert_close(batch.decode(backend, exact_sine=True), batch.reference(), atol=TOLERANCE[backend], rtol=0)


def test_every_code_is_its_value_in_its_place(device, backend):
    spec = SirenSpec(2, 16, 1.0)
    codes = torch.arange(-128, 128, dtype=torch.int8)  # 16 x 16 weights, each code once
    rows = [(i, group) for i in range(16) for group in range(6)]  # a row lets neuron i speak to three neurons of the next layer
    parts = {name: torch.zeros(len(rows), *section.shape) for name, section in end_sections(spec).items()}
    parts["last_bias"].fill_(0.5)
    expected = torch.full((len(rows), 3, 1, 1), 0.5)
    for row, (i, group) in enumerate(rows):
        parts["biases"][row, 0, i] = torch.pi / 2
        for channel, j in enumerate(range(3 * group, min(3 * group + 3, 16))):
            parts["last_weight"][row, j, channel] = 0.5
            expected[row, channel] = 0.5 + 0.5 * torch.sin(codes[16 * i + j] / 128)
    packed = PackedRows(
        codes.view(torch.uint8).expand(len(rows), -1).contiguous().to(device),
        torch.cat([part.flatten(1) for part in parts.values()], dim=1).to(device),
        torch.full((1, 1), 1 / 128, device=device), None, bits=8,
    )  # fmt: skip
    keywords = {"spec": spec, "height": 1, "width": 1, "dtype": torch.float32, "round_8bit": False}
    images = Batch(packed, torch.arange(len(rows), device=device), pixel_affine(1, 1).to(device), keywords).decode(backend)
    torch.testing.assert_close(images.cpu(), expected, atol=1e-3, rtol=0)  # the next code is 2.1e-3 away


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_rounding_and_dtype_are_those_of_the_metrics(batch, backend, dtype, channels_last):
    levels = to_8bit(batch.decode(backend))
    images = batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last)
    expected = levels if dtype == torch.uint8 else (levels.float() / 255).to(dtype)
    # a multiple of 1/255 may land on either side of the last bit of a float
    torch.testing.assert_close(images, expected, atol=0, rtol=0 if dtype == torch.uint8 else 2 * torch.finfo(dtype).eps)
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_half_the_only_exact_tie_is_level_128(device, backend):
    batch = random_batch(SirenSpec(1, 16, 12.0), device, height=1, width=1, ids=(0,), ends=torch.float32)
    section = end_sections(batch.keywords["spec"])["last_weight"]
    batch.rows.ends[:, section.start : section.stop] = 0
    batch.rows.ends[:, -3:] = torch.tensor([0.5, 0.0, 1.0])
    assert batch.decode(backend, dtype=torch.uint8, round_8bit=True).flatten().tolist() == [128, 0, 255]


@pytest.mark.parametrize("round_8bit", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_each_channel_is_normalised_by_its_own_numbers(batch, backend, dtype, round_8bit):
    plain = batch.decode(backend, round_8bit=round_8bit)
    mean, std = (plain.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    images = batch.decode(backend, dtype=dtype, round_8bit=round_8bit, mean=MEAN, std=STD, channels_last=True)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(images.float(), (plain - mean) / std, atol=4 * eps, rtol=eps)


def test_an_image_does_not_depend_on_its_batch(device, backend):
    batch = random_batch(SirenSpec(3, 16, 12.0), device, height=5, width=7, ids=(3, 0, 3, 4, 1))
    images = batch.decode(backend)
    assert not torch.equal(images[0], images[1])
    for position, row in enumerate(batch.ids.tolist()):
        alone = batch.decode(backend, ids=torch.tensor([row], device=device))[0]
        torch.testing.assert_close(images[position], alone, atol=0 if backend == "kernel" else FAST_TORCH_RGB, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_value_is_written(monkeypatch, batch, backend, dtype, channels_last):
    empty, new_empty = torch.empty, torch.Tensor.new_empty

    def poisoned(tensor):
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 37)

    clean = batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poisoned(new_empty(*a, **k)))
    assert torch.equal(batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last), clean)


@interpreter_warnings
@pytest.mark.parametrize("where", ["first_weight", "biases", "scales", "last_weight", "last_bias"])
def test_nan_weights_are_black_and_stay_in_their_image(batch, backend, where):
    clean = batch.decode(backend)
    if where == "scales":
        batch.rows.scales[3] = float("nan")
    else:
        section = end_sections(batch.keywords["spec"])[where]
        batch.rows.ends[3, section.start : section.stop] = float("nan")
    images = batch.decode(backend)
    black = batch.ids == 3
    assert (images[black] == 0).all()
    torch.testing.assert_close(images[~black], clean[~black], atol=0 if backend == "kernel" else FAST_TORCH_RGB, rtol=0)


@interpreter_warnings
@pytest.mark.parametrize("kind", [{"bits": 16}, *({"bits": bits, "ends": torch.int8} for bits in (2, 5, 7))])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_no_bit_of_a_neighbouring_row_is_read(device, backend, row, kind):
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=2, width=3, ids=(row,), **kind)
    clean = batch.decode(backend)
    neighbours = torch.arange(5, device=device) != row
    for tensor in batch.rows.tensors().values():
        tensor[neighbours] = float("nan") if tensor.is_floating_point() else 113
    assert torch.equal(batch.decode(backend), clean)


@interpreter_warnings
def test_values_are_clamped(batch, backend):
    section = end_sections(batch.keywords["spec"])["last_bias"]
    batch.rows.ends[:, section.start : section.stop] = torch.tensor([-40.0, 40.0, float("inf")], dtype=torch.float16)
    images = batch.decode(backend)
    assert (images[:, 0] == 0).all()
    assert (images[:, 1:] == 1).all()
