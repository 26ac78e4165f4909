"""What a store costs in memory, and that what happens to its file later does not matter."""

import gc
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr import INRLoader
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store.decode import decode
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.packed import PackedStore, StoreTooLarge
from tests.store.stores import small_store

SPEC = SirenSpec(depth=3, hidden=16, omega=15.0)
STATUS = Path("/proc/self/status")


def memory_bytes(kind):
    """Return the memory of this process: `kind` is VmRSS for what it has now, VmHWM for the peak."""
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(kind))


def many_images(n, **options):
    """Return a store of many images, made of copies of a few."""
    few = small_store(2000, spec=SPEC, **options)
    header = replace(few.header, splits=(("train", n),))
    return PackedStore.of(header, {k: v.repeat(n // len(few), *[1] * (v.ndim - 1)) for k, v in few.tensors().items()})


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux")
@pytest.mark.parametrize("config", [QuantizeConfig(), QuantizeConfig(4), QuantizeConfig(32)])
def test_reading_a_store_takes_its_size_in_memory_and_little_more(tmp_path, config):
    n_bytes = write_store(tmp_path / "a.inr", many_images(60_000, config=config))
    gc.collect()
    STATUS.with_name("clear_refs").write_text("5")  # the peak counts from here
    before = memory_bytes("VmRSS")
    store = read_store(tmp_path / "a.inr")
    assert memory_bytes("VmRSS") - before < 1.1 * n_bytes
    assert memory_bytes("VmHWM") - before < 1.1 * n_bytes + 32e6
    assert len(store) == 60_000


@pytest.mark.parametrize("length", [0, 5000, None])
def test_a_store_is_read_whole_so_that_overwriting_its_file_changes_nothing(tmp_path, length):
    path, store = tmp_path / "a.inr", small_store(400)
    n_bytes = write_store(path, store)
    ids, sound = torch.arange(8), list(INRLoader(store, 100, seed=None))
    read, loader = read_store(path), INRLoader(path, 100, seed=None)
    path.write_bytes(bytes(n_bytes if length is None else length))  # in place: a mapped file that is cut off ends the process
    assert torch.equal(decode(read, ids), decode(store, ids))
    assert all(torch.equal(batch.images, other.images) for batch, other in zip(loader, sound, strict=True))


def test_a_store_that_does_not_fit_the_memory_is_refused_by_name(tmp_path, monkeypatch):
    write_store(tmp_path / "a.inr", small_store())

    def refuse(tensor):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty_like", refuse)
    with pytest.raises(StoreTooLarge, match=r"a\.inr does not fit the memory: it takes [\d,]+ bytes"):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_store_in_memory_costs_what_its_file_costs(tmp_path, masks, bits):
    file_bytes = write_store(tmp_path / "a.inr", small_store(600, spec=SPEC, config=QuantizeConfig(bits), masks=masks))
    store = read_store(tmp_path / "a.inr")
    decode(store, torch.arange(8))
    held = [getattr(store, f.name) for f in fields(store)] + [getattr(store.rows, f.name) for f in fields(store.rows)]
    copies = {tensor.data_ptr(): tensor.nbytes for tensor in held if isinstance(tensor, torch.Tensor)}
    assert sum(copies.values()) == store.nbytes
    assert 0.95 < store.nbytes / file_bytes <= 1.05  # 1.02 with masks, whose rows are found by 8 bytes an image
