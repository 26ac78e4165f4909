"""`python -m experiments.encode`: turn a dataset into a store, one packed file of INRs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from experiments.encoding.artifacts import say_store
from experiments.encoding.encode_job import EncodePlan, encode_dataset, make_shards, may_replace, open_folder, plan_encode
from experiments.encoding.jobs import Job, build_job, waiting
from experiments.encoding.merging import metrics_of
from experiments.encoding.warn import warn_beforehand
from experiments.setup.cli import main
from experiments.setup.run_folder import require_file_can_be_written, sole_writer, start_run
from rapid_inr.store.merge import take_survey
from rapid_inr.store.shards import ShardFolder


def run_encode(cfg: DictConfig) -> None:
    out, job = Path(cfg.out), build_job(cfg)
    require_file_can_be_written(out, overwrite=may_replace(cfg, out))
    plan = plan_encode(cfg)
    with waiting(job) as wait:
        folder = open_in_turn(cfg, plan, job, wait)
        try:
            if not job.speaks:
                make_shards(cfg, plan, folder, job=job)
                wait()
            elif job.merges:
                encode_whole(cfg, plan, folder, job, wait)
            else:
                encode_share(cfg, plan, folder, job)
        except KeyboardInterrupt:
            if job.speaks and folder.present():
                print(f"\n{len(folder.present())} shards are kept in {folder.path}; the same command continues", file=sys.stderr)
            raise


def open_in_turn(cfg: DictConfig, plan: EncodePlan, job: Job, wait: Callable[[], None]) -> ShardFolder:
    """Open the folder of the shards. Under torchrun the first process opens it before the others: it may remove files."""
    options = {"out": Path(cfg.out), "shard_images": cfg.shard_images}
    if not job.speaks:
        wait()
        return open_folder(cfg, plan, **options)
    try:
        return open_folder(cfg, plan, **options)
    finally:
        wait()  # after a refusal too, so that the others end with the same line


def encode_whole(cfg: DictConfig, plan: EncodePlan, folder: ShardFolder, job: Job, wait: Callable[[], None]) -> None:
    out = Path(cfg.out)
    with sole_writer(out, folder=folder.path):
        with start_run(cfg, "encode") as run:
            encode_dataset(cfg, plan, folder, run, out=out, job=job, wait=wait, keep_shards=True)
        if not cfg.keep_shards:
            folder.clear()  # after the run has ended: until then they show that it did not
    say_store(out, run)


def encode_share(cfg: DictConfig, plan: EncodePlan, folder: ShardFolder, job: Job) -> None:
    own = job.shards(folder.plan.n_shards)
    with start_run(cfg, "encode") as run:
        warn_beforehand(cfg, run, source=plan.source, encoder=plan.encoder, image_size=plan.image_size)
        make_shards(cfg, plan, folder, job=job)
        shards = list(folder.read(own))
        run.metrics |= metrics_of(folder.plan, take_survey(shards)) if any(map(len, shards)) else {"images": 0}
    print(
        f"shard {cfg.shard}: {len(own)} of {folder.plan.n_shards} shards, {run.metrics['images']:,} images, in {folder.path}; "
        f"when all are there: python -m experiments.merge out={cfg.out}"
    )


if __name__ == "__main__":
    main("encode", run_encode)
