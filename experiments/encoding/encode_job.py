"""Encode a dataset as configured: plan it, make its shards, merge them, and show in the run what came out.

The store takes its name last, when table, figures and metrics are written. So the shards, which are removed only then, tell a run
that ended too early, and the same command finishes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from experiments.encoding.artifacts import write_sheet
from experiments.encoding.decoded import measure_decoded
from experiments.encoding.jobs import ALONE, Job
from experiments.encoding.merging import NO_LIMIT, merge_shards
from experiments.encoding.reuse import REUSED, find_reusable
from experiments.encoding.warn import require_floor_met, warn_beforehand, warn_too_large
from experiments.setup.build import build, build_device, build_encoder, build_source
from experiments.setup.run_folder import sole_writer
from experiments.training.provenance import how_made, learning_source
from rapid_inr.data.reading import first_image, require_images
from rapid_inr.data.source import ImageSource, exclude
from rapid_inr.encoding.encode import encode_shards, plan_store
from rapid_inr.encoding.encoder import Encoder
from rapid_inr.errors import UserError
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, image_bytes
from rapid_inr.store.plan import plan_difference
from rapid_inr.store.shards import Shard, ShardFolder, open_shards, shards_beside


@dataclass(frozen=True)
class EncodePlan:
    """What to encode and how, checked before any work begins.

    Args:
        reused: images of the source that an earlier run has encoded; None if there are none.
        new: those that are left to encode.
        learn_from: images by which what all images share is chosen; None for those of the source.
        image_size: (height, width) of the first image.
        stamps: of the source's files, as they are now.
    """

    source: ImageSource
    reused: Shard | None
    new: ImageSource
    learn_from: ImageSource | None
    encoder: Encoder
    image_size: tuple[int, int]
    stamps: np.ndarray


def plan_encode(cfg: DictConfig, *, split: str | None = None) -> EncodePlan:
    """Return what a configuration asks for.

    Raises:
        UserError: if it is not in order, such as pruning of weights that are stored as floating numbers.
    """
    source, learn_from = build_source(cfg, split=split), learning_source(cfg)
    if cfg.dataset.on_corrupt == "fail":
        require_images(source)
    image_size = first_image(learn_from or source, on_corrupt=cfg.dataset.on_corrupt).shape[:2]
    encoder, stamps = build_encoder(cfg, image_size=image_size), source.stamps()
    reused = None if cfg.get("reuse") is None else find_reusable(cfg, source, encoder.code)
    new = source if reused is None else exclude(source, reused.ids.tolist())
    return EncodePlan(source, reused, new, learn_from, encoder, image_size, stamps)


def may_replace(cfg: DictConfig, out: Path) -> bool:
    """Return whether a store may be replaced: with ``overwrite``, or by its own shards, which show that its run did not end."""
    folder = None if cfg.overwrite or not out.exists() else _own_shards(out)
    return cfg.overwrite if folder is None else not folder.missing()


def _own_shards(out: Path) -> ShardFolder | None:
    """Return the shards beside a store if they are of its plan."""
    with suppress(FileNotFoundError, UserError):
        folder, header = open_shards(shards_beside(out)), read_store(out, max_pixels=NO_LIMIT).header
        plan = folder.plan
        if (header.code, header.splits, header.made) == (plan.code, plan.splits, plan.made):
            return folder
    return None


def finish_removal(cfg: DictConfig, out: Path) -> bool:
    """Remove what a kill has left of the shards of a whole store; return whether there was anything."""
    path = shards_beside(out)
    if cfg.overwrite or not out.is_file() or not path.is_dir():
        return False
    with sole_writer(out, folder=path):  # which removes the lock and the folder too
        if any(path.glob("*.shard")):
            folder = _own_shards(out)
            if folder is None or not folder.missing():
                return False
            folder.clear()
    print(f"{out} is whole; what was left of its shards is removed")
    return True


def open_folder(cfg: DictConfig, plan: EncodePlan, *, out: Path, shard_images: int | None = None) -> ShardFolder:
    """Return the folder for the shards of a plan; ``overwrite=true`` removes from it what is damaged or of another encoding.

    Args:
        shard_images: images of a shard; None for as many as existing shards have, or as take about a minute.

    Raises:
        UserError: if there are shards of another encoding otherwise.
        StoreFormatError: if one is damaged.
    """
    reused = {} if plan.reused is None else {REUSED: len(plan.reused)}
    store_plan = plan_store(
        plan.new, plan.encoder, learn_from=plan.learn_from, shard_images=shard_images, made=how_made(cfg) | reused,
        device=build_device(cfg), on_corrupt=cfg.dataset.on_corrupt,
    )  # fmt: skip
    folder = ShardFolder(shards_beside(out), store_plan)
    if shard_images is None:
        with suppress(FileNotFoundError, UserError):
            begun = open_shards(folder.path).plan
            as_begun = replace(store_plan, shard_images=begun.shard_images)
            if not plan_difference(begun.values(), as_begun.values()):
                folder = replace(folder, plan=as_begun)
    if cfg.overwrite:
        n_removed = folder.discard_others()
        if n_removed:
            files = "file" if n_removed == 1 else "files"
            print(f"removed {n_removed} {files} of another encoding, or damaged, from {folder.path}", file=sys.stderr)
    folder.present()
    return folder


def encode_dataset(
    cfg: DictConfig,
    plan: EncodePlan,
    folder: ShardFolder,
    run: Run,
    *,
    out: Path,
    job: Job = ALONE,
    wait: Callable[[], None] = lambda: None,
    keep_shards: bool = False,
) -> PackedStore:
    """Carry out a plan, write what there is to see and the metrics in the run, then the store.

    Args:
        job: whose shards this process makes.
        wait: returns when those of the other jobs are made too.
    """
    warn_beforehand(cfg, run, source=plan.source, encoder=plan.encoder, image_size=plan.image_size)
    make_shards(cfg, plan, folder, job=job)
    wait()
    folder.require_complete()
    require_unchanged(plan)
    store, report = merge_shards(folder, run, out=out, source=plan.source, reused=plan.reused)
    if cfg.prune.rule != "none":  # else it was known beforehand
        warn_too_large(cfg, run, store_bytes=store.nbytes, n_images=len(store))
    run.metrics |= measure_decoded(plan.source, store, device=build_device(cfg)) | {"image_bytes": image_bytes(store)}
    write_sheet(run.picture("contact_sheet.png"), plan.source, store, report)
    os.replace(folder.whole_file, out)
    if not keep_shards:
        folder.clear()
    return store


def make_shards(cfg: DictConfig, plan: EncodePlan, folder: ShardFolder, *, job: Job = ALONE) -> None:
    """Encode the shards of a job that do not exist yet."""
    own, present = job.shards(folder.plan.n_shards), set(folder.present())
    missing = [number for number in own if number not in present]
    if len(missing) < len(own) and job.speaks:
        print(f"resuming: {len(own) - len(missing)} of {len(own)} shards exist", file=sys.stderr)
    if not missing:
        return
    options = {"device": build_device(cfg), "on_corrupt": cfg.dataset.on_corrupt}
    if job.speaks and folder.plan.code.shared and not folder.shared_file.exists():
        print(f"choosing what all images share as {folder.plan.code}", file=sys.stderr)
    shared = folder.share(lambda: plan.encoder.choose_shared(plan.learn_from or plan.source, **options))
    work = (plan.new, plan.encoder, shared, folder, missing)

    def check(shard: Shard) -> None:
        if not present and shard.number == missing[0] != missing[-1]:
            require_floor_met(build(cfg.prune), shard, folder)

    if not job.speaks:
        encode_shards(*work, on_shard=check, **options)
        return
    others = set(range(folder.plan.n_shards)) - set(own) - present
    with progress_bar("encode", folder.plan.images, unit="images", done=_images(folder, present)) as bar:

        def note(shard: Shard) -> None:
            if len(shard) > 0:
                bar.note(f"{shard.measured['psnr_db'].mean():.2f} dB")
            made = {number for number in others if folder.file(number).exists()}  # by other jobs, since the last look
            others.difference_update(made)
            bar.advance(_images(folder, made))
            check(shard)

        encode_shards(*work, on_progress=bar.advance, on_shard=note, **options)


def _images(folder: ShardFolder, numbers: Iterable[int]) -> int:
    return sum(len(folder.plan.shard(number)) for number in numbers)


def require_unchanged(plan: EncodePlan) -> None:
    """Refuse to end with a store of images of which some were replaced meanwhile.

    Raises:
        UserError: that names the first.
    """
    changed = np.flatnonzero((plan.source.stamps() != plan.stamps).any(1))
    if len(changed) > 0:
        raise UserError(
            f"{len(changed)} files have changed since this encoding began, the first: {plan.source.image_files()[changed[0]]}; "
            "encode again with overwrite=true"
        )
