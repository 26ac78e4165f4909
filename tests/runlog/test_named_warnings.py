import pytest

from rapid_inr.runlog import named_warnings


def names(found):
    return [warning.name for warning in found]


@pytest.mark.parametrize(("memory_bytes", "n_alarms"), [(None, 0), (1000, 0), (999, 1), (1, 1)])
def test_a_store_that_takes_more_than_the_memory_does_not_fit(memory_bytes, n_alarms):
    found = named_warnings.store_does_not_fit(store_bytes=1000, n_images=50, memory_bytes=memory_bytes)
    assert names(found) == ["store_does_not_fit"] * n_alarms


def test_it_is_told_how_many_images_would_fit():
    ((_, message),) = named_warnings.store_does_not_fit(store_bytes=4_000_000, n_images=1000, memory_bytes=1_000_000)
    assert message.startswith("1,000 images take 4,000,000 bytes, the GPU has 1,000,000: about 250 images fit")


@pytest.mark.parametrize(("mark_pct", "n_alarms"), [(95.0, 0), (90.0, 0), (88.0, 0), (87.9, 1), (0.0, 1)])
def test_more_than_two_points_under_the_baseline_are_too_many(mark_pct, n_alarms):
    found = named_warnings.accuracy_below_baseline(mark_pct, baseline_pct=90.0)
    assert names(found) == ["accuracy_below_baseline"] * n_alarms


def test_the_points_that_are_lost_are_told():
    ((_, message),) = named_warnings.accuracy_below_baseline(40.26, baseline_pct=45.5, what="mIoU")
    assert message.startswith("mIoU is 40.26%, 5.24 points below the baseline's 45.50%")


def row(backend, reached, *, size="3x16@32", binding="sine", batch=256):
    # of what does not bind, any fraction is reached
    return {"size": size, "batch": batch, "backend": backend, "binding": binding, "of_sine": 0.01, "of_matrix": 0.01} | {
        f"of_{binding}": reached
    }


def test_only_the_backend_in_use_is_held_to_the_bound_that_binds_it():
    rows = [row("torch", 0.05), row("kernel", 0.5, binding="matrix"), row("bmm chain", 0.01), {"backend": "nvjpeg"}]
    assert named_warnings.decode_below_roofline(rows) == []
    assert names(named_warnings.decode_below_roofline([row("torch", 0.5), row("kernel", 0.05)])) == ["decode_below_roofline"]


def test_torch_is_measured_by_its_bound_where_there_is_no_kernel():
    ((_, message),) = named_warnings.decode_below_roofline([row("torch", 0.1999), row("bmm chain", 0.5)])
    assert message == "torch at 3x16@32, batches of 256: 20.0% of the sine bound, expected at least 20%"
    assert named_warnings.decode_below_roofline([row("torch", 0.2)]) == []


def test_every_size_and_batch_is_a_case_of_its_own():
    rows = [row("kernel", 0.1), row("kernel", 0.1, batch=1), row("kernel", 0.1, size="5x13@32"), row("kernel", 0.9, batch=2)]
    assert len(named_warnings.decode_below_roofline(rows)) == 3


@pytest.mark.parametrize(("decode_images_per_s", "n_alarms"), [(2000.0, 0), (1000.0, 0), (999.0, 1)])
def test_a_decode_that_makes_less_than_a_step_takes_is_too_slow(decode_images_per_s, n_alarms):
    found = named_warnings.decode_slower_than_step(decode_images_per_s=decode_images_per_s, step_images_per_s=1000.0)
    assert names(found) == ["decode_slower_than_step"] * n_alarms


def test_images_that_did_not_converge_are_counted_and_the_first_are_named():
    assert named_warnings.fits_not_converged([], n_images=9, min_psnr_db=15) == []
    ((name, message),) = named_warnings.fits_not_converged(["train_00003", "train_00005"], n_images=9, min_psnr_db=15.0)
    assert name == "fits_not_converged"
    assert message.startswith("2 of 9 images are below fit.min_psnr_db=15")
    assert message.endswith(": train_00003, train_00005")
    ((_, many),) = named_warnings.fits_not_converged([f"train_{i:05d}" for i in range(6)], n_images=30, min_psnr_db=15)
    assert many.endswith("train_00003, train_00004, ...")
