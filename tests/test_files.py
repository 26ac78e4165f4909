import errno
import os

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from rapid_inr.files import atomic, remove_torn


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("name", ["n" * 255, "\N{ROCKET}" * 63])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    with atomic(tmp_path / name) as temporary:
        temporary.touch()
    remove_torn(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text(str(1 / 0) if temporary.write_text("half") else "")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_has_the_mode_of_any_new_file_whoever_writes_it(tmp_path):
    (tmp_path / "plain").touch()
    with atomic(tmp_path / "weights.safetensors") as temporary:
        save_file({"w": torch.zeros(2)}, temporary)
    with atomic(tmp_path / "private") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: .*a\.txt"), atomic(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_safetensors_is_an_error_of_the_system_too(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError, match=r"No space left on device: .*a\.safetensors") as caught, atomic(path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
