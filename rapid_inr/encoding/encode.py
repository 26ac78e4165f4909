"""Encode a dataset shard by shard, in memory or into files, and merge the shards to a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rapid_inr.data.reading import first_image
from rapid_inr.data.source import ImageSource, name_in_splits
from rapid_inr.encoding.encoder import Encoder
from rapid_inr.encoding.shard import MEASURED, encode_shard
from rapid_inr.errors import require
from rapid_inr.runlog.progress import Report, stage
from rapid_inr.store.merge import Survey, merge
from rapid_inr.store.packed import PackedStore
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder


@dataclass(frozen=True)
class EncodeReport:
    """The result of each encoded image, in the order of the store.

    Args:
        psnr_db: float64 [N], of the stored image, decoded to 8 bits on the device of the encode.
        fit_psnr_db: float64 [N], the same before pruning and quantization.
        attempts: int64 [N], number of fits of each image.
        prune_ratio: float64 [N], the pruned fraction of hidden weights.
        unconverged: names of the images below `fit.min_psnr_db`.
        skipped: a message for each image that could not be read.
        fit_s: seconds in `fit`, including retries and `fit_psnr_db`, but not reading, quantizing and `psnr_db`; on a CPU the
            processor's seconds, of all threads.
        compress_s: seconds of pruning, quantizing and QAT.
    """

    psnr_db: Tensor
    fit_psnr_db: Tensor
    attempts: Tensor
    prune_ratio: Tensor
    unconverged: tuple[str, ...]
    skipped: tuple[str, ...]
    fit_s: float
    compress_s: float


def encode(
    source: ImageSource,
    encoder: Encoder,
    *,
    learn_from: ImageSource | None = None,
    shard_images: int | None = None,
    device: torch.device | str = "cpu",
    on_corrupt: str = "fail",
    made: dict[str, Any] | None = None,
) -> tuple[PackedStore, EncodeReport]:
    """Encode all images of a source in memory; `encode_shards` and `merge` do the same with files.

    Args:
        encoder: a `SirenConfig` or a `CosineConfig`.
        learn_from: images to choose the shared tensors by; None for those of `source`.
        shard_images: number of images encoded together; see `plan_store`.
        on_corrupt: ``fail`` at an image that cannot be read, or ``skip`` it and report it.
        made: provenance as JSON values, kept in the header.

    Returns:
        The store, on the CPU, and the report. Mean and std in the header are those of the train split's images if any could be
        read, else of all encoded images.

    Raises:
        CorruptImage: at an unreadable image if `on_corrupt` is ``fail``.
        UserError: if no image could be read.
    """
    options = {"device": torch.device(device), "on_corrupt": on_corrupt}
    plan = plan_store(source, encoder, learn_from=learn_from, shard_images=shard_images, made=made or {}, **options)
    shared = encoder.choose_shared(learn_from or source, **options)
    shards = [encode_shard(source, encoder, shared, plan, number, **options) for number in range(plan.n_shards)]
    merged = merge(plan, shards, shared)
    return merged.store(), report_of(plan, merged.survey)


def plan_store(
    source: ImageSource,
    encoder: Encoder,
    *,
    learn_from: ImageSource | None = None,
    shard_images: int | None,
    made: dict[str, Any],
    device: torch.device,
    on_corrupt: str = "fail",
) -> StorePlan:
    """Return the plan that all shards of a store share.

    Args:
        learn_from: see `encode`.
        shard_images: number of consecutive images in a shard; None for about a minute of encoding on `device`.
        made: provenance as JSON values, kept in the header.

    Raises:
        CorruptImage: if the first image is unreadable and `on_corrupt` is ``fail``.
        UserError: if `shard_images` is below 1, or a class name is not allowed in a store.
    """
    if shard_images is None:
        height, width = first_image(source, on_corrupt=on_corrupt).shape[:2]
        shard_images = encoder.default_shard_images(n_pixels=height * width, device=device)
    require(shard_images >= 1, "shard_images", shard_images, "at least 1, or null")
    digest = "-".join(images.digest() for images in (source, learn_from) if images is not None)
    return StorePlan(encoder.code, source.splits, source.class_names, len(source), shard_images, digest, made)


def encode_shards(
    source: ImageSource,
    encoder: Encoder,
    shared: dict[str, Tensor],
    folder: ShardFolder,
    numbers: Iterable[int],
    *,
    device: torch.device,
    on_corrupt: str = "fail",
    on_progress: Report | None = None,
    on_shard: Callable[[Shard], None] | None = None,
) -> None:
    """Encode shards of a source into files, one after another; skip those whose file exists.

    Args:
        shared: tensors that all images of the dataset share; see `ShardFolder.share`.
        on_progress: called with the work done since the last call, in images.
        on_shard: called with each written shard.

    Raises:
        CorruptImage: at an unreadable image if `on_corrupt` is ``fail``.
    """
    for number in numbers:
        with stage(on_progress, worth=len(folder.plan.shard(number))) as report:
            if folder.file(number).exists():  # another job has made it in the meantime
                continue
            options = {"device": device, "on_corrupt": on_corrupt, "on_progress": report}
            shard = encode_shard(source, encoder, shared, folder.plan, number, **options)
            folder.write(shard)
            if on_shard is not None:
                on_shard(shard)


def report_of(plan: StorePlan, survey: Survey) -> EncodeReport:
    """Return the report of the images of some shards."""
    measured = {name: survey.measured[name] for name in MEASURED if name != "converged"}
    poor = (~survey.measured["converged"]).nonzero().flatten().tolist()
    unconverged = tuple(name_in_splits(plan.splits, int(survey.ids[i]), survey.names[i] if survey.names else "") for i in poor)
    return EncodeReport(
        **measured,
        unconverged=unconverged,
        skipped=tuple(survey.skipped.values()),
        fit_s=survey.fit_s,
        compress_s=survey.compress_s,
    )
