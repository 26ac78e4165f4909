import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from rapid_inr.store.tensor_file import DTYPES, Blocks, crc32, read_tensors, write_tensors


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


def test_what_is_read_is_what_was_written(tmp_path):
    tensors = tensors_of_every_kind()
    save_file(tensors, tmp_path / "a", {"key": "value"})
    metadata, found = read_tensors(tmp_path / "a")
    assert metadata == {"key": "value"}
    assert found.keys() == tensors.keys()
    assert all(found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:20], lambda data: b"", lambda data: b"7" * 999])
def test_a_file_that_is_overwritten_while_it_is_read_is_an_error(tmp_path, monkeypatch, damage):
    path = tmp_path / "a"
    save_file({"a": torch.arange(9)}, path)

    def checked(*args, **kwargs):
        data = path.read_bytes()
        file = safe_open(*args, **kwargs)
        monkeypatch.setattr(torch, "empty_like", lambda of: path.write_bytes(damage(data)) * 0 + torch.zeros_like(of))
        return file

    monkeypatch.setattr("rapid_inr.store.tensor_file.safe_open", checked)
    with pytest.raises(SafetensorError, match="overwritten"):
        read_tensors(path)


def test_pieces_that_do_not_make_up_the_tensor_leave_no_file(tmp_path):
    short = Blocks(torch.uint8, (4,), lambda: [torch.zeros(3, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="codes came in 3 bytes, expected 4"):
        write_tensors(tmp_path / "a", {"codes": short}, lambda crc: {})
    assert list(tmp_path.iterdir()) == []
