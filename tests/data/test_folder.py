import os
import shutil

import pytest
from PIL import Image

from rapid_inr.data.folder import flat, image_folder, mini_imagenet
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import CorruptImage, DatasetMissing
from rapid_inr.errors import UserError


def reds(source):
    return [int(source.read(i)[0, 0, 0]) for i in source.ids]


@pytest.fixture
def root(tmp_path, write_image):
    """Two classes, with things in between that are no images."""
    folder = tmp_path / "mine"
    for red, name in enumerate(
        [
            "train/cat/b.png",
            "train/cat/a.PNG",
            "train/ant/10.bmp",
            "train/ant/9.png",
            "train/ant/1.png",
            "val/cat/x.png",
            "val/ant/y.png",
        ]
    ):
        write_image(folder / name, (red, 0, 0))
    for junk in ("train/ant/.hidden.png", "train/ant/notes.txt", "train/ant/Thumbs.db", "train/README.md", "train/.git/x.png"):
        (folder / junk).parent.mkdir(exist_ok=True)
        (folder / junk).write_bytes(b"junk")
    (folder / "train" / "cat" / "folder.png").mkdir()
    return folder


def test_images_are_sorted_by_class_and_name_and_nothing_else_is_read(root):
    source = image_folder(root, "train")
    assert source.class_names == ("ant", "cat")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert reds(source) == [4, 2, 3, 1, 0]  # 1.png, 10.bmp, 9.png, a.PNG, b.png


def test_images_are_called_after_class_and_file_or_by_number(root, write_image):
    source = image_folder(root, "all")
    assert [source.name_of(i) for i in (1, 3, 5)] == ["train/ant/10.bmp", "train/cat/a.PNG", "test/ant/y.png"]
    for name in (b"\xff.png", b"new\nline.png", b"back\\slash.png", b"9" * 246 + "\u202e.png".encode()):
        (root / "train" / "ant" / "1.png").rename(root / "train" / "ant" / os.fsdecode(name))
        source = image_folder(root, "train")
        number = next(i for i in range(5) if not source.file_name(i))
        assert source.name_of(number) == f"train_{number:05d}"
        (root / "train" / "ant" / os.fsdecode(name)).rename(root / "train" / "ant" / "1.png")


def test_val_is_the_test_split(root):
    source = image_folder(root, "test")
    assert reds(source) == [6, 5]
    assert source.labels.tolist() == [0, 1]
    assert source.splits == (("test", 2),)
    assert source.offset == 5


def test_all_is_train_then_test(root):
    source = image_folder(root, "all")
    assert reds(source) == [4, 2, 3, 1, 0, 6, 5]
    assert source.splits == (("train", 5), ("test", 2))


def test_a_folder_named_test_serves_where_there_is_no_val(root):
    (root / "val").rename(root / "test")
    assert reds(image_folder(root, "test")) == [6, 5]


def test_val_goes_before_test(root):
    (root / "test").mkdir()
    assert reds(image_folder(root, "test")) == [6, 5]


@pytest.mark.parametrize(("split", "absent"), [("train", "val"), ("test", "train")])
def test_the_other_folder_may_be_absent(root, split, absent):
    shutil.rmtree(root / absent)
    assert image_folder(root, split).offset == 0
    with pytest.raises(DatasetMissing, match=absent):
        image_folder(root, "all")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetMissing, match=rf"{tmp_path}/train; put your images there, laid out as train/CLASS/\*"):
        image_folder(tmp_path, "train")
    with pytest.raises(DatasetMissing, match=rf"{tmp_path}/val and {tmp_path}/test; it has no official address"):
        image_folder(tmp_path, "test", download=True)


def test_class_folders_without_splits_need_a_fraction_to_test_with(tmp_path, write_image):
    write_image(tmp_path / "cat" / "1.png")
    for split in ("train", "test", "all"):
        with pytest.raises(DatasetMissing, match=rf"val_fraction=0\.2 tests with a fifth .* class folders of {tmp_path}"):
            image_folder(tmp_path, split)


def names_of(root, split, fraction):
    source = image_folder(root, split, val_fraction=fraction)
    return [source.file_name(i) for i in source.ids]


def test_class_folders_are_split_by_the_names_of_files_and_never_overlap(tmp_path, write_image):
    for i in range(100):
        write_image(tmp_path / "cat" / f"{i}.png")
        write_image(tmp_path / "dog" / f"{i}.png")
    train, test, whole = (names_of(tmp_path, split, 0.2) for split in ("train", "test", "all"))
    assert whole == train + test
    assert len(set(whole)) == 200
    assert 25 <= len(test) <= 55
    assert {name[:4] for name in test} == {"cat/", "dog/"}
    assert set(names_of(tmp_path, "test", 0.1)) < set(test)
    for i in range(100, 130):
        write_image(tmp_path / "cat" / f"{i}.png")
    assert set(train) < set(names_of(tmp_path, "train", 0.2))
    assert set(test) < set(names_of(tmp_path, "test", 0.2))
    assert image_folder(tmp_path, "test", val_fraction=0.2).offset == len(names_of(tmp_path, "train", 0.2))


def test_a_fraction_to_test_with_is_refused_where_it_does_not_fit(tmp_path, root, write_image):
    for fraction in (-0.1, 1.0):
        with pytest.raises(UserError, match=f"dataset.val_fraction is {fraction}, expected at least 0 and below 1"):
            image_folder(tmp_path, "train", val_fraction=fraction)
    with pytest.raises(UserError, match=rf"expected null, since there is a folder {root}/train"):
        image_folder(root, "train", val_fraction=0.2)
    with pytest.raises(DatasetMissing, match="looked for class folders in"):
        image_folder(tmp_path / "none", "train", val_fraction=0.2)
    write_image(tmp_path / "few" / "cat" / "1.png")
    with pytest.raises(UserError, match="class 'cat' has no image to train with"):
        image_folder(tmp_path / "few", "train", val_fraction=0.999999)
    with pytest.raises(UserError, match="split test holds no image"):
        image_folder(tmp_path / "few", "test", val_fraction=0)


def test_val_may_lack_a_class_of_train(root):
    shutil.rmtree(root / "val" / "ant")
    source = image_folder(root, "test")
    assert (source.labels.tolist(), source.class_names) == ([1], ("ant", "cat"))


def test_a_class_that_train_lacks_matters_where_val_is_read(root):
    (root / "val" / "cat").rename(root / "val" / "dog")
    assert len(image_folder(root, "train")) == 5
    for split in ("test", "all"):
        with pytest.raises(UserError, match=r"val: has classes that .*train lacks: dog"):
            image_folder(root, split)


def test_a_class_of_train_without_images_is_named(root):
    (root / "train" / "ant" / "10.bmp").rename(root / "keep.bmp")
    for path in (root / "train" / "cat").glob("*.*"):
        path.rename(root / path.name)
    with pytest.raises(UserError, match="train/cat: class 'cat' has no image"):
        image_folder(root, "train")


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".jfif", ".JPE", ".tga"])
def test_all_pictures_that_pillow_reads_are_read(root, suffix):
    Image.init()
    if Image.registered_extensions().get(suffix.lower()) not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {suffix}")
    Image.new("RGB", (16, 16), "red").save(root / "train" / "cat" / f"c{suffix}")
    assert len(image_folder(root, "train")) == 6
    assert image_folder(root, "train").read(5)[8, 8, 0] > 250


def test_what_is_passed_over_is_counted_and_named(root, write_image):
    write_image(root / "train" / "cat" / "more" / "deep" / "1.png")
    left = image_folder(root, "train").passed_over
    assert [path.name for path in left.in_subfolders] == ["1.png"]
    assert [path.name for path in left.not_images] == ["README.md", "Thumbs.db", "notes.txt"]
    message = left.message(n_images=5, unreadable=["a.png: broken"])
    assert message.startswith("5 of 9 files left out: 1 unreadable (a.png: broken), 1 in sub-folders (")
    assert "3 of another type (the first: " in message
    assert "\n" not in message
    assert not image_folder(root, "test").passed_over.message(n_images=2)
    assert [path.name for path in flat(root / "train" / "cat", "all").passed_over.in_subfolders] == ["1.png"]


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="holds no class folder"):
        image_folder(tmp_path, "train")


def test_a_corrupt_file_is_named_and_can_be_skipped(root):
    (root / "train" / "ant" / "10.bmp").write_bytes(b"BM")
    source = image_folder(root, "train")
    with pytest.raises(CorruptImage, match=r"ant/10\.bmp"):
        list(read_chunks(source, 8))
    (chunk,) = read_chunks(source, 8, on_corrupt="skip")
    assert chunk.ids.tolist() == [0, 2, 3, 4]
    assert chunk.labels.tolist() == [0, 0, 1, 1]
    assert "10.bmp" in chunk.skipped[1]


@pytest.mark.parametrize("reader", [image_folder, mini_imagenet, flat])
def test_a_wrong_split_is_refused(root, reader):
    with pytest.raises(ValueError, match="expected one of train, test, all"):
        reader(root, "val")


def make_mini(folder, **classes):
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{name}_{i:04d}.jpg").touch()
    return folder


def files_of(monkeypatch, source):
    """Names of the files in the order of the ids, told by what is handed to the decoder."""
    seen = []
    monkeypatch.setattr("rapid_inr.data.files.read_image", lambda path, max_pixels: seen.append(path.name))
    for i in source.ids:
        source.read(i)
    return seen


def test_mini_imagenet_is_split_420_to_120_without_overlap(tmp_path, monkeypatch):
    root = make_mini(tmp_path, n02=600, n01=600)
    train, test = mini_imagenet(root, "train"), mini_imagenet(root, "test")
    assert train.labels.tolist() == [0] * 420 + [1] * 420
    assert test.labels.tolist() == [0] * 120 + [1] * 120
    assert train.class_names == ("n01", "n02")
    assert test.offset == 840
    train_files, test_files = files_of(monkeypatch, train), files_of(monkeypatch, test)
    assert len(set(train_files) | set(test_files)) == 2 * 540
    assert train_files == sorted(train_files)
    assert files_of(monkeypatch, mini_imagenet(root, "all")) == train_files + test_files


def test_the_split_of_a_class_depends_on_the_seed_but_not_on_other_classes(tmp_path, monkeypatch):
    one = make_mini(tmp_path / "one", n01=560)
    two = make_mini(tmp_path / "two", a=540, n01=560, z=540)
    alone = files_of(monkeypatch, mini_imagenet(one, "test"))
    assert files_of(monkeypatch, mini_imagenet(two, "test"))[120:240] == alone
    assert files_of(monkeypatch, mini_imagenet(one, "test", seed=1)) != alone
    # it is a random choice: neither the first nor the last 120
    assert 60 < sum(int(name[4:8]) < 280 for name in alone) + 30 < 120


def test_a_class_that_is_too_small_is_named(tmp_path):
    make_mini(tmp_path, n01=540, n02=539)
    with pytest.raises(ValueError, match="n02: class has 539 images, expected at least 540"):
        mini_imagenet(tmp_path, "train")


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_mini_imagenet_is_named(tmp_path, exists):
    root = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(DatasetMissing, match=rf"looked for class folders in {root}"):
        mini_imagenet(root, "train")


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_a_flat_folder_is_whole_in_every_split(tmp_path, write_image, split):
    for red, name in enumerate(["c.png", "a.png", "b.jpg"]):
        write_image(tmp_path / name, (red * 100, 0, 0))
    (tmp_path / "notes.txt").touch()
    source = flat(tmp_path, split)
    assert reds(source) == pytest.approx([100, 200, 0], abs=3)
    assert source.labels is None
    assert source.class_names == ()
    assert (source.name_of(1), source.offset) == (f"{split}/b.jpg", 0)


def test_a_flat_folder_without_images_is_refused(tmp_path, write_image):
    with pytest.raises(ValueError, match=r"holds no image directly in it \(files that end in [^)]*\)$"):
        flat(tmp_path, "all")
    (tmp_path / "cat").mkdir()
    write_image(tmp_path / "cat" / "a.png", (0, 0, 0))
    with pytest.raises(ValueError, match="its subfolders do: dataset=image_folder"):
        flat(tmp_path, "all")
    with pytest.raises(DatasetMissing, match="nowhere"):
        flat(tmp_path / "nowhere", "all")


@pytest.mark.real_data
def test_the_kodak_photographs_are_read(real_data):
    source = flat(real_data("kodak"), "test")
    assert len(source) == 24
    assert {source.read(i).shape for i in source.ids[:6]} == {(512, 768, 3), (768, 512, 3)}


@pytest.mark.real_data
def test_the_houses_are_read(real_data):
    source = image_folder(real_data("houses-256"), "all")
    assert source.splits == (("train", 480), ("test", 120))
    assert min(source.read(0).shape[:2]) == 256
