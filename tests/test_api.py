"""The public names of the package: each is there, is documented, and costs nothing before it is used."""

import inspect
import subprocess
import sys
from pathlib import Path

import rapid_inr

ROOT = Path(rapid_inr.__file__).parent


def test_every_public_name_is_there_and_documented():
    for name in rapid_inr.__all__:
        assert inspect.getdoc(getattr(rapid_inr, name)), name


def test_no_public_name_is_that_of_a_submodule():
    assert not set(rapid_inr.__all__) & {path.stem for path in ROOT.iterdir()}


def test_importing_the_package_imports_no_torch():
    done = subprocess.run([sys.executable, "-c", "import sys, rapid_inr; assert 'torch' not in sys.modules"], cwd=ROOT.parent)
    assert done.returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(rapid_inr, "INRLoaders")
    assert "INRLoader" in dir(rapid_inr)
