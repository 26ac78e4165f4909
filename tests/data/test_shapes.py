import numpy as np
import pytest

from rapid_inr.data.outlines import OUTLINES
from rapid_inr.data.reading import load_all
from rapid_inr.data.shapes import MAX_CLASSES, shapes


def pixels(source, n=12):
    return np.stack([source.read(i) for i in source.ids[:n]])


def test_an_image_does_not_depend_on_how_many_there_are():
    few, many = shapes("train", count=12), shapes("train", count=5000, test_count=1)
    np.testing.assert_array_equal(pixels(few), pixels(many))
    np.testing.assert_array_equal(few.labels, many.labels[:12])


def test_an_image_is_the_same_every_time_and_in_every_order():
    source = shapes("train", count=12)
    forward = pixels(source)
    backward = np.stack([source.read(i) for i in reversed(range(12))])[::-1]
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal(load_all(source).images.numpy(), forward)


def test_images_splits_and_seeds_differ():
    sources = [shapes("train", count=12), shapes("test", test_count=12), shapes("train", count=12, seed=1)]
    images = np.concatenate([pixels(source) for source in sources])
    assert len({image.tobytes() for image in images}) == 36


def test_all_is_train_then_test():
    both = shapes("all", count=5, test_count=4)
    parts = [pixels(shapes("train", count=5)), pixels(shapes("test", test_count=4))]
    np.testing.assert_array_equal(pixels(both), np.concatenate(parts))
    np.testing.assert_array_equal(both.read_mask(6), shapes("test", test_count=4).read_mask(1))
    assert both.splits == (("train", 5), ("test", 4))
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert shapes("test", count=5, test_count=4).offset == 5


@pytest.mark.parametrize("size", [8, 32, 33, (24, 57), [57, 24]])
def test_any_size_can_be_made(size):
    source = shapes("train", count=2, size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert source.read(0).shape == (height, width, 3)
    assert source.read(0).dtype == np.uint8
    assert source.read(0).flags.c_contiguous
    assert source.read_mask(0).shape == (height, width)


@pytest.mark.parametrize("classes", [2, 10, 11, MAX_CLASSES])
def test_any_number_of_classes_is_balanced_and_named(classes):
    source = shapes("train", count=3 * classes, classes=classes)
    assert np.bincount(source.labels).tolist() == [3] * classes
    assert len(set(source.class_names)) == classes


def test_the_mask_holds_the_class_and_mostly_sits_where_the_shape_is():
    source = shapes("train", count=60, size=48)
    for i in source.ids:
        mask = source.read_mask(i)
        assert mask.dtype == np.uint8
        assert np.unique(mask).tolist() == [0, source.labels[i] + 1]
        assert 0.02 < (mask > 0).mean() < 0.8


def test_the_mask_leaves_out_what_lies_in_front(monkeypatch):
    monkeypatch.setattr("rapid_inr.data.shapes._bar_cover", lambda rng, rows, columns: np.ones((32, 32), dtype=np.float32))
    source = shapes("train", count=60)
    hidden = [not source.read_mask(i).any() for i in source.ids]
    assert 15 < sum(hidden) < 45  # half of the images have something in front


def test_the_mask_separates_colours_better_than_a_shifted_one():
    source = shapes("train", count=100)
    hits = 0
    for i in source.ids:
        image, mask = source.read(i).astype(float), source.read_mask(i) > 0
        shifted = np.roll(mask, (16, 16), axis=(0, 1))
        contrast = [np.abs(image[m].mean(axis=0) - image[~m].mean(axis=0)).max() for m in (mask, shifted)]
        hits += contrast[0] > contrast[1]
    assert hits >= 90  # 96 measured


def test_images_are_textured_and_use_the_range_of_values():
    images = load_all(shapes("train", count=100)).images.numpy().astype(float)
    assert images.std(axis=(1, 2)).mean(axis=-1).min() > 5
    assert images.min() < 10
    assert images.max() > 245
    # neighbours differ far less than strangers do: 0.19 measured, where 1,000 images of CIFAR-10 have 0.22
    step = np.abs(np.diff(images, axis=2)).mean()
    assert 0.12 < step / images.std() < 0.3


def test_classes_have_different_outlines():
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j].astype(np.float32)
    inside = np.stack([outline(columns, rows) < 0 for outline in OUTLINES.values()])
    for i in range(len(inside)):
        for j in range(i):
            assert (inside[i] != inside[j]).mean() > 0.05


def test_outlines_measure_distance():
    # a slope of about 1 across the outline is what makes the anti-aliased edge one pixel wide
    rows, columns = np.mgrid[-1.2:1.2:400j, -1.2:1.2:400j].astype(np.float32)
    for name, outline in OUTLINES.items():
        distance = outline(columns, rows)
        slope = np.hypot(*np.gradient(distance, 2.4 / 399))
        near = np.abs(distance) < 0.01
        assert near.any()
        assert np.mean(np.abs(slope[near] - 1) < 0.1) > 0.9, name


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("count", 0),
        ("test_count", 0),
        ("classes", 1),
        ("classes", 21),
        ("size", 7),
        ("size", (8, 8, 8)),
        ("size", ()),
        ("seed", -1),
    ],
)
def test_a_wrong_argument_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument} is"):
        shapes("train", **{argument: value})


def test_a_wrong_split_is_refused():
    with pytest.raises(ValueError, match="expected one of train, test, all"):
        shapes("val")
