"""`experiments.sheet` as a user runs it, and what encoding and it know of quality."""

import csv
import json

import pytest
import torch
from PIL import Image

from rapid_inr.evaluation.metrics import bpp, ssim
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import bytes_by_part, image_bytes
from tests.experiments.commands import SHAPES, SMOKE

SOME = (*SHAPES, "track=off")


def metrics_of(folder):
    return json.loads((folder / "record.json").read_text())["metrics"]


@pytest.fixture
def stores(command):
    """Stores of a small and a larger shape, the larger named first."""
    for shape in ("2x8", "3x12"):
        assert command("encode", *SHAPES, *SMOKE, f"inr={shape}", f"out={shape}.inr", f"run_dir=encode-{shape}")[0] == 0
    return "stores=[3x12.inr,2x8.inr]"


def test_an_image_is_shown_as_each_store_has_it_by_rising_bytes(command, tmp_path, stores):
    assert command("decode", "store=2x8.inr", "out=pictures", "track=off")[0] == 0
    code, out, _ = command("sheet", *SOME, stores, "image=2", "codec=webp", "run_dir=r")
    assert (code, out.startswith("2 INRs of train_00002 from ")) == (0, True)
    points = metrics_of(tmp_path / "r")["points"]
    assert [(point["codec"], point["setting"]) for point in points] == [("INR 8 bit", "2x8"), ("INR 8 bit", "3x12")]
    with (tmp_path / "encode-2x8" / "images.csv").open() as file:
        assert points[0]["psnr_db"] == pytest.approx(float(list(csv.DictReader(file))[2]["psnr_db"]), abs=1e-3)
    with (tmp_path / "r" / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["codec"] for row in rows[:3]] == ["INR 8 bit", "INR 8 bit", "WebP"]
    for name in ("sheet.png", "curve.png"):
        with Image.open(tmp_path / "r" / name) as picture:
            assert min(picture.size) > 100


def test_the_bytes_of_an_image_are_those_of_its_file_without_header_and_labels(command, tmp_path, stores):
    command("sheet", *SOME, stores, "run_dir=r")
    point = metrics_of(tmp_path / "r")["points"][0]
    store, n_bytes = read_store(tmp_path / "2x8.inr"), (tmp_path / "2x8.inr").stat().st_size
    parts = bytes_by_part(store, file_bytes=n_bytes)
    assert point["n_bytes"] == image_bytes(store) == (n_bytes - parts["header"] - parts["labels"]) / len(store)
    assert point["bpp"] == bpp(n_bytes=point["n_bytes"], n_pixels=144)
    assert metrics_of(tmp_path / "encode-2x8")["image_bytes"] == point["n_bytes"]


def test_encoding_records_the_ssim_of_what_its_file_decodes_to(command, tmp_path, stores):
    command("decode", "store=2x8.inr", "out=pictures", "track=off")
    command("export", *SHAPES, "format=png", "out=clean")
    values = []
    for path in sorted((tmp_path / "clean" / "train").rglob("*.png")):
        pair = [torch.frombuffer(bytearray(Image.open(p).tobytes()), dtype=torch.uint8).view(1, 12, 12, 3)
                for p in (tmp_path / "pictures" / path.name, path)]  # fmt: skip
        values.append(ssim(*pair).item())
    assert len(values) == 9
    assert metrics_of(tmp_path / "encode-2x8")["ssim"] == pytest.approx(sum(values) / 9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("image=9",), "image is 9, expected 0..8"),
        (("stores=[]",), "stores is empty"),
        (("stores=2x8.inr",), "stores is '2x8.inr', expected a list of texts"),
        (("dataset.seed=1",), "the store was made with dataset.seed=0, this is dataset.seed=1"),
        (("dataset.limit=20", "image=15"), "a store of 9 images lacks train_00015"),
    ],
)
def test_an_error_of_use_is_one_line_and_leaves_no_run(command, tmp_path, stores, overrides, message):
    code, _, err = command("sheet", *SOME, stores, "run_dir=r", *overrides)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not (tmp_path / "r").exists()
