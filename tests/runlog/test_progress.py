import re
import threading
from types import SimpleNamespace

import pytest

from rapid_inr.runlog.progress import progress_bar, stage


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)


def test_where_there_is_no_terminal_one_line_says_what_was_done(capsys):
    with progress_bar("encode", 8, unit="images") as bar:
        bar.advance(3)
        bar.advance(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("encode")
    assert "100%" in err
    assert "8/8" in err
    assert re.search(r"[\d,]+\.\d images/s", err)


def test_the_rate_is_work_over_time(capsys, monkeypatch):
    now = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr("rapid_inr.runlog.progress.time", SimpleNamespace(perf_counter=lambda: next(now)))
    with progress_bar("encode", 5000, unit="images") as bar:
        bar.advance(2000)
        bar.advance(3000)
    assert " 1,250.0 images/s" in capsys.readouterr().err


def test_the_last_note_stands_behind_the_rate(capsys):
    with progress_bar("train", 2, unit="epochs") as bar:
        bar.note("loss 2.0")
        bar.advance(1)
        bar.note("loss 1.0")
        bar.advance(1)
    err = capsys.readouterr().err
    assert "epochs/s · loss 1.0" in err
    assert "loss 2.0" not in err


def test_fractions_add_up_to_the_whole(capsys):
    with progress_bar("encode", 3, unit="images") as bar:
        for _ in range(10):
            bar.advance(0.3)  # in floating point 2.9999999999999996 together
    assert "3/3" in capsys.readouterr().err


def test_what_others_have_yet_to_do_is_not_shown_as_done(capsys):
    with progress_bar("encode", 9, unit="images", done=2) as bar:
        bar.advance(3)
    assert "5/9" in capsys.readouterr().err


def test_work_that_breaks_off_is_not_shown_as_done(capsys):
    with pytest.raises(RuntimeError), progress_bar("encode", 4, unit="images") as bar:  # noqa: PT012 (it must have begun)
        bar.advance(1)
        raise RuntimeError
    err = capsys.readouterr().err
    assert "1/4" in err
    assert "100%" not in err


def test_work_done_before_counts_in_the_bar_and_not_in_the_rate(capsys, monkeypatch):
    now = iter([100.0, 102.0])
    monkeypatch.setattr("rapid_inr.runlog.progress.time", SimpleNamespace(perf_counter=lambda: next(now)))
    with progress_bar("encode", 5000, unit="images", done=3000) as bar:
        bar.advance(2000)
    err = capsys.readouterr().err
    assert "5000/5000" in err
    assert " 1,000.0 images/s" in err


def test_a_stage_counts_its_share_and_at_its_end_what_it_left_out():
    told = []
    with stage(told.append, worth=3.0, share=0.5) as report:
        report(1.0)
        report(2.0)
        assert told == [0.5, 1.0]
    assert told == [0.5, 1.0, 1.5]
    with stage(None, worth=3.0) as report:
        assert report is None


def test_a_stage_that_breaks_off_counts_no_more():
    told = []
    with pytest.raises(RuntimeError), stage(told.append, worth=3.0) as report:  # noqa: PT012 (it must have begun)
        report(1.0)
        raise RuntimeError
    assert told == [1.0]


def test_bars_of_two_threads_share_the_screen(capsys):
    def work(name):
        with progress_bar(name, 4, unit="images") as bar:
            together.wait()
            bar.advance(4)

    together = threading.Barrier(2)
    other = threading.Thread(target=work, args=["second"])
    other.start()
    work("first")
    other.join()
    lines = capsys.readouterr().err.strip().splitlines()
    assert sorted(line.split()[0] for line in lines) == ["first", "second"]
    assert all("4/4" in line for line in lines)
