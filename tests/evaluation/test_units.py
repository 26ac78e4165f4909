import pytest

from rapid_inr.evaluation.units import unit_of


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("psnr_db", "dB"), ("psnr_db_p05", "dB"), ("top1_pct", "%"), ("decoded_top1_pct", "%"), ("loss", "nats"),
        ("inr_loss", "nats"), ("images_per_s", "images/s"), ("loader_images_per_s", "images/s"), ("gb_per_s", "GB/s"),
        ("fit_ms_per_image", "ms an image"), ("epoch_s", "s"), ("bpp", "bits/pixel"), ("store_bytes", "bytes"),
        ("peak_memory_mb", "MB"), ("images", None), ("epochs", None), ("prune_ratio", None), ("prune_ratio_p50", None),
        ("ssim", None), ("steps", None),
    ],
)  # fmt: skip
def test_a_metric_has_its_unit_in_its_name(metric, unit):
    assert unit_of(metric) == unit
