"""The last link of the chain of trust: the twin in float64 <- the Triton kernel; and what both backends promise alike."""

import itertools

import pytest
import torch
import triton
import triton.language as tl

from kernels.decode.evaluate import places
from kernels.decode.torch import decode_siren_torch
from kernels.decode.triton import decode_siren
from kernels.rows import PackedRows
from kernels.spec import SirenSpec, end_sections
from kernels.unpack.torch import gather_codes
from kernels.unpack.triton import unpack_rows, unpacks_before
from rapid_inr.evaluation.metrics import to_8bit
from rapid_inr.inr.coords import pixel_affine
from tests.kernels.random_rows import random_batch
from tests.tolerances import FAST_TWIN_RGB, KERNEL_RGB

# the interpreter computes with numpy, which warns of what a GPU takes in silence
interpreter_warnings = pytest.mark.filterwarnings("ignore::RuntimeWarning")
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
IMAGE_SIZES = itertools.cycle([(5, 7), (1, 1), (33, 17), (16, 16)])  # under a block, one pixel, ragged blocks, whole blocks
SIZES = [
    (d, h, *next(IMAGE_SIZES))
    for h in (1, 7, 13, 16, 24, 32, 33, 40, 48, 64)
    for d in ((1, 2, 3, 5) if h in (13, 16) else (2, 3))
]


@pytest.fixture(params=[decode_siren, decode_siren_torch], ids=["kernel", "twin"])
def decode(request):
    """Each backend in turn."""
    return request.param


@pytest.fixture
def batch(device):
    return random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7)


def oracle(batch, **changes):
    return batch.decode(decode_siren_torch, compute_dtype=torch.float64, **changes)


@pytest.mark.parametrize(("depth", "hidden", "height", "width"), SIZES)
def test_the_kernel_is_the_float64_twin(device, depth, hidden, height, width):
    batch = random_batch(SirenSpec(depth, hidden, 12.0), device, height=height, width=width, ids=(3, 0), seed=depth * hidden)
    torch.testing.assert_close(batch.decode(decode_siren), oracle(batch), atol=KERNEL_RGB, rtol=0)


def test_a_batch_of_more_images_than_a_grid_is_high_is_decoded_whole(monkeypatch, device):
    monkeypatch.setattr("kernels.decode.triton.MAX_GRID", 3)
    batch = random_batch(SirenSpec(2, 8, 12.0), device, height=5, width=17, ids=(3, 0, 1, 2, 0, 2, 3))  # 3 layers of 3, 2 over
    torch.testing.assert_close(batch.decode(decode_siren), oracle(batch), atol=KERNEL_RGB, rtol=0)


@triton.jit(do_not_specialize=["first_block", "width"])  # as in the kernel: a width of 1 is no constant
def _write_places(out_ptr, first_block, width, inverse_width, BLOCK: tl.constexpr):
    rows, columns = places(first_block + tl.program_id(0), width, inverse_width, BLOCK)
    place = tl.program_id(0) * 2 * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + place, rows)
    tl.store(out_ptr + place + BLOCK, columns)


@pytest.mark.parametrize("block", [64, 256])
@pytest.mark.parametrize("width", [1, 3, 32, 97, 224, 255, 256, 257, 4095, 100_003, 4_000_000])
def test_a_pixel_has_its_row_and_column_at_any_width(device, width, block):
    for first in (0, max(0, width // block - 2), (5 * width + 7) // block):  # the image's start, a row's end, further down
        found = torch.empty(8, 2, block, device=device)
        _write_places[(8,)](found, first, width, 1.0 / width, BLOCK=block)
        pixels = torch.arange(first * block, (first + 8) * block).view(8, block)
        assert torch.equal(found.long().cpu(), torch.stack([pixels // width, pixels % width], 1))


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
    **{f"own masks, {bits} bits": {"bits": bits, "masks": "own"} for bits in (3, 8)},
    **{f"a shared mask, {bits} bits": {"bits": bits, "masks": "shared", "ends": torch.int8} for bits in (5, 8)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_row_is_read(device, kind):
    batch = random_batch(SirenSpec(3, 24, 30.0), device, height=3, width=5, **KINDS[kind])
    torch.testing.assert_close(batch.decode(decode_siren), oracle(batch), atol=KERNEL_RGB, rtol=0)


@pytest.mark.parametrize("kind", ["float16", "5 bits, int8 ends, a scale a layer"])
def test_the_exact_sine_decodes_the_same(device, kind):
    batch = random_batch(SirenSpec(3, 24, 30.0), device, height=3, width=5, **KINDS[kind])
    torch.testing.assert_close(batch.decode(decode_siren, exact_sine=True), oracle(batch), atol=KERNEL_RGB, rtol=0)


@pytest.mark.parametrize("masks", ["own", "shared"])
@pytest.mark.parametrize("hidden", [1, 13, 33])
def test_masks_of_more_than_one_program_are_read(device, hidden, masks):
    batch = random_batch(SirenSpec(4, hidden, 12.0), device, height=3, width=5, bits=5, masks=masks)
    torch.testing.assert_close(batch.decode(decode_siren), oracle(batch), atol=KERNEL_RGB, rtol=0)


@pytest.mark.parametrize("hidden", [13, 33])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_rows_are_unpacked_once_where_an_image_has_many_programs(monkeypatch, device, bits, hidden):
    batch = random_batch(SirenSpec(4, hidden, 12.0), device, height=3, width=5, bits=bits)
    monkeypatch.setattr("kernels.unpack.triton.UNPACK_FROM_PASSES", 1)
    codes = gather_codes(batch.rows.codes, batch.ids, bits=bits, n_codes=batch.keywords["spec"].n_hidden_weights)
    assert torch.equal(unpack_rows(batch.rows, batch.ids, batch.keywords["spec"]).view(torch.int8), codes)
    torch.testing.assert_close(batch.decode(decode_siren), oracle(batch), atol=KERNEL_RGB, rtol=0)


def test_small_images_and_whole_bytes_are_unpacked_by_their_programs():
    kinds = [(5, False), (8, False), (8, True)]
    assert [unpacks_before(bits=bits, masked=masked, passes=15) for bits, masked in kinds] == [False, False, True]
    assert [unpacks_before(bits=bits, masked=masked, passes=16) for bits, masked in kinds] == [True, False, True]


@pytest.mark.parametrize("hidden", [1, 13, 16])
def test_one_scale_a_layer_serves_all_its_columns(device, decode, hidden):
    batch = random_batch(SirenSpec(3, hidden, 12.0), device, height=5, width=7, scales=1)
    assert batch.rows.scales.shape[1] == 2
    torch.testing.assert_close(batch.decode(decode), oracle(batch), atol=KERNEL_RGB, rtol=0)


def test_every_code_is_its_value_in_its_place(device, decode):
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
    images = decode(
        PackedRows(
            codes.view(torch.uint8).expand(len(rows), -1).contiguous().to(device),
            torch.cat([part.flatten(1) for part in parts.values()], dim=1).to(device),
            torch.full((1, 1), 1 / 128, device=device),
            None,
            bits=8,
        ),
        torch.arange(len(rows), device=device),
        pixel_affine(1, 1).to(device),
        spec=spec,
        height=1,
        width=1,
        dtype=torch.float32,
        round_8bit=False,
    )
    torch.testing.assert_close(images.cpu(), expected, atol=1e-3, rtol=0)  # the next code is 2.1e-3 away


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_rounding_and_dtype_are_those_of_the_metrics(batch, decode, dtype, channels_last):
    levels = to_8bit(batch.decode(decode))
    images = batch.decode(decode, dtype=dtype, round_8bit=True, channels_last=channels_last)
    expected = levels if dtype == torch.uint8 else (levels.float() / 255).to(dtype)
    # a multiple of 1/255 may land on either side of the last bit of a float
    torch.testing.assert_close(images, expected, atol=0, rtol=0 if dtype == torch.uint8 else 2 * torch.finfo(dtype).eps)
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_half_the_only_exact_tie_is_level_128(device, decode):
    batch = random_batch(SirenSpec(1, 16, 12.0), device, height=1, width=1, ids=(0,), ends=torch.float32)
    section = end_sections(batch.keywords["spec"])["last_weight"]
    batch.rows.ends[:, section.start : section.stop] = 0
    batch.rows.ends[:, -3:] = torch.tensor([0.5, 0.0, 1.0])
    assert batch.decode(decode, dtype=torch.uint8, round_8bit=True).flatten().tolist() == [128, 0, 255]


@pytest.mark.parametrize("round_8bit", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_each_channel_is_normalised_by_its_own_numbers(batch, decode, dtype, round_8bit):
    plain = batch.decode(decode, round_8bit=round_8bit)
    mean, std = (plain.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    images = batch.decode(decode, dtype=dtype, round_8bit=round_8bit, mean=MEAN, std=STD, channels_last=True)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(images.float(), (plain - mean) / std, atol=4 * eps, rtol=eps)


def test_a_flip_and_a_crop_cost_a_map(device, decode):
    height, width = 9, 11
    batch = random_batch(SirenSpec(3, 16, 12.0), device, height=height, width=width, ids=(2, 2, 4))
    whole = batch.decode(decode)
    base = pixel_affine(height, width)
    flip_columns = torch.tensor([[1.0, 0, 0], [0, -1, width - 1], [0, 0, 1]])
    shift = torch.tensor([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])  # reads the image transposed
    affine = torch.stack([base @ flip_columns, base @ shift, base @ swap]).to(device)
    crops = batch.decode(decode, affine=affine, height=5, width=6)
    expected = torch.stack([whole[0].flip(2)[:, :5, :6], whole[1, :, 3:8, 4:10], whole[2].mT[:, :5, :6]])
    torch.testing.assert_close(crops, expected, atol=KERNEL_RGB if decode is decode_siren else FAST_TWIN_RGB, rtol=0)


def test_an_image_does_not_depend_on_its_batch(device, decode):
    batch = random_batch(SirenSpec(3, 16, 12.0), device, height=5, width=7, ids=(3, 0, 3, 4, 1))
    images = batch.decode(decode)
    assert not torch.equal(images[0], images[1])
    for position, row in enumerate(batch.ids.tolist()):
        alone = batch.decode(decode, ids=torch.tensor([row], device=device))[0]
        torch.testing.assert_close(images[position], alone, atol=0 if decode is decode_siren else FAST_TWIN_RGB, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_every_value_is_written(monkeypatch, batch, decode, dtype, channels_last):
    empty, new_empty = torch.empty, torch.Tensor.new_empty

    def poisoned(tensor):
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 37)

    clean = batch.decode(decode, dtype=dtype, round_8bit=True, channels_last=channels_last)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poisoned(new_empty(*a, **k)))
    assert torch.equal(batch.decode(decode, dtype=dtype, round_8bit=True, channels_last=channels_last), clean)


@pytest.mark.parametrize("masks", ["own", "shared", None])
def test_every_unpacked_code_is_written(monkeypatch, device, masks):
    monkeypatch.setattr("kernels.unpack.triton.UNPACK_FROM_PASSES", 1)
    batch, empty = random_batch(SirenSpec(4, 23, 12.0), device, height=2, width=3, bits=3, masks=masks), torch.empty
    clean = batch.decode(decode_siren)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(77))
    assert torch.equal(batch.decode(decode_siren), clean)


def test_no_value_is_written_twice_or_beyond_its_image(monkeypatch, batch):
    """A guard on both sides of the output stays as it was."""
    empty, guards = torch.empty, []

    def guarded(size, *, dtype, device, memory_format):
        del memory_format
        n = torch.Size(size).numel()
        guards.append(torch.full((n + 2048,), -7.0, dtype=dtype, device=device))
        return guards[-1][1024 : 1024 + n].view(size)

    clean = batch.decode(decode_siren)
    monkeypatch.setattr(torch, "empty", guarded)
    assert torch.equal(batch.decode(decode_siren), clean)
    monkeypatch.setattr(torch, "empty", empty)
    assert (guards[0][:1024] == -7).all()
    assert (guards[0][-1024:] == -7).all()


@interpreter_warnings
@pytest.mark.parametrize("where", ["first_weight", "biases", "scales", "last_weight", "last_bias"])
def test_nan_weights_are_black_and_stay_in_their_image(batch, decode, where):
    clean = batch.decode(decode)
    if where == "scales":
        batch.rows.scales[3] = float("nan")
    else:
        section = end_sections(batch.keywords["spec"])[where]
        batch.rows.ends[3, section.start : section.stop] = float("nan")
    images = batch.decode(decode)
    black = batch.ids == 3
    assert (images[black] == 0).all()
    torch.testing.assert_close(images[~black], clean[~black], atol=0 if decode is decode_siren else FAST_TWIN_RGB, rtol=0)


@interpreter_warnings
@pytest.mark.parametrize("row", [0, 2, 4])
def test_no_neighbouring_row_is_read(device, decode, row):
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7, ids=(row,), bits=16)
    clean = batch.decode(decode)
    neighbours = torch.arange(5, device=device) != row
    batch.rows.codes[neighbours] = float("nan")
    batch.rows.ends[neighbours] = float("nan")
    assert torch.equal(batch.decode(decode), clean)


@pytest.mark.parametrize("bits", [2, 5, 7])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_no_bit_of_a_neighbouring_row_is_read(device, decode, row, bits):
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=2, width=3, ids=(row,), bits=bits, ends=torch.int8)
    clean = batch.decode(decode)
    neighbours = torch.arange(5, device=device) != row
    for tensor in batch.rows.tensors().values():
        tensor[neighbours] = 113
    assert torch.equal(batch.decode(decode), clean)


@interpreter_warnings
def test_values_are_clamped(batch, decode):
    section = end_sections(batch.keywords["spec"])["last_bias"]
    batch.rows.ends[:, section.start : section.stop] = torch.tensor([-40.0, 40.0, float("inf")], dtype=torch.float16)
    images = batch.decode(decode)
    assert (images[:, 0] == 0).all()
    assert (images[:, 1:] == 1).all()


@pytest.mark.parametrize("kind", [{}, {"bits": 5, "masks": "own"}, {"bits": 3, "masks": "shared", "ends": torch.int8}])
def test_the_kernel_reads_no_row_that_is_not_there(monkeypatch, device, kind):
    """As on a GPU, where ids are not looked at before the launch."""
    batch = random_batch(SirenSpec(3, 13, 12.0), device, height=5, width=7, **kind)
    monkeypatch.setattr("kernels.decode.triton.check_batch", lambda *_: None)
    images = batch.decode(decode_siren, ids=torch.tensor([-1, 5, 2**40, 0], device=batch.ids.device))
    assert (images[:3] == 0).all()
    assert torch.equal(images[3], batch.decode(decode_siren)[1])
