"""What a command prints never ends its work, and Ctrl-C ends it with one line from its first moment on."""

import io
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.experiments.commands import TINY


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


def full_disk():
    return Path("/dev/full").open("w", buffering=1)


@pytest.mark.parametrize("make", [lambda: None, broken_pipe, full_disk], ids=["closed", "unread", "full"])
def test_a_command_ends_well_whatever_becomes_of_stderr(command, monkeypatch, make):
    monkeypatch.setattr(sys, "stderr", make())
    code, out, _ = command("encode", *TINY, "out=a.inr", "run_dir=run")
    with suppress(OSError):
        sys.stderr.close()
    assert code == 0
    assert out.startswith("a.inr: 9 images")
    assert json.loads(Path("run/record.json").read_text())["status"] == "finished"


def test_a_name_that_stdout_cannot_encode_is_printed_with_escapes(command, monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert command("encode", *TINY, "out=ü.inr")[0] == 0
    sys.stdout.flush()
    assert printed.getvalue().startswith(b"\\xfc.inr: 9 images")


def test_an_output_whose_name_is_not_utf_8_is_refused_before_any_work(command):
    code, _, err = command("encode", *TINY, f"out={os.fsdecode(bytes([255]))}.inr")
    assert code == 2
    assert "\\udcff.inr is not UTF-8" in err
    assert not list(Path().iterdir())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc for what a process has loaded")
def test_an_interrupt_while_libraries_are_loaded_is_one_line(program):
    with program("experiments.info", "store=a.inr") as info:
        deadline = time.monotonic() + 60
        while "libtorch" not in Path(f"/proc/{info.pid}/maps").read_text():
            assert time.monotonic() < deadline
        info.send_signal(signal.SIGINT)
        assert (info.wait(60), info.stderr.read()) == (130, "interrupted\n")
