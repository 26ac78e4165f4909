import pytest
import torch
from safetensors.torch import load_file, save_file

from rapid_inr.store.tensor_file import DTYPES, Blocks, crc32, read_flat, write_tensors


def tensors_of_every_kind():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(-100, 100, (5, 3), generator=generator)
    return {str(dtype): numbers.to(dtype) for dtype in DTYPES} | {"empty": torch.zeros(0, 4), "a_flat_one": torch.arange(7)}


def in_pieces(tensor):
    return Blocks(tensor.dtype, tuple(tensor.shape), lambda: tensor.split(2))


def test_a_file_written_in_pieces_is_that_of_the_librarys_own_writer(tmp_path):
    tensors = tensors_of_every_kind()
    write_tensors(tmp_path / "a", {name: in_pieces(t) for name, t in tensors.items()}, lambda crc: {"key": '{"é": "\\n"}'})
    save_file(tensors, tmp_path / "b", {"key": '{"é": "\\n"}'})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(load_file(tmp_path / "a")["empty"], tensors["empty"])


def test_checksums_are_those_of_the_whole_tensors(tmp_path):
    tensors, seen = tensors_of_every_kind(), {}
    write_tensors(tmp_path / "a", {name: in_pieces(t) for name, t in tensors.items()}, lambda crc: seen.update(crc) or {})
    assert seen == {name: crc32(tensor) for name, tensor in tensors.items()}


def test_what_is_read_piece_by_piece_is_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr("rapid_inr.store.tensor_file.READ_BYTES", 16)
    tensors = tensors_of_every_kind()
    save_file(tensors, tmp_path / "a")
    found = {name: [] for name in tensors}
    for name, block in read_flat(tmp_path / "a", {name: tensor.dtype for name, tensor in tensors.items()}):
        found[name].append(block)
    assert len(found["torch.float64"]) == 8
    assert found.pop("empty") == []
    assert all(torch.equal(torch.cat(blocks), tensors[name].flatten()) for name, blocks in found.items())


def test_pieces_that_do_not_make_up_the_tensor_leave_no_file(tmp_path):
    short = Blocks(torch.uint8, (4,), lambda: [torch.zeros(3, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="codes came in 3 bytes, expected 4"):
        write_tensors(tmp_path / "a", {"codes": short}, lambda crc: {})
    assert list(tmp_path.iterdir()) == []
