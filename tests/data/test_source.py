import os

import numpy as np
import pytest
from PIL import Image

from rapid_inr.data.source import exclude, limit, of_splits, resize


def gradient(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, 0 * rows], axis=-1).astype(np.uint8)


def source_of(images, *, counts=None, masks=None):
    return of_splits(
        "test source",
        "all",
        counts or {"train": len(images)},
        labels=np.arange(len(images)) % 3,
        class_names=("a", "b", "c"),
        read=lambda image_id: images[image_id],
        read_mask=None if masks is None else lambda image_id: masks[image_id],
    )


@pytest.fixture
def ten():
    return source_of([np.full((2, 2, 3), i, dtype=np.uint8) for i in range(10)], counts={"train": 6, "test": 4})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"test source: labels are in \[0, 3\], but there are names for 3 classes"),
        ([-1, 0], r"labels are in \[-1, 0\]"),
        ([0], "there are 1 labels, expected 2, one an image"),
    ],
)
def test_labels_without_a_class_or_an_image_are_refused_before_any_work(labels, message):
    with pytest.raises(ValueError, match=message):
        of_splits("test source", "train", {"train": 2}, labels=labels, class_names="abc", read=lambda i: None)


def test_an_image_is_named_after_its_split_and_its_place_there(ten):
    assert [ten.name_of(i) for i in (0, 5, 6, 9)] == ["train_00000", "train_00005", "test_00000", "test_00003"]


@pytest.mark.parametrize("image_id", [-1, 10])
def test_an_id_outside_the_source_has_no_name(ten, image_id):
    with pytest.raises(ValueError, match=rf"image id is {image_id}, expected in 0\.\.9"):
        ten.name_of(image_id)


def test_excluding_then_limiting_keeps_ids_names_labels_and_pixels_together(ten):
    kept = limit(exclude(ten, [7, 0, 2]), 3, n_test=2)
    assert len(kept) == 5
    assert kept.labels.tolist() == (kept.ids % 3).tolist()
    assert [int(kept.read(i)[0, 0, 0]) for i in kept.ids] == kept.ids.tolist()
    assert kept.ids.tolist() == sorted(kept.ids.tolist())
    assert not {0, 2, 7} & set(kept.ids.tolist())
    assert [kept.name_of(i)[:5] for i in kept.ids] == ["train"] * 3 + ["test_"] * 2
    assert kept.splits == ten.splits


@pytest.mark.parametrize("n", [1, 7, 30, 32, 60])
def test_a_limit_takes_as_many_of_every_class_as_it_can(n):
    labels = np.repeat([0, 1, 2], [30, 10, 40])  # in the order of their classes, as folders are
    source = of_splits("test source", "train", {"train": 80}, labels=labels, class_names="abc", read=lambda i: None)
    counts = np.bincount(limit(source, n).labels, minlength=3)
    assert counts.sum() == n
    short = counts == [30, 10, 40]  # all there are
    assert np.ptp(counts[~short]) <= 1
    assert counts.max() - counts.min() <= 1 or short.any()


def test_a_smaller_limit_keeps_a_part_of_what_a_larger_keeps(ten):
    assert set(limit(ten, 2).ids.tolist()) < set(limit(ten, 4).ids.tolist())


def test_the_limits_of_train_and_test_are_apart(ten):
    assert sum(limit(ten, 2).ids < 6) == 2
    assert sum(limit(ten, 2).ids >= 6) == 4
    assert sum(limit(ten, None, n_test=1).ids >= 6) == 1


def test_a_limit_above_the_number_of_images_keeps_all(ten):
    assert limit(ten, 11) is ten


def test_images_without_labels_are_limited_evenly_along_the_folder():
    source = of_splits("test source", "train", {"train": 1000}, labels=None, read=lambda i: None)
    assert 400 < limit(source, 100).ids.mean() < 600


def test_a_digest_tells_apart_what_a_store_would_hold(tmp_path):
    def of_files():
        paths = [tmp_path / f"{i}.png" for i in range(3)]
        return of_splits(
            "test source", "train", {"train": 3}, labels=None,
            read=lambda i: np.zeros((2, 2, 3), np.uint8), file_of=paths.__getitem__,
        )  # fmt: skip

    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"picture")
    before = of_files().digest()
    assert of_files().digest() == before
    assert exclude(of_files(), [1]).digest() != before
    (tmp_path / "2.png").write_bytes(b"another")  # of the same size
    os.utime(tmp_path / "2.png", ns=(0, 1))
    assert of_files().digest() != before


def test_a_limit_of_zero_is_refused(ten):
    with pytest.raises(ValueError, match="limit is 0"):
        limit(ten, 0)


def test_excluding_twice_the_same_image_is_allowed(ten):
    assert exclude(exclude(ten, [3]), [3, 3]).ids.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("image_id", [-1, 10])
def test_excluding_an_unknown_id_is_refused(ten, image_id):
    with pytest.raises(ValueError, match=f"excluded id is {image_id}"):
        exclude(ten, [image_id])


def test_excluding_everything_is_refused(ten):
    with pytest.raises(ValueError, match="all 10 images are excluded"):
        exclude(ten, range(10))


def test_a_source_without_images_is_refused():
    with pytest.raises(ValueError, match="holds no image"):
        source_of([])


def test_stretching_keeps_the_whole_image():
    image = gradient(40, 80)
    small = resize(source_of([image]), 8).read(0)
    assert small.shape == (8, 8, 3)
    assert small.dtype == np.uint8
    # a filter that averages symmetrically gives a ramp the means of its cells, but for the border, where it is cut off
    means = image.reshape(8, 5, 8, 10, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small[2:6, 2:6], means[2:6, 2:6], atol=1.5)


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40)])
def test_cropping_takes_the_centre_square(height, width):
    image = gradient(height, width)
    top, left = (height - 40) // 2, (width - 40) // 2
    cropped = resize(source_of([image]), 40, "crop").read(0)
    np.testing.assert_array_equal(cropped, image[top : top + 40, left : left + 40])


def test_shrinking_is_antialiased():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=-1).astype(np.uint8)
    small = resize(source_of([image]), 16).read(0)
    assert np.abs(small.astype(int) - 127.5).max() < 16


def test_masks_are_resized_like_their_images_and_keep_their_classes():
    mask = np.zeros((20, 40), dtype=np.uint8)
    mask[:, 10:20] = 7
    source = source_of([gradient(20, 40)], masks=[mask])
    np.testing.assert_array_equal(resize(source, 10, "crop").read_mask(0), np.repeat([[7] * 5 + [0] * 5], 10, axis=0))
    np.testing.assert_array_equal(np.unique(resize(source, 7).read_mask(0)), [0, 7])


def test_an_image_of_the_right_size_is_untouched():
    image = gradient(16, 16)
    np.testing.assert_array_equal(resize(source_of([image]), 16).read(0), image)


def test_a_source_without_masks_has_none_after_resizing(ten):
    assert resize(ten, 4).read_mask is None


def test_resizing_uses_the_lanczos_filter():
    image = gradient(30, 50)
    expected = Image.fromarray(image).resize((12, 12), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(resize(source_of([image]), 12).read(0), np.asarray(expected))


@pytest.mark.parametrize(("size", "how"), [(0, "crop"), (4, "squash"), (2.5, "crop")])
def test_a_wrong_size_or_way_of_resizing_is_refused(ten, size, how):
    with pytest.raises(ValueError, match="expected"):
        resize(ten, size, how)
