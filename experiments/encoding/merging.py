"""From shards to a store, with its table and metrics in the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.encoding.artifacts import write_distributions, write_images_csv
from experiments.encoding.warn import warn_codebooks, warn_failures, warn_unpruned
from experiments.setup.left_out import warn_left_out
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encode import EncodeReport, report_of
from rapid_inr.runlog.run import Run, peak_memory_mb
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.merge import Survey, merge
from rapid_inr.store.packed import PackedStore, store_rates
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder

NO_LIMIT = 1 << 62  # pixels of an image that has been encoded already


def merge_shards(
    folder: ShardFolder, run: Run, *, out: Path, source: ImageSource | None = None, reused: Shard | None = None
) -> tuple[PackedStore, EncodeReport]:
    """Write the store of a complete folder to ``folder.whole_file``, read it again, and enter table and metrics in the run.

    Args:
        out: what the store will be called.
        source: of the images, where it is at hand: the table then has their digests.
        reused: images that no shard has.
    """
    survey = _write_whole(folder) if reused is None else _write_with(reused, folder)
    store, report = read_store(folder.whole_file, max_pixels=NO_LIMIT), report_of(folder.plan, survey)
    if source is None:
        warn_left_out(run, report.skipped, n_images=folder.plan.images)
    else:
        warn_left_out(run, report.skipped, passed_over=source.passed_over, n_images=source.n_opened)
    warn_failures(run, report, folder.plan)
    warn_unpruned(run, report, folder.plan)
    write_images_csv(run.folder / "images.csv", store, report, source=source)
    write_distributions(run, report, title=f"{out.name}, {len(store):,} images")
    run.metrics |= store_rates(store, store_bytes=folder.whole_file.stat().st_size)
    run.metrics |= metrics_of(folder.plan, survey) | {"device_bytes": store.nbytes, "shared_s": folder.shared_s}
    warn_codebooks(run)
    run.metrics |= {} if reused is None else {"reused": len(reused)}
    return store, report


def _write_whole(folder: ShardFolder) -> Survey:
    merged = merge(folder.plan, folder, folder.shared())
    merged.write(folder.whole_file)
    return merged.survey


def _write_with(reused: Shard, folder: ShardFolder) -> Survey:
    """Write the store of the shards and of images that none of them has, in the order of their ids, all in memory."""
    merged = merge(folder.plan, [reused, *folder], {})
    survey, order = merged.survey, merged.survey.ids.argsort()
    store = merged.store().take(order)
    if torch.equal(store.source_ids, torch.arange(len(store))):
        store = replace(store, source_ids=None)
    write_store(folder.whole_file, store, overwrite=True)
    measured = {name: values[order] for name, values in survey.measured.items()}
    return replace(survey, ids=survey.ids[order], sizes=survey.sizes[order], measured=measured)


def metrics_of(plan: StorePlan, survey: Survey) -> dict[str, float]:
    """Return what was measured of some images, as a run keeps it."""
    report, n = report_of(plan, survey), len(survey.ids)
    fitted = {"fit_psnr_db": report.fit_psnr_db.mean().item()} if "fit" in plan.made else {}  # a cosine series is not fitted
    return {
        "images": n, "psnr_db": report.psnr_db.mean().item(), **fitted,
        "min_psnr_db": report.psnr_db.min().item(), **_spread("psnr_db", report.psnr_db),
        **_spread("prune_ratio", report.prune_ratio), **plan.code.facts(), "fit_s": report.fit_s,
        "compress_s": report.compress_s, "fit_ms_per_image": 1e3 * report.fit_s / n,
        "encode_ms_per_image": 1e3 * (report.fit_s + report.compress_s) / n, "unconverged": len(report.unconverged),
        "skipped": len(report.skipped), "prune_ratio": report.prune_ratio.mean().item(), "peak_memory_mb": peak_memory_mb(),
    }  # fmt: skip


def _spread(name: str, values: Tensor) -> dict[str, float]:
    """Return the 5%, 50% and 95% quantiles over images, as ``NAME_p05`` and so on."""
    levels = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
    return {f"{name}_{suffix}": values.quantile(level).item() for suffix, level in levels.items()}
