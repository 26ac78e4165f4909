"""`python -m tests.soak.kills [TIMES [COMMAND ...]]`: SIGKILL at random moments; the same command then comes to the same bytes.

Commands run in forks of this process, which has loaded their libraries: most moments then lie in the work, not before it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from experiments.setup import cli
from tests.soak.commands import SHAPES, TINY, digest_of, empty_folder, leftovers

ENCODE = (*TINY, "dataset.count=96", "shard_images=8", "fit.steps=40", "run_dir=run")
TRAIN = (
    *SHAPES,
    "dataset.count=256",
    "pipeline=resident",
    "backbone=resnet18_w8",
    "optimizer.epochs=5",
    "optimizer.batch_size=32",
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "encode": (*ENCODE, "out=a.inr"),
    "merge": ("out=a.inr", "track=off", "run_dir=run"),
    "export": (*SHAPES, "dataset.count=600", "format=webp", "out=files", "run_dir=run"),
    "train": (*TRAIN, "run_dir=run"),
}
TASKS = {verb: getattr(import_module(f"experiments.{verb}"), f"run_{verb}") for verb in COMMANDS}
RESULTS = {"encode": "a.inr", "merge": "a.inr", "export": "files", "train": "run/metrics.jsonl"}


def fork(verb: str, *overrides: str) -> int:
    """Start a command in a fork, with its output in ``log``; return its process id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = [f"experiments.{verb}", *overrides]
        cli.main(verb, TASKS[verb])
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code)


def run(verb: str, *overrides: str) -> float:
    """Run a command to its end, which must be a good one; return its seconds."""
    began = time.perf_counter()
    _, status = os.waitpid(fork(verb, *overrides), 0)
    assert status == 0, f"{verb} {' '.join(overrides)}: {Path('log').read_text()}"
    return time.perf_counter() - began


def clean(verb: str) -> None:
    """Bring the folder to where a command begins."""
    for path in ("run", "files", "a.inr.shards"):
        shutil.rmtree(path, ignore_errors=True)
    Path("a.inr").unlink(missing_ok=True)
    if verb == "merge":
        shutil.copytree("kept.shards", "a.inr.shards")


def result_of(verb: str) -> Any:
    """Return the result of a command: bytes, or the losses, scores and weights of a training."""
    if verb != "train":
        return digest_of(Path(RESULTS[verb]))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    weights = load_file("run/resident.safetensors")
    timed = ("epoch_s", "images_per_s")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines], {k: v.tobytes() for k, v in weights.items()}


def kill_and_repeat(verb: str, after_s: float, expected: Any) -> str:
    """Kill a command once, start it again, and compare; return what the kill met."""
    process = fork(verb, *COMMANDS[verb])
    time.sleep(after_s)
    ended = os.waitpid(process, os.WNOHANG)[0] == process
    if not ended:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    record, overrides = Path("run/record.json"), COMMANDS[verb]
    finished = record.exists() and json.loads(record.read_text())["status"] == "finished"
    if finished:
        return "finished before"
    resumed = Path("run/resident_last.safetensors").exists()
    run(verb, *overrides, *(("resume=run/resident_last.safetensors",) if resumed else ()))
    assert result_of(verb) == expected, f"{verb} killed after {after_s:.2f} s came to something else"
    torn = leftovers(Path())
    assert torn == [], torn
    assert not Path("a.inr.shards").exists()
    return "the same result"


def main(times: int, verbs: list[str]) -> None:
    rng = random.Random(0)
    with empty_folder():
        run("encode", *ENCODE, "out=a.inr", "keep_shards=true")
        shutil.copytree("a.inr.shards", "kept.shards")
        for verb in verbs:
            outcomes, seconds = Counter[str](), []
            for _ in range(2):  # the first may be slow, and kills are to meet the work
                clean(verb)
                seconds.append(run(verb, *COMMANDS[verb]))
            expected = result_of(verb)
            for _ in range(times):
                clean(verb)
                outcomes[kill_and_repeat(verb, rng.uniform(0, min(seconds)), expected)] += 1
            print(f"{verb:7s} {min(seconds):5.1f} s  {dict(outcomes)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2:] or list(COMMANDS))
