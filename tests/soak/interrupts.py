"""`python -m tests.soak.interrupts [TIMES [COMMAND ...]]`: Ctrl-C at random moments: code 130, one line, a true record."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from tests.soak.commands import SHAPES, TINY, empty_folder, finish, group_lives, start, stop

TRAIN = (*SHAPES, "dataset.count=256", "backbone=resnet18_w8", "optimizer.epochs=8", "optimizer.batch_size=32")
COMMANDS = {
    "encode": (*TINY, "dataset.count=400", "shard_images=40", "fit.steps=300", "out=o.inr"),
    "merge": ("out=m.inr", "track=off", "keep_shards=true"),
    "train": (*TRAIN, "pipeline=inr", "store=s.inr", "run_dir=run"),
    "train_workers": (*TRAIN, "pipeline=dataloader", "files=files", "pipeline.workers=2"),
    "export": (*SHAPES, "dataset.count=4000", "format=png", "out=e"),
    "decode": ("store=s.inr", "out=pictures", "track=off"),
    "info": ("store=s.inr",),
    "benchmark": (*TINY, "suite=fit", "dataset.count=64", "dataset.test_limit=null"),
    "tables": ("root=runs",),
    "compare": ("root=runs",),
    "report": ("root=runs", "out=report.html"),
}


def check(name: str, rng: random.Random, seconds: float) -> str:
    """Interrupt a command once; return what was wrong, ``ended`` where it was faster, or ``interrupted``."""
    for path in ("run", "o.inr", "o.inr.shards", "e", "pictures", "m.inr"):
        shutil.rmtree(path, ignore_errors=True)
        Path(path).unlink(missing_ok=True)
    if name == "merge":
        shutil.copytree("kept.shards", "m.inr.shards", dirs_exist_ok=True)
    own = () if name in ("info", "tables", "compare", "report") else ("run_dir=run",)
    process = start(name.partition("_")[0], *COMMANDS[name], *own)
    code, err = stop(process, rng.uniform(0.03, seconds), signal.SIGINT)
    if group_lives(process):
        return "left a process"
    if code == 0:
        return "ended"
    record = Path("run/record.json")
    status = json.loads(record.read_text())["status"] if record.exists() else "none"
    faults = [
        *([f"code {code}"] if code not in (130, -signal.SIGINT) else []),
        *(["traceback"] if "Traceback" in err else []),
        *([f"record says {status}"] if status not in ("none", "interrupted", "finished") else []),
    ]
    return f"{', '.join(faults)}: {err[-600:]}" if faults else "interrupted"


def main(times: int, names: list[str]) -> None:
    rng, outcomes = random.Random(0), {name: Counter() for name in COMMANDS}
    with empty_folder():
        finish("encode", *TINY, "dataset.count=256", "fit.steps=20", "out=s.inr", "run_dir=runs/encode")
        finish("encode", *TINY, "dataset.count=64", "fit.steps=20", "shard_images=8", "out=m.inr", "keep_shards=true")
        shutil.copytree("m.inr.shards", "kept.shards")
        finish("export", *SHAPES, "dataset.count=256", "format=png", "out=files")
        short_s = finish("info", "store=s.inr")  # on this machine, as busy as it is
        for name in names:
            for _ in range(times):
                outcomes[name][check(name, rng, seconds=(4 if name.startswith("train") else 2.5) * short_s)] += 1
            print(f"{name:14s} {dict(outcomes[name])}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2:] or list(COMMANDS))
