import numpy as np
import pytest

from rapid_inr.data import cifar
from rapid_inr.data.cifar import cifar10, cifar100
from rapid_inr.data.source import CorruptImage, DatasetMissing

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def pixels(source):
    return np.stack([source.read(i) for i in source.ids])


@pytest.mark.parametrize(("split", "rows"), [("train", slice(0, 10)), ("test", slice(10, 14)), ("all", slice(0, 14))])
def test_pixels_and_labels_are_those_of_the_files_in_order(tiny_cifar10, split, rows):
    root, images = tiny_cifar10
    source = cifar10(root, split)
    np.testing.assert_array_equal(pixels(source), images[rows])
    assert source.labels.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 9, 8, 7, 6][rows]
    assert source.labels.dtype == source.ids.dtype == np.int64
    assert source.class_names == NAMES


def test_ids_count_through_train_then_test(tiny_cifar10):
    source = cifar10(tiny_cifar10[0], "all")
    assert source.splits == (("train", 10), ("test", 4))
    assert source.name_of(9) == "train_00009"
    assert source.name_of(10) == "test_00000"
    assert cifar10(tiny_cifar10[0], "test").offset == 10


def test_an_image_is_a_copy_of_its_own(tiny_cifar10):
    source = cifar10(tiny_cifar10[0], "test")
    first = source.read(0)
    assert first.flags.c_contiguous
    first[:] = 0
    assert source.read(0).any()


def test_the_root_may_be_the_folder_of_the_files_itself(tiny_cifar10):
    root, images = tiny_cifar10
    np.testing.assert_array_equal(pixels(cifar10(root / "cifar-10-batches-bin", "all")), images)


def test_that_folder_may_have_another_name(tiny_cifar10):
    root, images = tiny_cifar10
    renamed = (root / "cifar-10-batches-bin").rename(root / "mine")
    np.testing.assert_array_equal(pixels(cifar10(renamed, "all")), images)


def test_the_test_split_needs_no_training_file(tiny_cifar10):
    root, images = tiny_cifar10
    for i in range(1, 6):
        (root / "cifar-10-batches-bin" / f"data_batch_{i}.bin").unlink()
    source = cifar10(root, "test")
    np.testing.assert_array_equal(pixels(source), images[10:])
    assert source.offset == 50_000  # as in the official set


def test_class_names_come_from_the_file_where_there_is_one(tiny_cifar10):
    names = [f"name {i}" for i in range(10)]
    (tiny_cifar10[0] / "cifar-10-batches-bin" / "batches.meta.txt").write_text("\n".join([*names, "", ""]))
    assert cifar10(tiny_cifar10[0], "test").class_names == tuple(names)


def test_a_wrong_number_of_class_names_is_refused(tiny_cifar10):
    (tiny_cifar10[0] / "cifar-10-batches-bin" / "batches.meta.txt").write_text("airplane\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt: holds 1 class names, expected 10"):
        cifar10(tiny_cifar10[0], "test")


def test_cifar100_reads_the_fine_label(tmp_path, write_cifar):
    folder = tmp_path / "cifar-100-binary"
    train = write_cifar(folder / "train.bin", [99, 30, 31], coarse=[19, 1, 2])
    test = write_cifar(folder / "test.bin", [5], coarse=[4], seed=1)
    (folder / "fine_label_names.txt").write_text("".join(f"fine {i}\n" for i in range(100)))
    source = cifar100(tmp_path, "all")
    assert source.labels.tolist() == [99, 30, 31, 5]
    np.testing.assert_array_equal(pixels(source), np.concatenate([train, test]))
    assert source.class_names[99] == "fine 99"
    assert source.splits == (("train", 3), ("test", 1))


def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path):
    with pytest.raises(DatasetMissing) as error:
        cifar10(tmp_path, "train")
    message = str(error.value)
    assert str(tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin") in message
    assert f"dataset=cifar10 dataset.root={tmp_path} dataset.download=true out=" in message


def test_one_missing_batch_is_named(tiny_cifar10):
    root, _ = tiny_cifar10
    (root / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(DatasetMissing, match=r"data_batch_4\.bin"):
        cifar10(root, "all")


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "fetch", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(DatasetMissing):
        cifar10(tmp_path, "test")


@pytest.mark.parametrize("inside", [False, True])
def test_a_download_lands_where_it_is_looked_for(tmp_path, monkeypatch, write_cifar, inside):
    fetched = []

    def fetch(url, path, md5):
        fetched.append((url, path, md5))
        path.write_bytes(b"archive")
        return path

    def extract(archive, folder):
        write_cifar(folder / "cifar-10-batches-bin" / "test_batch.bin", [3, 4])

    monkeypatch.setattr(cifar, "fetch", fetch)
    monkeypatch.setattr(cifar, "extract", extract)
    root = tmp_path / "cifar-10-batches-bin" if inside else tmp_path
    assert cifar10(root, "test", download=True).labels.tolist() == [3, 4]
    archive = tmp_path / "cifar-10-binary.tar.gz"
    assert fetched == [("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", archive, "c32a1d4ab5d03f1284b67883e8d87530")]
    assert not archive.exists()
    assert cifar10(root, "test", download=True).labels.tolist() == [3, 4]
    assert len(fetched) == 1


@pytest.mark.parametrize("size", [0, 3072, 3073 * 4 - 1, 3073 * 4 + 1])
def test_a_file_of_the_wrong_size_is_named(tiny_cifar10, size):
    path = tiny_cifar10[0] / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes((path.read_bytes() + b"x")[:size])
    with pytest.raises(CorruptImage, match=rf"test_batch\.bin: is {size} bytes long"):
        cifar10(tiny_cifar10[0], "test")


def test_an_impossible_label_is_named(tiny_cifar10, write_cifar):
    write_cifar(tiny_cifar10[0] / "cifar-10-batches-bin" / "data_batch_2.bin", [0, 9, 10])
    with pytest.raises(CorruptImage, match=r"data_batch_2\.bin: record 2 has label 10, expected below 10"):
        cifar10(tiny_cifar10[0], "train")


def test_a_wrong_split_is_refused(tiny_cifar10):
    with pytest.raises(ValueError, match="split is 'val', expected one of train, test, all"):
        cifar10(tiny_cifar10[0], "val")


@pytest.mark.real_data
def test_the_real_cifar10_has_the_known_first_images(real_data):
    source = cifar10(real_data("cifar10"), "all")
    assert source.splits == (("train", 50_000), ("test", 10_000))
    assert [source.class_names[i] for i in source.labels[:3]] == ["frog", "truck", "truck"]
    assert [source.class_names[i] for i in source.labels[50_000:50_003]] == ["cat", "ship", "ship"]
    assert np.bincount(source.labels[:50_000]).tolist() == [5000] * 10
    assert source.read(0)[0, 0].tolist() == [59, 62, 63]
