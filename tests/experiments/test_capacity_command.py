"""A projection is arithmetic on records, and says so."""

import json

import pytest

from tests.experiments.commands import SHAPES, SMOKE


@pytest.fixture
def runs(command, tmp_path):
    fit = ("inr=2x8", "fit.steps=5", "fit.min_psnr_db=1")
    assert command("encode", *SMOKE, *SHAPES, *fit, "out=a.inr", "run_dir=encoded")[0] == 0
    feed = ("suite=pipelines", "arms=[inr]", "dataset.split=train", "optimizer.batch_size=3", "store=a.inr")
    assert command("benchmark", *SMOKE, *SHAPES, *feed, "run_dir=fed")[0] == 0
    return tmp_path


def metrics_of(folder):
    return json.loads((folder / "record.json").read_text())["metrics"]


def test_bytes_and_times_of_runs_are_multiplied(command, runs):
    code, out, err = command("capacity", "encoded=encoded", "fed=fed", "images=1000", "card_gb=2", "reserve_gb=1", "run_dir=p")
    assert code == 0, err
    assert out.startswith("projection, not a measurement: 1,000 images like the 9 that were encoded at ")
    encoded, fed, found = (metrics_of(runs / name) for name in ("encoded", "fed", "p"))
    assert found["basis"] == "projection"
    assert found["image_raw_bytes"] == pytest.approx(12 * 12 * 3)
    assert found["image_inr_bytes"] == encoded["device_bytes"] / 9
    assert found["raw_fit_images"] == 10**9 // (12 * 12 * 3)
    assert found["inr_fit_images"] == int(1e9 * 9 / encoded["device_bytes"])
    assert found["encode_hours"] == pytest.approx(1000 * encoded["encode_ms_per_image"] / 3.6e6)
    assert found["decode_s"] == pytest.approx(1000 / fed["inr_loader_images_per_s"])


def test_without_a_measured_decode_none_is_projected(command, runs):
    code, out, _ = command("capacity", "encoded=encoded", "run_dir=p")
    assert (code, "decoding" in out) == (0, False)
    assert metrics_of(runs / "p")["images"] == 1_281_167
    assert "decode_s" not in metrics_of(runs / "p")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("encoded=nowhere",), "no run in nowhere; encoded=RUN is the folder of an earlier experiments.encode"),
        (("encoded=fed",), "encoded fed is a finished run of benchmark, expected one of encode with device_bytes"),
        (("encoded=encoded", "fed=encoded"), "fed encoded is a finished run of encode, expected one of benchmark"),
        (("encoded=encoded", "card_gb=3"), "reserve_gb is 4, expected at least 0 and less than card_gb=3"),
        (("encoded=encoded", "images=0"), "images is 0, expected above 0"),
        ((), "encoded=... is required"),
    ],
)
def test_what_cannot_be_projected_is_refused(command, runs, options, message):
    code, _, err = command("capacity", *options, "run_dir=p")
    assert (code, err.startswith(f"error: {message}")) == (2, True), err
