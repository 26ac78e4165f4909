import numpy as np
import pytest
from scipy.io import savemat

from rapid_inr.data import flowers
from rapid_inr.data.flowers import flowers102
from rapid_inr.data.source import CorruptImage, DatasetMissing

LABELS = [102, 1, 2, 3, 4, 5, 6, 7]


@pytest.fixture
def root(tmp_path, write_image):
    """The official layout with 8 images: 3 to train (5, 1, 2), 2 to validate (4, 3), 3 to test (8, 6, 7)."""
    for number in range(1, 9):
        write_image(tmp_path / "jpg" / f"image_{number:05d}.jpg", (number * 20,) * 3, (8 + number, 8))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([LABELS], dtype=np.uint8)})
    save_splits(tmp_path)
    return tmp_path


def save_splits(folder, **changed):
    splits = {"trnid": [[5, 1, 2]], "valid": [[4, 3]], "tstid": [[8, 6, 7]], **changed}
    savemat(folder / "setid.mat", {key: np.array(value, dtype=np.uint16) for key, value in splits.items()})


def numbers(source):
    """Image numbers as the official files count them: they were written as the width."""
    return [source.read(i).shape[1] - 8 for i in source.ids]


@pytest.mark.parametrize(
    ("split", "test_split", "expected"),
    [
        ("train", "paper", [1, 2, 5]),
        ("test", "paper", [3, 4]),
        ("all", "paper", [1, 2, 5, 3, 4]),
        ("train", "official", [1, 2, 5]),
        ("test", "official", [6, 7, 8]),
        ("all", "official", [1, 2, 5, 6, 7, 8]),
        ("train", "swapped", [6, 7, 8]),
        ("test", "swapped", [1, 2, 3, 4, 5]),
    ],
)
def test_each_split_holds_its_images_with_their_labels(root, split, test_split, expected):
    source = flowers102(root, split, test_split=test_split)
    assert numbers(source) == expected
    assert source.labels.tolist() == [LABELS[number - 1] - 1 for number in expected]
    assert source.offset == (3 if split == "test" else 0)
    counts = {"train": 3, "test": {"paper": 2, "official": 3, "swapped": 5}[test_split]}
    assert source.splits == tuple((key, n) for key, n in counts.items() if split in (key, "all"))


def test_there_are_102_classes(root):
    names = flowers102(root, "train").class_names
    assert (len(names), names[0], names[101]) == (102, "flower_001", "flower_102")


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat", "jpg/image_00004.jpg"])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(root, name):
    (root / name).unlink()
    with pytest.raises(DatasetMissing) as error:
        flowers102(root, "test")
    assert f"looked for {root / name};" in str(error.value)
    assert f"dataset=flowers102 dataset.root={root} dataset.download=true" in str(error.value)


def test_an_image_of_the_other_split_may_be_missing(root):
    (root / "jpg" / "image_00004.jpg").unlink()
    assert numbers(flowers102(root, "train")) == [1, 2, 5]


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(DatasetMissing, match=r"imagelabels\.mat"):
        flowers102(tmp_path / "nowhere", "all")


@pytest.mark.parametrize("content", [b"", b"not matlab", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_broken_matlab_file_is_named(root, content):
    (root / "setid.mat").write_bytes(content)
    with pytest.raises(CorruptImage, match=r"setid\.mat"):
        flowers102(root, "train")


@pytest.mark.parametrize("numbers", [[[0, 1]], [[1, 9]]])
def test_an_image_number_without_a_label_is_refused(root, numbers):
    save_splits(root, valid=numbers)
    with pytest.raises(CorruptImage, match=r"setid\.mat: an image number in valid is outside 1\.\.8"):
        flowers102(root, "test")


@pytest.mark.parametrize("label", [0, 103])
def test_an_impossible_label_is_refused(root, label):
    savemat(root / "imagelabels.mat", {"labels": np.array([[*LABELS[:-1], label]], dtype=np.uint8)})
    with pytest.raises(CorruptImage, match=r"imagelabels\.mat: a label is outside 1\.\.102"):
        flowers102(root, "train")


def test_a_matlab_file_without_its_variable_is_refused(root):
    savemat(root / "imagelabels.mat", {"label": np.array([LABELS])})
    with pytest.raises(CorruptImage, match=r"imagelabels\.mat: has no variable labels"):
        flowers102(root, "train")


@pytest.mark.parametrize(("argument", "choices"), [("split", "train, test, all"), ("test_split", "paper, official, swapped")])
def test_a_wrong_split_is_refused(root, argument, choices):
    with pytest.raises(ValueError, match=f"{argument} is 'val', expected one of {choices}"):
        flowers102(root, **{"split": "train", argument: "val"})


def test_a_download_fetches_only_what_is_missing(root, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(flowers, "fetch", lambda url, path, md5: fetched.append((url, md5)) or save_splits(root))
    (root / "setid.mat").unlink()
    assert numbers(flowers102(root, "train", download=True)) == [1, 2, 5]
    assert fetched == [("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c")]


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(flowers, "fetch", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(DatasetMissing):
        flowers102(tmp_path, "train")


@pytest.mark.real_data
def test_the_real_flowers_have_ten_images_of_each_class(real_data):
    source = flowers102(real_data("flowers102"), "all")
    assert source.splits == (("train", 1020), ("test", 1020))
    assert np.bincount(source.labels[:1020]).tolist() == np.bincount(source.labels[1020:]).tolist() == [10] * 102
    assert len(flowers102(real_data("flowers102"), "test", test_split="official")) == 6149
