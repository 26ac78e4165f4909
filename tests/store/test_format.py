import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store import tensor_file
from rapid_inr.store.format import METADATA_KEY, StoreFormatError, read_store, write_store
from tests.store.stores import small_store, with_tensors


@pytest.mark.parametrize(
    "config",
    [
        QuantizeConfig(),
        QuantizeConfig(5, 32, "tensor"),
        QuantizeConfig(3, 8, "dataset"),
        QuantizeConfig(16, 16),
        QuantizeConfig(32, 32),
        QuantizeConfig(32, 8),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_written_is_read_back(tmp_path, config, mixed):
    store = small_store(4, config=config, mixed=mixed)
    write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    assert again.header == store.header
    assert again.tensors().keys() == store.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in store.tensors().items())


def test_the_bytes_of_a_store_are_the_same_everywhere_and_tomorrow(tmp_path):
    write_store(tmp_path / "a.inr", small_store(3))
    digest = hashlib.sha256((tmp_path / "a.inr").read_bytes()).hexdigest()
    assert digest == "9d5848f4b0a313becae478a873d85bbee4402d9ac6f1739ee5d0344d3ac1b969"


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "a.inr"
    write_store(path, small_store(3))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=true"):
        write_store(path, small_store(4))
    assert path.read_bytes() == before
    write_store(path, small_store(4), overwrite=True)
    assert len(read_store(path)) == 4


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.inr"
    write_store(path, small_store(3))
    before = path.read_bytes()

    def full_disk(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(tensor_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_store(path, small_store(4), overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.inr"]


def test_any_safetensors_reader_opens_a_store(tmp_path):
    store = small_store(3)
    write_store(tmp_path / "a.inr", store)
    assert torch.equal(load_file(tmp_path / "a.inr")["codes"], store.codes)


def test_a_missing_file_is_named_with_what_writes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"experiments\.encode"):
        read_store(tmp_path / "none.inr")


@pytest.mark.parametrize("keep", [0, 4, 50, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "a.inr"
    write_store(path, small_store(3))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreFormatError, match="not a whole safetensors file"):
        read_store(path)


def test_any_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.inr"
    write_store(path, small_store(1))
    whole = path.read_bytes()
    header_end = 8 + int.from_bytes(whole[:8], "little")
    for position in range(header_end, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(StoreFormatError, match="damaged"):
            read_store(path)


def edited(path, change):
    """Write a small store whose header went through `change` and whose tensors are as the header says."""
    write_store(path, small_store(3), overwrite=True)
    raw = json.loads(store_format_metadata(path))
    change(raw)
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(raw)})


def store_format_metadata(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()[METADATA_KEY]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(version=1), "format version 1"),
        (lambda raw: raw.update(family="cosine"), "family 'cosine'"),
        (lambda raw: raw.update(images=4), "counts 4 images"),
        (lambda raw: raw.pop("spec"), "contradicts itself"),
        (lambda raw: raw["spec"].update(hidden=6), "ends has shape"),
        (lambda raw: raw["quantize"].update(bits=5), "codes has shape"),
        (lambda raw: raw["quantize"].update(granularity="row"), "granularity is 'row'"),
        (lambda raw: raw["spec"].update(depth=0), "depth is 0"),
        (lambda raw: raw["spec"].update(width=6), "contradicts itself"),
        (lambda raw: raw["quantize"].update(granularity="dataset"), "scales has shape"),
        (lambda raw: raw["quantize"].update(ends_bits=8), "end_scales is None, expected a tensor"),
        (lambda raw: raw["quantize"].update(ends_bits=32), "ends is torch.float16"),
        (lambda raw: raw["quantize"].update(bits=16), "scales is a tensor, expected None"),
        (lambda raw: raw["quantize"].update(bits=9), "bits is 9"),
        (lambda raw: raw.update(size=[6]), "2 non-negative numbers"),
        (lambda raw: raw.update(size=[0, 4]), "no pixels"),
        (lambda raw: raw.update(size=None), "exactly one"),
        (lambda raw: raw.update(mean=[1, 2]), "3 non-negative numbers"),
        (lambda raw: raw.update(class_names=["cat", "dog"]), "outside the 2 classes"),
        (lambda raw: raw.update(splits=[["train", 2]]), "beyond the 2 images"),
        (lambda raw: raw.pop("crc32"), "lacks a checksum"),
        (lambda raw: raw["crc32"].pop("codes"), "lacks a checksum"),
        (lambda raw: raw["crc32"].update(codes=1), "checksum of codes"),
    ],
)
def test_each_way_for_a_header_to_be_wrong_is_refused(tmp_path, change, message):
    edited(tmp_path / "a.inr", change)
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [(None, "without the metadata"), ({METADATA_KEY: "{"}, "not JSON"), ({METADATA_KEY: "[1]"}, "version")],
)
def test_a_safetensors_file_that_is_no_store_is_refused(tmp_path, metadata, message):
    save_file({"codes": torch.zeros(1)}, tmp_path / "a.inr", metadata)
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


def test_source_ids_must_increase_and_stay_inside_the_splits(tmp_path):
    for ids, message in (([0, 2, 2], "do not increase"), ([-1, 0, 1], "do not increase"), ([0, 1, 6], "beyond the 6")):
        write_store(tmp_path / "a.inr", with_tensors(small_store(3), source_ids=torch.tensor(ids)), overwrite=True)
        with pytest.raises(StoreFormatError, match=message):
            read_store(tmp_path / "a.inr")


@pytest.mark.parametrize("name", ["codes", "ends", "scales", "end_scales"])
def test_weights_that_are_not_finite_are_refused(tmp_path, name):
    configs = {"codes": QuantizeConfig(bits=16), "end_scales": QuantizeConfig(ends_bits=8)}
    store = small_store(3, config=configs.get(name))
    tensor = getattr(store, name).clone()
    tensor[1, 2] = torch.nan
    write_store(tmp_path / "a.inr", with_tensors(store, **{name: tensor}))
    with pytest.raises(StoreFormatError, match="not finite"):
        read_store(tmp_path / "a.inr")


def test_a_mask_with_bits_behind_its_last_weight_is_refused(tmp_path):
    store = small_store(3, masks="shared")
    masks = store.masks.clone()
    masks[0, -1] |= 128  # 25 weights take 4 bytes, of which the last uses one bit
    write_store(tmp_path / "a.inr", with_tensors(store, masks=masks))
    with pytest.raises(StoreFormatError, match="behind its last weight"):
        read_store(tmp_path / "a.inr")
