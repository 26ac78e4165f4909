"""A store of cosine series: its bytes, what a reader refuses, and that it is any other store to those who decode from it."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kernels.cosine.torch import dense_coefficients
from rapid_inr.store.decode import decode, decode_each
from rapid_inr.store.format import METADATA_KEY, StoreFormatError, read_store, write_store
from rapid_inr.store.packed import bytes_by_part, image_bytes, store_rates
from rapid_inr.store.sealed import seal
from rapid_inr.store.tensor_file import crc32
from tests.store.stores import COSINE_SPEC, small_cosine_store, small_store

ONE_PROFILE = replace(COSINE_SPEC, profiles=1)


@pytest.mark.parametrize(("spec", "learned"), [(COSINE_SPEC, True), (ONE_PROFILE, True), (COSINE_SPEC, False)])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_written_is_read_back(tmp_path, spec, mixed, learned):
    store = small_cosine_store(spec=spec, mixed=mixed, learned=learned)
    write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    assert again.header == store.header
    assert again.tensors().keys() == store.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in store.tensors().items())
    assert len(list(decode_each(again))) == 4


GOLDEN = {
    True: "dfdabac31d72f85ef3b17ffe1866ab4b9c1028152eed145d5b7aab4cbb44a620",
    False: "7031019613e9b43a70f718b8b587817da851d6479447773093ad49af8973208f",
}


@pytest.mark.parametrize("learned", GOLDEN)
def test_the_bytes_of_a_store_are_the_same_everywhere_and_tomorrow(tmp_path, learned):
    write_store(tmp_path / "a.inr", small_cosine_store(3, learned=learned))
    assert hashlib.sha256((tmp_path / "a.inr").read_bytes()).hexdigest() == GOLDEN[learned]


@pytest.mark.parametrize("learned", [True, False])
def test_coefficients_are_words_times_scales_times_the_basis(learned):
    store = small_cosine_store(learned=learned)
    z, packed = dense_coefficients(store.rows, torch.arange(4), COSINE_SPEC), store.packed
    for image in range(4):
        profile, *words = store.rows.codes[image].tolist()
        table, expected = packed["table"][profile].tolist(), torch.zeros(27)
        first = profile * sum(slot >= 0 for slot in table)  # of the rows of `books` that are this profile's
        for row, slot in enumerate(sorted(slot for slot in table if slot >= 0), first):
            value = float(packed["books"][row, words[slot // 3]]) * float(packed["book_scales"][row])
            place = table.index(slot)
            component = packed["basis"][place].float() / 1024 if learned else torch.eye(len(table))[place]
            expected[packed["places"].long()] += torch.tensor(value).half() * component
        torch.testing.assert_close(z[image].flatten(), expected, rtol=0, atol=1e-6)


def test_taking_images_takes_their_bytes_and_all_codebooks():
    store, ids = small_cosine_store(mixed=True), torch.tensor([1, 3])
    taken = store.take(ids)
    assert torch.equal(decode(taken, torch.arange(2), size=(5, 7)), decode(store, ids, size=(5, 7)))
    assert taken.source_ids.tolist() == [1, 3]


def test_codebooks_are_counted_apart(tmp_path):
    store = small_cosine_store(4)
    file_bytes = write_store(tmp_path / "a.inr", store)
    parts = bytes_by_part(store, file_bytes=file_bytes)
    n_words = len(store.packed["books"])
    assert (parts["codes"], parts["codebooks"]) == (4 * 5, n_words * (256 + 2) + 2 * 12 * 2 + 12 * 20 + 20 * 2 + 36 + 12)
    assert sum(parts.values()) == file_bytes
    assert image_bytes(store) == 5
    rates = store_rates(store, store_bytes=file_bytes)
    assert rates["bpp"] - rates["own_bpp"] == pytest.approx(8 * rates["codebook_bytes"] / store.n_pixels)


def words_beyond_half(tensors):
    return {"book_scales": torch.full_like(tensors["book_scales"], 60_000)}


def changed(name, change):
    def tensors_of(tensors):
        tensor = tensors[name].clone()
        change(tensor)
        return {name: tensor}

    return tensors_of


def twice(table):
    """Let the number of an amplitude be that of another one too."""
    of_profile = table[0]
    used = (of_profile >= 0).nonzero().flatten()
    of_profile[used[0]] = of_profile[used[1]]


def without_a_group(table):
    table[1][(table[1] >= 0) & (table[1] < 3)] = -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("codes", lambda t: t[2].fill_(2)), "an image has profile 2, expected 0 to 1"),
        (changed("table", lambda t: t[0, 0].fill_(12)), r"table is in \[-1, 12\], expected within \[-1, 11\]"),
        (changed("table", lambda t: t[0, 0].fill_(-2)), r"table is in \[-2, 11\], expected within"),
        (changed("table", twice), "table is with a component twice, expected each once"),
        (changed("table", without_a_group), "table is of 7 of 8 groups, expected an amplitude of each"),
        (changed("table", lambda t: t[0].masked_fill_(t[0] == 5, -1)), r"books has shape \(\d+, 256\), expected"),
        (changed("places", lambda t: t[-1:].fill_(27)), r"places is in \[\d+, 27\], expected within \[0, 26\]"),
        (
            changed("places", lambda t: t[3:4].fill_(int(t[4]))),
            "places is not ascending, expected each coefficient once, in order",
        ),
        (changed("basis", lambda t: t[3].fill_(-128)), "basis has a value of -128"),
        (lambda t: {"basis": t["basis"].flatten()}, r"basis.shape is \(240,\), expected \[components, coefficients\]"),
        (lambda t: {"basis": t["basis"][1:]}, r"table has shape \(2, 12\), expected \(2, 11\)"),
        (lambda t: {"basis": None}, r"table has shape \(2, 12\), expected \(2, 20\)"),
        (lambda t: {"basis": t["basis"].half()}, "basis is torch.float16, expected torch.int8"),
        (lambda t: {"books": t["books"][:-1]}, "books has shape"),
        (lambda t: {"books": t["books"].half()}, "books is torch.float16, expected torch.int8"),
        (changed("books", lambda t: t[3].fill_(-128)), "books has a value of -128"),
        (changed("book_scales", lambda t: t[3:4].fill_(torch.nan)), "not finite"),
        (changed("book_scales", lambda t: t[3:4].fill_(0)), "book_scales has values that are not positive"),
        (words_beyond_half, "a word of a codebook is beyond the range of float16"),
        (changed("colour", lambda t: t[1, 1:2].fill_(torch.inf)), "not finite"),
        (lambda t: {"colour": t["colour"][:2]}, "colour has shape"),
        (lambda t: {"codes": t["codes"][:, :4]}, r"codes has shape \(4, 4\), expected \(4, 5\)"),
        (lambda t: {"books": None}, r"tensors missing \['books'\]"),
        (lambda t: {"ends": t["colour"].clone()}, r"unknown \['ends'\]"),
    ],
)
def test_each_way_for_the_tensors_to_be_wrong_is_refused(tmp_path, change, message):
    store = small_cosine_store()
    write_raw(tmp_path / "a.inr", store, tensors=change(store.tensors()))
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spec": {"frequencies": 65, "groups": 4, "dimensions": 3, "profiles": 2}}, "frequencies is 65, expected 1 to 64"),
        ({"spec": {"frequencies": 3, "groups": 0, "dimensions": 3, "profiles": 2}}, "groups is 0"),
        ({"spec": {"frequencies": 3, "groups": 4, "dimensions": True, "profiles": 2}}, "spec.dimensions is True, expected int"),
        ({"spec": {"frequencies": 3, "groups": 4, "dimensions": 3}}, "profiles"),
        ({"spec": {"frequencies": 3, "groups": 4, "dimensions": 3, "profiles": 1}}, "table has shape"),
        ({"family": "siren"}, r"tensors missing \['ends'\]"),
    ],
)
def test_each_way_for_a_header_to_be_wrong_is_refused(tmp_path, values, message):
    write_raw(tmp_path / "a.inr", small_cosine_store(), values=values)
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


def test_a_store_of_sirens_is_not_read_as_series(tmp_path):
    write_raw(tmp_path / "a.inr", small_store(), values={"family": "cosine"})
    missing = r"tensors missing \['book_scales', 'books', 'colour', 'colour_mean', 'places', 'table'\]"
    with pytest.raises(StoreFormatError, match=missing):
        read_store(tmp_path / "a.inr")


def test_any_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.inr"
    write_store(path, small_cosine_store(1))
    whole = path.read_bytes()
    for position in [*range(3000), *range(3000, len(whole), 17)]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(StoreFormatError):
            read_store(path)


def write_raw(path, store, *, tensors=None, values=None):
    """Write a store with some tensors or header values changed, and valid checksums."""
    write_store(path, store)
    with safe_open(path, framework="pt") as file:
        raw = json.loads(file.metadata()[METADATA_KEY]) | (values or {})
    changed = {name: tensor for name, tensor in (store.tensors() | (tensors or {})).items() if tensor is not None}
    raw["crc32"] = {name: crc32(tensor.contiguous()) for name, tensor in changed.items()}
    del raw["header_crc32"]
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, path, {METADATA_KEY: seal(raw)})
