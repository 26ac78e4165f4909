"""Encoding as configured: plan it, make its shards, merge them, and leave in the run what a person would look at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from experiments.encoding.artifacts import (
    warn_failures,
    warn_over_budget,
    warn_small,
    warn_too_large,
    warn_unpruned,
    write_distributions,
    write_images_csv,
    write_sheet,
)  # fmt: skip
from experiments.encoding.decoded import mean_ssim
from experiments.encoding.jobs import ALONE, Job, build_job_device
from experiments.setup.build import build_fit, build_prune, build_quantize, build_refine, build_source, build_spec, first_image
from experiments.training.provenance import how_made
from rapid_inr.compress.capacity import dense_row_bytes
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encode import SHARD_IMAGES, EncodeReport, Recipe, calibrate_once, encode_shards, plan_store, report_of
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import rates
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import Run, peak_memory_mb
from rapid_inr.store.format import read_store
from rapid_inr.store.merge import Survey, merge
from rapid_inr.store.packed import PackedStore, image_bytes
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder


@dataclass(frozen=True)
class EncodePlan:
    """What to encode and how, checked before any work begins."""

    source: ImageSource
    recipe: Recipe
    image_size: tuple[int, int]  # of the first image


def plan_encode(cfg: DictConfig, *, split: str | None = None) -> EncodePlan:
    """Return what a configuration asks for.

    Raises:
        ValueError: if it is not in order, such as pruning of weights that are stored as floating numbers.
    """
    source = build_source(cfg, split=split)
    fit, quantize, compression = build_fit(cfg), build_quantize(cfg), (build_prune(cfg), build_refine(cfg))
    for key, wanted in (("prune.rule", cfg.prune.rule != "none"), ("refine.steps", cfg.refine.steps > 0)):
        if wanted and not quantize.is_integer:
            # zeros are stored like any other weight there, and no quantization is left to train through
            unset = {"prune.rule": "none", "refine.steps": "0"}[key]
            raise UserError(f"{key} is {OmegaConf.select(cfg, key)}, expected {unset} with quantize.bits={quantize.bits}")
    image_size = first_image(cfg, source).shape[:2]
    return EncodePlan(source, Recipe(build_spec(cfg, image_size=image_size), fit, quantize, *compression), image_size)


def shards_beside(out: Path) -> Path:
    """Return the folder of the shards of an output."""
    return out.with_name(f"{out.name}.shards")


def open_folder(cfg: DictConfig, plan: EncodePlan, *, out: Path, shard_images: int = SHARD_IMAGES) -> ShardFolder:
    """Return the folder for the shards of a plan; ``overwrite=true`` removes from it what is damaged or of another encoding.

    Raises:
        ValueError: if there are shards of another encoding otherwise.
        StoreFormatError: if one is damaged.
    """
    store_plan = plan_store(plan.source, plan.recipe, shard_images=shard_images, made=how_made(cfg))
    folder = ShardFolder(shards_beside(out), store_plan)
    if cfg.overwrite:
        n_removed = folder.discard_others()
        if n_removed:
            files = "file" if n_removed == 1 else "files"
            print(f"removed {n_removed} {files} of another encoding, or damaged, from {folder.path}", file=sys.stderr)
    folder.present()
    return folder


def make_shards(cfg: DictConfig, plan: EncodePlan, folder: ShardFolder, *, job: Job = ALONE) -> None:
    """Encode the shards of a job that are not there yet."""
    own, there = job.shards(folder.plan.n_shards), set(folder.present())
    missing = [number for number in own if number not in there]
    if len(missing) < len(own) and job.speaks:
        print(f"resuming: {len(own) - len(missing)} of {len(own)} shards are there", file=sys.stderr)
    options = {"device": build_job_device(cfg, job), "on_corrupt": cfg.dataset.on_corrupt}
    if not missing:
        return
    work = (plan.source, plan.recipe, calibrate_once(plan.source, plan.recipe, folder, **options), folder, missing)

    def check(part: Shard) -> None:
        if not there and part.number == missing[0] != missing[-1]:
            _require_floor_met(plan.recipe.prune, part, folder)

    if not job.speaks:
        encode_shards(*work, on_shard=check, **options)
        return
    others = set(range(folder.plan.n_shards)) - set(own) - there
    with progress_bar("encode", folder.plan.images, unit="images", done=_images(folder, there)) as bar:

        def note(part: Shard) -> None:
            if len(part) > 0:
                bar.note(f"{part.measured['psnr_db'].mean():.2f} dB")
            made = {number for number in others if folder.file(number).exists()}  # by other jobs, since the last look
            others.difference_update(made)
            bar.advance(_images(folder, made))
            check(part)

        encode_shards(*work, on_progress=bar.advance, on_shard=note, **options)


def _images(folder: ShardFolder, numbers: Iterable[int]) -> int:
    return sum(len(folder.plan.shard(number)) for number in numbers)


def _require_floor_met(config: PruneConfig, part: Shard, folder: ShardFolder) -> None:
    """Refuse to go on after a first shard in which no image has the PSNR from which it would be pruned."""
    best = max(part.measured["fit_psnr_db"].tolist(), default=config.floor_db)
    if config.rule == "floor" and config.mask == "own" and best < config.floor_db:
        raise UserError(
            f"prune.floor_db is {config.floor_db:g}, but the best of the first {len(part):,} images has {best:.2f} dB before "
            f"pruning; their shard is kept in {folder.path}, and the same command goes on without pruning"
        )


def merge_shards(
    folder: ShardFolder, run: Run, *, out: Path, keep_shards: bool = False, source: ImageSource | None = None
) -> tuple[PackedStore, EncodeReport]:
    """Write the store of a folder that is complete, enter table and metrics in the run, and remove the folder last.

    Args:
        source: of the images, where it is at hand: their files are then named in the table.
    """
    merged = merge(folder.plan, folder)
    merged.write(folder.whole_file)
    store, report = read_store(folder.whole_file), report_of(folder.plan, merged.survey)
    os.replace(folder.whole_file, out)
    warn_failures(run, report, folder.plan)
    write_images_csv(run.folder / "images.csv", store, report, source=source)
    run.metrics |= rates(store_bytes=out.stat().st_size, n_pixels=store.n_pixels) | metrics_of(folder.plan, merged.survey)
    run.metrics["device_bytes"] = store.nbytes
    warn_unpruned(run, report, folder.plan)
    warn_over_budget(run, out.stat().st_size, folder.plan)
    write_distributions(run, report, title=f"{out.name}, {len(store):,} images")
    if not keep_shards:
        folder.clear()
    return store, report


def metrics_of(plan: StorePlan, found: Survey) -> dict[str, float]:
    """Return what was measured of some images, as a run keeps it."""
    report, n = report_of(plan, found), len(found.ids)
    return {
        "images": n, "psnr_db": report.psnr_db.mean().item(), "fit_psnr_db": report.fit_psnr_db.mean().item(),
        "min_psnr_db": report.psnr_db.min().item(), **_spread("psnr_db", report.psnr_db),
        **_spread("prune_ratio", report.prune_ratio), "omega": plan.spec.omega, "fit_s": report.fit_s,
        "compress_s": report.compress_s, "fit_ms_per_image": 1e3 * report.fit_s / n,
        "encode_ms_per_image": 1e3 * (report.fit_s + report.compress_s) / n, "unconverged": len(report.unconverged),
        "skipped": len(report.skipped), "prune_ratio": report.prune_ratio.mean().item(), "peak_memory_mb": peak_memory_mb(),
    }  # fmt: skip


def _spread(name: str, values: Tensor) -> dict[str, float]:
    """Return the 5%, 50% and 95% quantiles over images, as ``NAME_p05`` and so on."""
    parts = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
    return {f"{name}_{part}": values.quantile(level).item() for part, level in parts.items()}


def warn_beforehand(cfg: DictConfig, plan: EncodePlan, run: Run) -> None:
    """Say what can be known before any image is fitted, which may take hours."""
    recipe = plan.recipe
    warn_small(run, image_size=plan.image_size, spec=recipe.spec)
    if recipe.prune.rule == "none":
        store_bytes = len(plan.source) * dense_row_bytes(recipe.spec, recipe.quantize)
        warn_too_large(run, cfg, store_bytes=store_bytes, n_images=len(plan.source))


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
    """Carry out a plan, write the store and what there is to see, and enter the metrics in the run.

    Args:
        job: whose shards this process makes.
        wait: returns when those of the other jobs are made too.
    """
    warn_beforehand(cfg, plan, run)
    make_shards(cfg, plan, folder, job=job)
    wait()
    folder.require_complete()
    store, report = merge_shards(folder, run, out=out, keep_shards=keep_shards, source=plan.source)
    if plan.recipe.prune.rule != "none":  # else it was known beforehand
        warn_too_large(run, cfg, store_bytes=store.nbytes, n_images=len(store))
    run.metrics |= mean_ssim(plan.source, store, device=build_job_device(cfg, job)) | {"image_bytes": image_bytes(store)}
    write_sheet(run.picture("contact_sheet.png"), plan.source, store, report)
    return store
