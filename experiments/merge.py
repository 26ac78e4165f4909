"""`python -m experiments.merge`: join the shards of several encode jobs into one store."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from experiments.encoding.artifacts import say_store
from experiments.encoding.encode_job import may_replace, shards_beside
from experiments.encoding.merging import merge_shards
from experiments.setup.cli import main
from experiments.setup.run_folder import require_file_can_be_written, sole_writer, start_run
from rapid_inr.store.shards import open_shards


def run_merge(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    folder = open_shards(shards_beside(out))
    require_file_can_be_written(out, overwrite=may_replace(cfg, out))
    with sole_writer(out, folder=folder.path):
        folder.require_complete()
        with start_run(cfg, "merge") as run:
            merge_shards(folder, run, out=out)
            os.replace(folder.whole_file, out)
        if not cfg.keep_shards:
            folder.clear()
    say_store(out, run)


if __name__ == "__main__":
    main("merge", run_merge)
