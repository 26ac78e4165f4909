import os

import pytest

from rapid_inr.files import atomic


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text(str(1 / 0) if temporary.write_text("half") else "")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
