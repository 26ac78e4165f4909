"""What a store costs in memory: on the CPU only what is touched, copied no more than the file."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store.decode import decode
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.packed import PackedStore
from tests.store.stores import small_store

SPEC = SirenSpec(depth=3, hidden=16, omega=15.0)
SMAPS = Path("/proc/self/smaps")


def resident_bytes(path):
    """Return how much of a file's mappings lies in the memory of this process."""
    total, counts = 0, False
    for line in SMAPS.read_text().splitlines():
        if not line.split()[0].endswith(":"):  # the first line of a mapping, with its file
            counts = line.endswith(str(path))
        elif counts and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@pytest.mark.skipif(not SMAPS.exists(), reason="needs Linux")
@pytest.mark.parametrize("config", [QuantizeConfig(), QuantizeConfig(4)])
def test_reading_one_image_of_a_large_store_touches_its_row_alone(tmp_path, config):
    path, few = tmp_path / "a.inr", small_store(2000, spec=SPEC, config=config)
    header = replace(few.header, splits=(("train", 30 * len(few)),))
    many = {name: tensor.repeat(30, *[1] * (tensor.ndim - 1)) for name, tensor in few.tensors().items()}
    file_bytes = write_store(path, PackedStore.of(header, many))
    store = read_store(path)
    after_reading = resident_bytes(path)
    image = decode(store, torch.tensor([4321]))
    after_decoding = resident_bytes(path)
    assert after_reading < 0.05 * file_bytes  # the check of the whole file has left nothing
    assert after_decoding < 0.25 * file_bytes  # 5.6 MB of 35: a fault maps what lies cached around a row, 2 MiB a tensor
    assert image.shape == (1, 3, 6, 4)
    store.rows.codes.sum()
    assert resident_bytes(path) > store.rows.codes.nbytes


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
