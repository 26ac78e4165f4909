"""Where there is no CUDA GPU the Triton kernels run through their interpreter: it must be chosen before triton is imported."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


OPTIONAL = ("hypothesis", "jinja2", "matplotlib", "optuna", "pandas", "scipy")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skip a file of tests that needs a package which only reports, searches or tests use, where it is absent."""
    report = yield
    for name in OPTIONAL if report.failed else ():
        if f"No module named '{name}" in str(report.longrepr):
            report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: {name} is not installed")
    return report


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels are tested: the GPU, or the CPU with triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """How many threads torch has: one, two and three."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def wandb_at_home(tmp_path, monkeypatch):
    """The real W&B, with its settings and caches in the test's folder and its account out of it.

    `finish` of a run returns a moment before its file is whole: call the library's `teardown` before reading one.
    """
    wandb = pytest.importorskip("wandb")
    for variable in ("WANDB_MODE", "WANDB_DIR", "WANDB_API_KEY", "WANDB_DISABLED"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return wandb
