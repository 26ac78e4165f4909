import json

import numpy as np
import pytest

from rapid_inr.data import READERS, CorruptImage, DatasetMissing, load_all, open_source
from rapid_inr.errors import UserError


def pixels(source):
    return np.stack([source.read(i) for i in source.ids])


@pytest.mark.parametrize(
    ("split", "rows"), [("train", [0, 2, 3, 5, 6, 7, 8]), ("test", [10, 11, 13]), ("all", [0, 2, 3, 5, 6, 7, 8, 10, 11, 13])]
)
@pytest.mark.parametrize("how", ["ids", "list", "record"])
def test_excluded_ids_count_through_train_then_test(tiny_cifar10, tmp_path, split, rows, how):
    root, images = tiny_cifar10
    ids = [1, 4, 9, 12]
    path = tmp_path / "exclude.json"
    path.write_text(json.dumps({"note": "why", "index": ids} if how == "record" else ids))
    source = open_source("cifar10", root=root, split=split, exclude=ids if how == "ids" else str(path))
    np.testing.assert_array_equal(pixels(source), images[rows])
    assert source.ids.tolist() == [row - (10 if split == "test" else 0) for row in rows]


@pytest.mark.parametrize(("split", "kept"), [("train", [0, 1, 2, 3, 4, 5, 6, 7, 9]), ("test", [0, 1, 3])])
def test_images_are_excluded_by_the_names_that_are_printed(tiny_cifar10, split, kept):
    source = open_source("cifar10", root=tiny_cifar10[0], split=split, exclude=["train_00008", "test_00002"])
    assert source.ids.tolist() == kept
    whole = open_source("cifar10", root=tiny_cifar10[0], split="all", exclude=["train_00008", "test_00002"])
    assert whole.ids.tolist() == [*range(8), 9, 10, 11, 13]
    assert whole.name_of(11) == "test_00001"


@pytest.mark.parametrize(("split", "kept"), [("train", ["a", "c"]), ("test", ["b", "c"]), ("all", ["a", "c", "b", "c"])])
@pytest.mark.parametrize("by_number", [False, True])
def test_images_are_excluded_by_the_files_that_are_printed(tmp_path, write_image, split, kept, by_number):
    for name in "abc":
        write_image(tmp_path / "train" / "cat" / f"{name}.png")
        write_image(tmp_path / "val" / "cat" / f"{name}.png")
    names = ["train_00001", "test/cat/a.png"] if by_number else ["train/cat/b.png", "test/cat/a.png"]
    source = open_source("image_folder", root=tmp_path, split=split, exclude=names)
    assert [source.name_of(i)[-5] for i in source.ids] == kept


@pytest.mark.parametrize("name", ["train/cat/z.png", "val/cat/a.png", "cat/a.png", "train/a.png"])
@pytest.mark.parametrize("split", ["train", "all"])
def test_a_file_to_exclude_that_is_not_there_is_named(tmp_path, write_image, name, split):
    write_image(tmp_path / "train" / "cat" / "a.png")
    write_image(tmp_path / "val" / "cat" / "a.png")
    with pytest.raises(UserError, match=f"'{name}' is no image of image_folder, expected a name such as train/cat/a.png"):
        open_source("image_folder", root=tmp_path, split=split, exclude=[name])


def test_limits_count_what_the_exclusion_leaves(tiny_cifar10):
    options = {"root": tiny_cifar10[0], "exclude": [10, 12], "limit": 3, "test_limit": 2}
    assert open_source("cifar10", split="test", **options).ids.tolist() == [1, 3]
    assert len(open_source("cifar10", split="train", **options)) == 3
    assert len(open_source("cifar10", split="all", **options)) == 5


@pytest.mark.parametrize("name", ["limit", "test_limit", "max_pixels"])
def test_a_number_below_one_is_refused(tmp_path, write_image, name):
    write_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"dataset.{name} is 0, expected at least 1"):
        open_source("flat", root=tmp_path, **{name: 0})


def test_an_image_of_too_many_pixels_is_named_before_it_is_decoded(tmp_path, write_image):
    write_image(tmp_path / "a.png", size=(20, 10))
    with pytest.raises(CorruptImage, match=r"a\.png: .*20x10 pixels, expected at most 199; dataset\.max_pixels"):
        open_source("flat", root=tmp_path, max_pixels=199).read(0)
    assert open_source("flat", root=tmp_path, max_pixels=200).read(0).shape == (10, 20, 3)


def test_images_are_resized_when_asked(tiny_cifar10):
    root, images = tiny_cifar10
    source = open_source("cifar10", root=root, size=16, limit=3)
    assert load_all(source).images.shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(open_source("cifar10", root=root, size=32).read(0), images[0])


def test_the_way_of_resizing_is_passed_on(tmp_path, write_image):
    write_image(tmp_path / "a.png", (9, 9, 9), (20, 10))
    with pytest.raises(ValueError, match="resize is 'squash', expected one of stretch, crop"):
        open_source("flat", root=tmp_path, size=5, resize="squash")


def test_shapes_are_made_in_the_size_asked_for():
    made = open_source("shapes", size=48, count=3)
    np.testing.assert_array_equal(made.read(0), open_source("shapes", size=(48, 48)).read(0))
    assert open_source("shapes", size=(16, 24)).read(0).shape == (16, 24, 3)
    assert open_source("shapes").read(0).shape == (32, 32, 3)


def test_options_reach_the_reader():
    source = open_source("shapes", split="all", count=6, test_count=3, classes=3, seed=5)
    assert source.splits == (("train", 6), ("test", 3))
    assert source.class_names == ("disc", "square", "triangle")
    assert (source.read(0) != open_source("shapes", split="all", count=6, test_count=3, classes=3).read(0)).any()


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="dataset is 'cifar', expected one of shapes, cifar10, cifar100, flowers102"):
        open_source("cifar")


def test_an_unknown_option_lists_the_options():
    with pytest.raises(
        ValueError, match="shapes has no option 'clases', expected one of: count, test_count, classes, size, seed"
    ):
        open_source("shapes", clases=3)
    with pytest.raises(ValueError, match="flat has no option 'seed', expected one of: none"):
        open_source("flat", seed=3)


@pytest.mark.parametrize("name", READERS)
def test_an_unknown_split_lists_the_splits(name):
    with pytest.raises(ValueError, match="split is 'validation', expected one of train, test, all"):
        open_source(name, split="validation")


@pytest.mark.parametrize("name", [name for name in READERS if name != "shapes"])
def test_data_is_looked_for_in_a_folder_of_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetMissing, match=f"looked for .*data/{name}"):
        open_source(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1, 2", '{"ids": [1]}', "7", "[1, -2]", "[1, true]", "[1, 2.0]", '["1"]'])
def test_a_wrong_exclusion_file_is_named(tiny_cifar10, tmp_path, content):
    path = tmp_path / "exclude.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"exclude\.json"):
        open_source("cifar10", root=tiny_cifar10[0], exclude=path)


def test_a_missing_exclusion_file_is_named(tiny_cifar10, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json"):
        open_source("cifar10", root=tiny_cifar10[0], exclude=tmp_path / "gone.json")


def test_an_excluded_id_beyond_the_dataset_is_refused_where_that_is_known(tiny_cifar10):
    with pytest.raises(ValueError, match="excluded id is 14"):
        open_source("cifar10", root=tiny_cifar10[0], split="all", exclude=[14])
