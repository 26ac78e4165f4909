"""The names of the images' files in a store: kept, compact, and refused where they are no plain names."""

import zlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rapid_inr.store import names as module
from rapid_inr.store.format import METADATA_KEY, StoreFormatError, read_store, write_store
from rapid_inr.store.names import pack_names, unpack_names
from rapid_inr.store.packed import bytes_by_part
from rapid_inr.store.sealed import seal
from tests.store.stores import header_in, small_cosine_store, small_store

NAMES = ("cat/haus 1.jpg", "cat/Übung.png", "", "dog/大.webp")
SPLITS = (("train", 4), ("test", 3))


@pytest.mark.parametrize("make", [small_store, small_cosine_store])
def test_names_are_read_back_and_counted(tmp_path, make):
    store = replace(make(4), names=NAMES)
    file_bytes = write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    assert again.names == NAMES
    assert again.take(torch.tensor([1, 3])).names == NAMES[1::2]
    parts = bytes_by_part(again, file_bytes=file_bytes)
    assert parts["names"] == pack_names(NAMES).nbytes
    assert sum(parts.values()) == file_bytes
    assert again.nbytes == make(4).nbytes  # names never go to the device


def test_an_image_is_called_after_its_file_or_by_its_number():
    store = replace(small_store(4), source_ids=torch.tensor([0, 3, 4, 6], dtype=torch.int32), names=NAMES)
    assert [store.name_of(i) for i in range(4)] == [
        "train/cat/haus 1.jpg",
        "train/cat/Übung.png",
        "test_00000",
        "test/dog/大.webp",
    ]
    assert store.of_split("test").name_of(1) == "test/dog/大.webp"


def test_names_that_were_written_once_are_always_read():
    golden = bytes.fromhex("78da4b4e2cd1cf482c2d5630d4cb2a48e74a06720fcf492acd4bd72bc84be7e24ac94fd77fba64b95e796a520100574c1051")
    assert unpack_names(torch.frombuffer(bytearray(golden), dtype=torch.uint8), range(4), SPLITS) == NAMES


def test_names_take_few_bytes_an_image():
    names = [f"class_{i // 100:02d}/house_{i % 100:05d}.jpg" for i in range(2000)]
    assert pack_names(names).nbytes < 3 * len(names)


def with_stream(path, data):
    """Write a store whose names are some bytes, with valid checksums."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rapid_inr.store.format.pack_names", lambda names: torch.tensor(list(data), dtype=torch.uint8))
        write_store(path, replace(small_store(4), names=NAMES))


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x.jpg", "cat/../x.jpg", ".", "cat//x.jpg", "cat/", "a\0.jpg", "\x1b[2J.jpg", "a\r.jpg", "a\\b.jpg",
     "\u202egpj.exe", "a\u2028.jpg", "a" * 256, "大" * 86, "/".join("a" * 250 for _ in range(5))],
)  # fmt: skip
def test_a_hostile_name_is_refused(tmp_path, name):
    with_stream(tmp_path / "a.inr", zlib.compress("\n".join([name, "b.jpg", "", ""]).encode()))
    with pytest.raises(StoreFormatError, match=r"a file is called .*, which is not a plain name") as raised:
        read_store(tmp_path / "a.inr")
    assert str(raised.value).startswith(str(tmp_path / "a.inr"))
    assert len(str(raised.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "names are those of 1 images or more, expected 4"),
        (b"names", "cannot be decompressed"),
        (zlib.compress(b"a\nb\nc"), "names are those of 3 images or more, expected 4"),
        (zlib.compress(b"a\nb\nc\nd\ne"), "names are those of 5 images"),
        (zlib.compress(b"a\nb\nc\nd")[:-1], "names are those of 4 images or more"),
        (zlib.compress(b"a\nb\nc\nd") + b"more", "names are those of 4 images or more"),
        (zlib.compress(b"a\n\xff\nc\nd"), "cannot be decompressed"),
        (zlib.compress(b"a\nb\nc\na"), "two images of a split have the same file name"),
    ],
)
def test_names_that_are_damaged_or_not_one_an_image_are_refused(tmp_path, data, message):
    with_stream(tmp_path / "a.inr", data)
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize("names", [torch.zeros(4, dtype=torch.bfloat16), torch.zeros(2, 2, dtype=torch.uint8)])
def test_names_that_are_no_bytes_are_refused(tmp_path, names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rapid_inr.store.format.pack_names", lambda _: names)
        write_store(tmp_path / "a.inr", replace(small_store(4), names=NAMES))
    with pytest.raises(StoreFormatError, match=r"names is torch\.\w+ of [12] dimensions, expected bytes"):
        read_store(tmp_path / "a.inr")


def test_a_small_file_cannot_ask_for_much_memory(tmp_path, monkeypatch):
    sizes, whole = [], zlib.decompressobj
    with_stream(tmp_path / "a.inr", zlib.compress(b"a" * 100_000_000))

    class Watched:
        def __init__(self):
            self.stream = whole()
            self.unused_data = b""

        def decompress(self, data, most):
            text = self.stream.decompress(data, most)
            sizes.append(len(text))
            return text

        eof = False

    monkeypatch.setattr(module.zlib, "decompressobj", Watched)
    with pytest.raises(StoreFormatError):
        read_store(tmp_path / "a.inr")
    assert sizes == [4 * 1024]


def test_two_splits_may_have_files_of_the_same_name():
    packed = pack_names(["cat/1.jpg", "cat/2.jpg", "cat/1.jpg"])
    assert unpack_names(packed, [0, 3, 4], SPLITS)[0] == "cat/1.jpg"


def test_a_flipped_byte_of_the_names_is_noticed(tmp_path):
    write_store(tmp_path / "a.inr", replace(small_store(4), names=NAMES))
    tensors = load_file(tmp_path / "a.inr")
    tensors["names"][5] ^= 1
    save_file(tensors, tmp_path / "a.inr", {METADATA_KEY: seal(header_in(tmp_path / "a.inr"))})
    with pytest.raises(StoreFormatError, match="the checksum of names does not match"):
        read_store(tmp_path / "a.inr")
