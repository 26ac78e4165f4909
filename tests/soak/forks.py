"""Commands in forks of this process, which has loaded their libraries; each begins in a known state and has a result."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from safetensors.numpy import load_file

from experiments.setup import cli
from rapid_inr.plots.figures import distributions
from tests.soak.commands import SHAPES, TINY, digest_of

ENCODE = (*TINY, "dataset.count=24", "shard_images=4", "fit.steps=10", "run_dir=run", "out=a.inr")
TRAIN = ("backbone=resnet18_w8", "optimizer.batch_size=32", "run_dir=run")
COMMANDS: dict[str, tuple[str, ...]] = {
    "encode": ENCODE,
    "merge": ("out=a.inr", "track=off", "run_dir=run"),
    "export": (*SHAPES, "dataset.count=24", "dataset.test_count=4", "format=webp", "out=files", "run_dir=run"),
    "train": (*SHAPES, *TRAIN, "dataset.count=96", "pipeline=resident", "optimizer.epochs=3"),
    "multirun": ("-m", "experiment=memory/smoke", "track=off"),
    "multirun_train": ("-m", "experiment=accuracy/smoke", "seed=0", "track=off"),
    "decode": ("store=kept/a.inr", "out=pictures", "limit=4", "track=off", "run_dir=run"),
    "codec": (*SHAPES, "dataset.count=8", "codec=jpeg", "run_dir=run"),
    "benchmark": (*TINY, "debug=smoke", "suite=fit", "run_dir=run"),
    "tables": ("root=kept",),
    "compare": ("root=kept",),
    "report": ("root=kept", "out=report.html"),
}
RESULTS = {
    "encode": "a.inr",
    "merge": "a.inr",
    "export": "files",
    "train": "run/metrics.jsonl",
    "decode": "pictures",
    "codec": "run/curve.csv",
}
LOG = Path("../log")


def verb_of(name: str) -> str:
    return {"multirun": "encode", "multirun_train": "train"}.get(name, name)


def fork(name: str, *more: str, first: Callable[[], None] = lambda: None) -> int:
    """Start a command in a fork, with its output in `LOG`; return its process id.

    Args:
        first: called there before the command.
    """
    task = getattr(import_module(f"experiments.{verb_of(name)}"), f"run_{verb_of(name)}")
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(LOG, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = [f"experiments.{name}", *COMMANDS[name], *more]
        first()
        cli.main(verb_of(name), task)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException as error:  # a bug, which a program of its own would end with
        print(f"Traceback: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def code_of(process: int) -> int:
    """Wait for a fork; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run(name: str, *more: str) -> None:
    """Run a command to its end, which must be a good one; a training continues from its checkpoint where there is one."""
    if name == "train" and Path("run/resident_last.safetensors").exists():
        more = (*more, "resume=run/resident_last.safetensors")
    code = code_of(fork(name, *more))
    assert code == 0, f"{name} ended with {code}: {LOG.read_text()}"


def prepare() -> None:
    """Begin to work in the folder ``work``, and make there what commands read: ``kept`` with a store, its shards and its run."""
    Path("work").mkdir(exist_ok=True)
    os.chdir("work")
    Hydra.get_mode = lambda self, config_name, overrides: None  # else every configuration is composed twice
    distributions(Path("figure.png"), {"values": [1.0, 2.0]}, title="loads matplotlib, once for all forks")
    Path("figure.png").unlink()
    run("encode", "keep_shards=true")
    Path("kept").mkdir()
    for path in ("a.inr", "a.inr.shards", "run"):
        shutil.move(path, "kept")


def clean(name: str) -> None:
    """Bring the folder to where a command begins."""
    for path in Path().iterdir():
        if path.name != "kept":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "merge":
        shutil.copytree("kept/a.inr.shards", "a.inr.shards")


def result_of(name: str) -> Any:
    """Return what must be the same: bytes, or of a training its losses, scores and weights."""
    if name == "train":
        weights = load_file("run/resident.safetensors")
        return _untimed(Path(RESULTS[name])), {k: v.tobytes() for k, v in weights.items()}
    if name.startswith("multirun"):
        states = {str(path.parent): json.loads(path.read_text())["status"] for path in Path("runs").rglob("record.json")}
        stores = sorted(path for folder in ("runs", "stores") for path in Path(folder).rglob("*.inr"))
        return states, [digest_of(path) for path in stores], [_untimed(path) for path in sorted(Path("runs").rglob("*.jsonl"))]
    return digest_of(Path(RESULTS[name])) if name in RESULTS else None


def _untimed(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("epoch_s", "images_per_s")} for line in lines]
