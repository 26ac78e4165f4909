import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments.setup.choices import CONFIGS
from tests.experiments.commands import TINY, run_here


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(verb, *overrides):
        code = run_here(monkeypatch, verb, *overrides)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def encoded(tmp_path_factory):
    """A store that was encoded once for all tests."""
    folder = tmp_path_factory.mktemp("encoded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_here(patch, "encode", *TINY, "out=a.inr") == 0
    return folder / "a.inr"


@pytest.fixture
def whole(encoded):
    """The bytes of that store, which was encoded as one shard."""
    return encoded.read_bytes()


@pytest.fixture
def store(encoded, tmp_path):
    """Put that store into the test's folder, as a.inr."""
    return shutil.copy(encoded, tmp_path)


@pytest.fixture
def photos(tmp_path):
    """Make an image folder of two classes below the working folder; returns a function, which names it."""

    def make(name="photos", *, count=5, sizes=((12, 12),), seed=0):
        rng = np.random.default_rng(seed)
        for split in ("train", "val"):
            for label in ("dark", "light"):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(0, 120, (*sizes[i % len(sizes)], 3), dtype=np.uint8) + 100 * (label == "light")
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        return name

    return make


@pytest.fixture
def program(tmp_path):
    """Start a module as a program in the test's folder."""
    environment = os.environ | {"PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"}

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
        )  # fmt: skip

    return start
