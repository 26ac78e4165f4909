from dataclasses import replace

import pytest
import torch

from kernels.unpack.torch import gather_hidden
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.packed import PackedStore, StoreTooLarge, bytes_by_part
from tests.store.stores import small_store, with_tensors


def test_a_store_takes_the_bytes_that_its_parts_add_up_to(tmp_path):
    store = small_store(4)
    file_bytes = write_store(tmp_path / "a.inr", store)
    parts = bytes_by_part(store, file_bytes=file_bytes)
    # 2x5: 25 codes; ends 10 + 15, biases 10 + 3, scales 5, in half precision; a label
    assert {k: v for k, v in parts.items() if k != "header"} == {
        "codes": 4 * 25, "masks": 0, "ends": 4 * 2 * 25, "biases": 4 * 2 * 13, "scales": 4 * 2 * 5,
        "sizes": 0, "labels": 4, "source_ids": 0, "names": 0,
    }  # fmt: skip
    assert sum(parts.values()) == file_bytes
    assert store.nbytes == file_bytes - parts["header"]


def test_a_large_store_in_memory_costs_what_its_file_costs(tmp_path):
    store = small_store(2000)
    assert write_store(tmp_path / "a.inr", store) / store.nbytes < 1.05


def test_images_are_named_by_split_and_index():
    store = replace(small_store(4), source_ids=torch.tensor([0, 3, 4, 6], dtype=torch.int32))
    assert [store.name_of(i) for i in range(4)] == ["train_00000", "train_00003", "test_00000", "test_00002"]
    assert small_store(4).name_of(3) == "train_00003"


def test_a_split_is_the_store_of_its_images():
    store = replace(small_store(4), source_ids=torch.tensor([0, 3, 4, 6], dtype=torch.int32))
    test = store.of_split("test")
    assert torch.equal(test.rows.codes, store.rows.codes[2:])
    assert torch.equal(test.labels, store.labels[2:])
    assert test.name_of(0) == "test_00000"
    assert small_store(4).of_split("train") is not None
    with pytest.raises(ValueError, match="no image of split 'test'"):
        small_store(4).of_split("test")


def test_pixels_are_counted_over_mixed_sizes():
    assert small_store(3).n_pixels == 3 * 24
    assert small_store(3, mixed=True).n_pixels == 24 + 24 + 24
    assert small_store(3, mixed=True).size_of(1) == (3, 8)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("codes", torch.zeros(4, 24, dtype=torch.uint8), r"codes has shape \(4, 24\)"),
        ("codes", torch.zeros(4, 25), "codes is torch.float32"),
        ("ends", torch.zeros(4, 38), "ends is torch.float32"),
        ("ends", torch.zeros(4, 37, dtype=torch.float16), "ends has shape"),
        ("scales", None, "scales is None, expected a tensor"),
        ("scales", torch.zeros(1, 5, dtype=torch.float16), "scales has shape"),
        ("scales", torch.zeros(4, 5), "scales is torch.float32"),
        ("end_scales", torch.zeros(4, 4, dtype=torch.float16), "end_scales is a tensor, expected None"),
        ("masks", torch.zeros(2, 4, dtype=torch.uint8), "masks has shape"),
        ("masks", torch.zeros(1, 4, dtype=torch.uint8), r"masks has shape \(1, 4\), expected \(4, 4\)"),
        ("labels", torch.zeros(4), "labels is torch.float32"),
        ("sizes", torch.ones(4, 2, dtype=torch.int32), "sizes is a tensor, expected None"),
        ("source_ids", torch.zeros(3, dtype=torch.int32), "source_ids has shape"),
    ],
)
def test_tensors_that_contradict_the_header_are_refused(name, tensor, message):
    with pytest.raises(ValueError, match=message):
        with_tensors(small_store(4), **{name: tensor})


def test_an_empty_store_is_refused():
    with pytest.raises(ValueError, match="empty"):
        small_store(4).take(torch.empty(0, dtype=torch.int64))


def test_a_store_that_does_not_fit_the_device_is_named_before_anything_is_copied(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    with pytest.raises(StoreTooLarge, match="needs 4,480 bytes, cuda:0 has 1,000 free: about 8 of 40 images fit"):
        small_store(40).to("cuda:0")


@pytest.mark.parametrize("asked", ["cuda", "cuda:0"])
def test_a_store_that_is_there_already_needs_no_free_memory(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 200))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    store = small_store(4)
    monkeypatch.setattr(PackedStore, "device", torch.device("cuda:0"))
    assert store.to(asked) is store


def test_a_store_may_hold_hidden_weights_in_half_precision():
    store = small_store(3, config=QuantizeConfig(bits=16))
    assert store.rows.codes.dtype == torch.float16
    assert store.rows.scales is None
    assert bytes_by_part(store, file_bytes=10_000)["scales"] == 0


def test_scales_of_a_dataset_and_eight_bit_ends_are_counted_and_taken():
    store = small_store(4, config=QuantizeConfig(8, 8, "dataset"))
    parts = bytes_by_part(store, file_bytes=10_000)
    assert {name: parts[name] for name in ("ends", "biases", "scales")} == {
        "ends": 4 * 25, "biases": 4 * 13, "scales": 2 + 4 * 4 * 2,
    }  # fmt: skip
    taken = store.take(torch.tensor([1, 3]))
    assert torch.equal(taken.rows.scales, store.rows.scales)
    assert torch.equal(taken.rows.end_scales, store.rows.end_scales[[1, 3]])


def test_a_store_hands_out_its_own_tensors():
    store = small_store(4, masks=True, config=QuantizeConfig(5, 8))
    for name, tensor in store.rows.tensors().items():
        assert tensor is (store.starts if name == "starts" else store.packed[name])
    assert store.rows.bits == 5


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_taking_images_takes_their_rows(masks, bits):
    store, ids = small_store(6, config=QuantizeConfig(bits), masks=masks), torch.tensor([1, 2, 5])
    taken = store.take(ids)
    spec, dtype = store.header.code.spec, torch.float32
    found = gather_hidden(taken.rows, torch.arange(3), spec, dtype)
    assert torch.equal(found, gather_hidden(store.rows, ids, spec, dtype))
    assert torch.equal(taken.rows.ends, store.rows.ends[ids])
    assert taken.source_ids.tolist() == [1, 2, 5]


def test_a_store_with_masks_is_read_back_and_counted(tmp_path):
    store = small_store(6, config=QuantizeConfig(4), masks=True)
    file_bytes = write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    found, expected = (gather_hidden(s.rows, torch.arange(6), s.header.code.spec, torch.float32) for s in (again, store))
    assert torch.equal(found, expected)
    parts = bytes_by_part(store, file_bytes=file_bytes)
    assert parts["masks"] == 4 * 6
    assert sum(parts.values()) == file_bytes
