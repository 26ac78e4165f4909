"""Stores as files: the same bytes everywhere, read back whole, and never half written."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store import tensor_file
from rapid_inr.store.format import read_store, write_store
from tests.store.stores import header_in, small_store


@pytest.mark.parametrize(
    "config",
    [
        QuantizeConfig(),
        QuantizeConfig(5, 32, "tensor"),
        QuantizeConfig(5, 8, "tensor", rounding="gptq"),
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
    assert digest == "b10381c1331897e320f33ab8b4cc77dc864c0f162c2ab96c00afe03343cb8d59"


def test_a_header_names_the_rounding_where_it_is_not_the_usual_one(tmp_path):
    for rounding in ("nearest", "gptq"):
        write_store(tmp_path / "a.inr", small_store(3, config=QuantizeConfig(rounding=rounding)), overwrite=True)
        assert header_in(tmp_path / "a.inr")["quantize"].get("rounding", "nearest") == rounding


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
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match=rf"No space left on device: .{path}"):
        write_store(path, small_store(4), overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.inr"]


def test_any_safetensors_reader_opens_a_store(tmp_path):
    store = small_store(3)
    write_store(tmp_path / "a.inr", store)
    assert torch.equal(load_file(tmp_path / "a.inr")["codes"], store.rows.codes)


def test_a_missing_file_is_named_with_what_writes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"experiments\.encode"):
        read_store(tmp_path / "none.inr")


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    path = tmp_path / "a.inr"
    write_store(path, small_store(1))

    def refuse(path, mode):  # root may read everything, so permissions cannot be taken away in a test
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: .*a\.inr"):
        read_store(path)
