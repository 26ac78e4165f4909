"""The cosine decode: formula in plain Python <- the reference <- the kernel and the CPU backend; and what both promise alike."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from kernels.cosine import CosineRows, CosineSpec, decode_cosine
from kernels.cosine import torch as cpu_backend
from rapid_inr.augment.affine import crop, flip, rotation, scaling, to_coords, translation
from rapid_inr.evaluation.metrics import to_8bit
from rapid_inr.inr.coords import pixel_affine, pixel_edges
from tests.kernels.random_codes import random_codes
from tests.kernels.test_reference import moved_by_hand
from tests.tolerances import COSINE_KERNEL_RGB, COSINE_TORCH_RGB, FORMULA_RGB

interpreter_warnings = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a GPU takes in silence
CPU = torch.device("cpu")
SPEC = CosineSpec(frequencies=11, groups=40, dimensions=5, profiles=4)
SIZE = (6, 9)
TOLERANCE = {"kernel": COSINE_KERNEL_RGB, "torch": COSINE_TORCH_RGB}
PADDINGS = ("none", "zeros", "reflection", "border")
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


@pytest.fixture
def batch(device):
    return random_codes(SPEC, device, height=5, width=7)


def edges_on(device):
    return pixel_edges(torch.tensor(SIZE)).to(device)


def rgb_by_hand(rows: CosineRows, row: int, spec: CosineSpec, y: float, x: float) -> list[float]:
    """Evaluate one row at one coordinate, reading it as kernels/cosine/spec.py states in words."""
    codes, profile = rows.codes[row].tolist(), 0
    if spec.profiles > 1:
        profile, *codes = codes
    series = [0.0, 0.0, 0.0]
    components = torch.eye(len(rows.places)) if rows.basis is None else rows.basis
    for entry, component in zip(rows.table[profile].tolist(), components.tolist(), strict=True):
        if entry < 0:
            continue
        group, number = divmod(entry, spec.dimensions)
        amplitude = rows.books[profile, group, codes[group], number].item()
        for place, pattern in zip(rows.places.tolist(), component, strict=True):
            channel, row_and_column = divmod(place, spec.frequencies**2)
            z = amplitude * pattern
            for f, c in zip(divmod(row_and_column, spec.frequencies), (y, x), strict=True):
                z *= math.sqrt(2) * math.cos(math.pi * f * (c + 1) / 2) if f else 1.0
            series[channel] += z
    mixed = [sum(a * s for a, s in zip(line, series, strict=True)) for line in rows.colour.tolist()]
    return [min(max(value + mean, 0.0), 1.0) for value, mean in zip(mixed, rows.mean.tolist(), strict=True)]


@pytest.mark.parametrize(("profiles", "learned"), [(1, True), (4, True), (4, False)])
@pytest.mark.parametrize(("padding", "n"), [("none", 1), ("zeros", 2), ("reflection", 1), ("border", 3)])
def test_the_reference_is_the_formula(padding, n, profiles, learned):
    batch = random_codes(replace(SPEC, profiles=profiles), CPU, height=3, width=5, learned=learned)
    maps = batch.affine + 0.5 * torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))  # shears, turns, far outside
    edges = (0.625, 0.75)
    images = batch.reference(affine=maps, padding=padding, edges=torch.tensor(edges), supersample=n)
    for image, row, ((yi, yj, y0), (xi, xj, x0)) in zip(images, batch.ids.tolist(), maps.tolist(), strict=True):
        for pixel in ((0, 0), (1, 2), (2, 4)):
            samples = []
            for k in range(n * n):
                i, j = pixel[0] + (k // n + 0.5) / n - 0.5, pixel[1] + (k % n + 0.5) / n - 0.5
                y, x = yi * i + yj * j + y0, xi * i + xj * j + x0
                black = padding == "zeros" and max(abs(y), abs(x)) > 1
                y, x = (moved_by_hand(c, edge, padding) for c, edge in zip((y, x), edges, strict=True))
                samples.append([0.0] * 3 if black else rgb_by_hand(batch.rows, row, batch.keywords["spec"], y, x))
            expected = [sum(channel) / n**2 for channel in zip(*samples, strict=True)]
            assert image[:, pixel[0], pixel[1]].tolist() == pytest.approx(expected, abs=FORMULA_RGB, rel=0)


IMAGE_SIZES = itertools.cycle([(5, 7), (1, 1), (33, 17), (16, 16)])  # under a block, one pixel, ragged blocks, whole blocks
SPECS = [
    CosineSpec(1, 1, 1, 1), CosineSpec(1, 3, 8, 2), CosineSpec(7, 20, 3, 1), CosineSpec(16, 77, 7, 3), CosineSpec(17, 61, 8, 5),
    CosineSpec(31, 154, 7, 8), CosineSpec(32, 200, 1, 1), CosineSpec(32, 153, 7, 32),
    CosineSpec(33, 61, 8, 2), CosineSpec(64, 200, 4, 1),
]  # fmt: skip


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_backend_decodes_what_the_reference_does(device, backend, spec, learned):
    height, width = next(IMAGE_SIZES)
    batch = random_codes(spec, device, height=height, width=width, ids=(3, 0), seed=spec.groups, learned=learned)
    torch.testing.assert_close(batch.decode(backend), batch.reference(), atol=TOLERANCE[backend], rtol=0)


GEOMETRIES = {
    "the whole image": scaling(1.0, size=SIZE),
    "a flip, a crop and an enlargement": flip(size=SIZE) @ scaling(1.7, size=SIZE) @ translation(1.3, -2.6),
    "a shrinking": scaling(0.4, size=SIZE),
    "a rotation": rotation(33, size=SIZE),
    "a quarter of a turn": rotation(90, size=SIZE) @ translation(0.3, 0.2),
    "slanting columns": torch.tensor([[1.0, 0.0, 0.0], [0.3, 1.0, -0.23], [0.0, 0.0, 1.0]], dtype=torch.float64),
    "slanting rows": torch.tensor([[1.0, -0.21, 0.33], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
    "a shrinking turn": scaling(0.4, size=SIZE) @ rotation(-70, size=SIZE),
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_backend_samples_where_the_reference_does(device, backend, geometry, padding):
    batch = random_codes(SPEC, device, height=SIZE[0], width=SIZE[1], ids=(3, 0, 4))
    maps, supersample = to_coords(GEOMETRIES[geometry], SIZE).to(device), 2 if "shrink" in geometry else 1
    changes = {"affine": maps, "padding": padding, "edges": edges_on(device), "supersample": supersample}
    torch.testing.assert_close(batch.decode(backend, **changes), batch.reference(**changes), atol=TOLERANCE[backend], rtol=0)


def test_a_cpu_takes_the_cosines_of_rows_and_columns_where_a_map_keeps_them_apart(monkeypatch):
    batch = random_codes(SPEC, CPU, height=SIZE[0], width=SIZE[1], ids=(3, 0, 4))
    cosines, cos = [], torch.Tensor.cos_
    monkeypatch.setattr(torch.Tensor, "cos_", lambda t: cosines.append(t.numel()) or cos(t))
    for name in ("a flip, a crop and an enlargement", "slanting rows", "slanting columns"):
        batch.decode("torch", affine=to_coords(GEOMETRIES[name], SIZE))
    assert cosines == [2 * SPEC.frequencies * n for n in (max(SIZE), SIZE[0] * SIZE[1], SIZE[0] * SIZE[1])]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_each_image_has_its_own_map_and_edges(device, backend, padding, turned):
    batch = random_codes(SPEC, device, height=SIZE[0], width=SIZE[1], ids=(3, 0, 4))
    corners = torch.tensor([[-4, -3], [0, 4], [2, -1]], device=device)
    maps = to_coords(crop(*corners.T, *SIZE, size=SIZE) @ rotation(20.0 * turned, size=SIZE).to(device), SIZE)
    edges = edges_on(device) * torch.tensor([[1.0], [0.9], [0.5]], device=device)
    changes = {"affine": maps, "padding": padding, "edges": edges}
    torch.testing.assert_close(batch.decode(backend, **changes), batch.reference(**changes), atol=TOLERANCE[backend], rtol=0)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("reflection", "reflect"), ("border", "replicate")])
def test_a_crop_beyond_the_image_is_that_of_the_padded_image(device, backend, padding, mode):
    batch = random_codes(SPEC, device, height=SIZE[0], width=SIZE[1])
    maps = to_coords(crop(-4, -3, 12, 15, size=(12, 15), device=device), SIZE)
    images = batch.decode(backend, affine=maps, height=12, width=15, padding=padding, edges=edges_on(device))
    expected = F.pad(batch.decode(backend), (3, 3, 4, 2), mode=mode)
    torch.testing.assert_close(images, expected, atol=TOLERANCE[backend], rtol=0)


def test_the_coefficients_of_a_cosine_transform_give_the_image_back(device, backend):
    height, width = 6, 8
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)).double()
    bases = []
    for n in (height, width):
        basis = torch.cos(math.pi * torch.arange(8)[:, None] * (torch.arange(n) + 0.5) / n).double()
        bases.append(basis * torch.where(torch.arange(8)[:, None] > 0, math.sqrt(2), 1) / n)
    z = bases[0][:height] @ image @ bases[1].mT  # [3, 6, 8]
    spec = CosineSpec(8, 3 * 48, 1, 1)
    table, places = torch.arange(3 * 48)[None], torch.arange(3 * 64).view(3, 8, 8)[:, :height].flatten()
    books = torch.zeros(1, 3 * 48, 256, 1)
    books[0, :, 77, 0] = z.flatten()
    codes = torch.full((1, 3 * 48), 77)
    rows = CosineRows(codes.byte(), books.half(), table.short(), places, torch.eye(3), torch.zeros(3))
    rows = replace(rows, **{name: tensor.to(device) for name, tensor in rows.tensors().items()})
    decoded = decode_cosine(
        rows, torch.zeros(1, dtype=torch.int64, device=device), pixel_affine(height, width).to(device), spec=spec, height=height,
        width=width, dtype=torch.float32, round_8bit=False, backend=backend,
    )  # fmt: skip
    torch.testing.assert_close(decoded[0].cpu(), image.float(), atol=COSINE_KERNEL_RGB, rtol=0)  # words are float16 in both


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_rounding_and_dtype_are_those_of_the_metrics(batch, backend, dtype, channels_last):
    levels = to_8bit(batch.decode(backend))
    images = batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last)
    expected = levels if dtype == torch.uint8 else (levels.float() / 255).to(dtype)
    torch.testing.assert_close(images, expected, atol=0, rtol=0 if dtype == torch.uint8 else 2 * torch.finfo(dtype).eps)
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_each_channel_is_normalised_by_its_own_numbers(batch, backend):
    plain = batch.decode(backend)
    mean, std = (plain.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    images = batch.decode(backend, mean=MEAN, std=STD, channels_last=True)
    torch.testing.assert_close(images, (plain - mean) / std, atol=1e-6, rtol=0)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_does_not_depend_on_its_batch(device, backend, turned):
    ids = (3, 0, 3, 4, 1)
    batch = random_codes(CosineSpec(32, 154, 7, 4), device, height=5, width=7, ids=ids)
    maps = (batch.affine + torch.randn(5, 2, 3, device=device) * 0.02 * turned).contiguous()
    images = batch.decode(backend, affine=maps)
    for position, row in enumerate(ids):
        changes = {"ids": torch.tensor([row], device=device), "affine": maps[position : position + 1].contiguous()}
        alone = batch.decode(backend, **changes)[0]
        torch.testing.assert_close(images[position], alone, atol=TOLERANCE[backend], rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_value_is_written(monkeypatch, batch, backend, dtype, channels_last):
    empty = torch.empty
    clean = batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last)
    poison = math.nan if dtype.is_floating_point else 37
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(poison))
    assert torch.equal(batch.decode(backend, dtype=dtype, round_8bit=True, channels_last=channels_last), clean)


@interpreter_warnings
def test_nothing_is_read_but_the_words_of_an_image_that_its_table_names(batch, backend):
    clean = batch.decode(backend, ids=batch.ids[:1])
    row, d = 3, SPEC.dimensions
    profile, *words = batch.rows.codes[row].tolist()
    books = torch.full_like(batch.rows.books, math.nan)
    for entry in batch.rows.table[profile].tolist():
        if entry >= 0:
            at = (profile, entry // d, words[entry // d], entry % d)
            books[at] = batch.rows.books[at]
    codes, table = torch.full_like(batch.rows.codes, 3), torch.full_like(batch.rows.table, 0)
    codes[row], table[profile] = batch.rows.codes[row], batch.rows.table[profile]
    assert torch.equal(
        batch.decode(backend, ids=batch.ids[:1], rows=replace(batch.rows, codes=codes, books=books, table=table)), clean
    )


@interpreter_warnings
@pytest.mark.parametrize("turned", [False, True])
def test_nan_words_are_black_and_stay_in_their_image(batch, backend, turned):
    maps = batch.affine + 0.01 * turned
    clean = batch.decode(backend, affine=maps)
    batch.rows.books[batch.rows.codes[3, 0].long()] = math.nan
    images = batch.decode(backend, affine=maps)
    black = batch.rows.codes[batch.ids, 0] == batch.rows.codes[3, 0]
    assert black.any()
    assert not black.all()
    assert (images[black] == 0).all()
    assert torch.equal(images[~black], clean[~black])


@interpreter_warnings
def test_values_are_clamped(batch, backend):
    batch.rows.mean[:] = torch.tensor([-40.0, 40.0, math.inf])
    images = batch.decode(backend)
    assert (images[:, 0] == 0).all()
    assert (images[:, 1:] == 1).all()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("tile_values", [1, 7 * 96, 2**12])
def test_neither_tiles_nor_threads_show(monkeypatch, tile_values, turned):
    batch = random_codes(CosineSpec(32, 154, 7, 4), CPU, height=11, width=7, ids=(4, 1, 1, 0, 2))
    maps, before = batch.affine + 0.01 * turned, torch.get_num_threads()
    whole = batch.decode("torch", affine=maps)
    monkeypatch.setattr(cpu_backend, "TILE_VALUES", tile_values)
    try:
        torch.set_num_threads(3)
        with torch.inference_mode():
            cut = batch.decode("torch", affine=maps, channels_last=True)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(cut, whole, atol=COSINE_TORCH_RGB, rtol=0)
