import os
import subprocess
import sys
import threading
import time

import pytest

from rapid_inr.runlog.liveness import SILENT_S, Heartbeat, lives, this_process


@pytest.fixture
def child():
    """A process that waits until its input is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process
        if process.poll() is None:
            process.communicate()


def described(pid: int) -> dict:
    script = (
        "import json, os, sys; from rapid_inr.runlog import liveness; print(json.dumps(liveness._start_of(int(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(pid)], capture_output=True, text=True, check=True)
    return this_process() | {"pid": pid, "start": int(done.stdout)}


def test_this_process_lives_however_long_its_files_were_not_touched():
    assert lives(this_process(), touched=0)


@pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")
def test_a_process_lives_until_it_is_killed_even_while_nobody_has_waited_for_it(child):
    process = described(child.pid)
    assert lives(process, touched=0)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    assert not lives(process, touched=time.time())
    child.wait()
    assert not lives(process, touched=time.time())


@pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")
def test_another_process_that_got_the_number_is_not_taken_for_the_run():
    assert not lives(this_process() | {"start": 1}, touched=time.time())


def test_where_no_start_is_known_the_number_alone_counts(child):
    child.kill()
    child.wait()
    assert not lives(this_process() | {"pid": child.pid, "start": None}, touched=time.time())
    assert lives(this_process() | {"start": None}, touched=0)


def test_of_a_process_elsewhere_only_its_heartbeat_is_known():
    elsewhere = this_process() | {"where": "another machine"}
    assert lives(elsewhere, touched=time.time() - SILENT_S / 2)
    assert not lives(elsewhere, touched=time.time() - SILENT_S - 1)


def test_a_heartbeat_outlives_a_file_server_that_is_away_for_a_while(tmp_path, monkeypatch):
    calls, third = [], threading.Event()

    def utime(path):
        calls.append(path)
        if len(calls) == 3:
            third.set()
        raise OSError("stale file handle")

    monkeypatch.setattr("rapid_inr.runlog.liveness.BEAT_S", 0.001)
    monkeypatch.setattr("rapid_inr.runlog.liveness.os.utime", utime)
    heart = Heartbeat(tmp_path / "record.json")
    assert third.wait(10)
    heart.stop()
    n_beats = len(calls)
    assert calls == [tmp_path / "record.json"] * n_beats
