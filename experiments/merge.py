"""`python -m experiments.merge`: the shards that several jobs have encoded become one packed file."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.cli import main
from experiments.encoding import merge_shards, parts_beside
from experiments.outputs import say_store
from experiments.runs import require_file_can_be_written, start_run
from rapid_inr.store.parts import open_parts


def run_merge(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    folder = open_parts(parts_beside(out))
    require_file_can_be_written(out, overwrite=cfg.overwrite)
    folder.require_complete()
    with start_run(cfg, "merge") as run:
        merge_shards(folder, run, out=out, keep_parts=cfg.keep_parts)
    say_store(out, run)


if __name__ == "__main__":
    main("merge", run_merge)
