"""Encode a dataset shard by shard, in memory or into files: every shard is a part of the store, and parts are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.calibrate import calibrate
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import NOTHING_SHARED, Calibration, RefineConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource, name_in_splits
from rapid_inr.encoding.shard import DENSE, MEASURED, UNREFINED, Recipe, encode_shard
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig
from rapid_inr.runlog.progress import Report, stage
from rapid_inr.store.merge import Survey, merge
from rapid_inr.store.packed import PackedStore
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder

SHARD_IMAGES = 1024


@dataclass(frozen=True)
class EncodeReport:
    """What became of each image that was encoded, in the order of the store.

    Args:
        psnr_db: float64 [N], of what is stored, as `decode` shows it in 8 bits on the device that encoded.
        fit_psnr_db: float64 [N], the same before quantization.
        attempts: int64 [N], fits that each image took.
        prune_ratio: float64 [N], pruned hidden weights over all.
        unconverged: names of the images that stayed below `fit.min_psnr_db`.
        skipped: one message for each image that could not be read.
        fit_s: seconds inside `fit`, with its retries and its `fit_psnr_db`; reading, quantizing and `psnr_db` do not count.
        compress_s: seconds spent pruning, quantizing and training what was left.
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
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    *,
    prune_config: PruneConfig = DENSE,
    refine_config: RefineConfig = UNREFINED,
    shard_images: int = SHARD_IMAGES,
    device: torch.device | str = "cpu",
    on_corrupt: str = "fail",
    made: dict[str, Any] | None = None,
) -> tuple[PackedStore, EncodeReport]:
    """Encode every image of a source in memory; `encode_shards` and `merge` do the same with files.

    Args:
        shard_images: encoded together; see `plan_store`.
        on_corrupt: ``fail`` at an image that cannot be read, or ``skip`` it and say so in the report.
        made: JSON values on how the store is made, kept in its header.

    Returns:
        The store, on the CPU, and the report. Mean and std of its header are those of the images of the train split where any
        could be read, else of all that were encoded.

    Raises:
        CorruptImage: at an unreadable image, where `on_corrupt` is ``fail``.
        ValueError: if no image could be read.
    """
    recipe = Recipe(spec, fit_config, quantize_config, prune_config, refine_config)
    plan = plan_store(source, recipe, shard_images=shard_images, made=made or {})
    options = {"device": torch.device(device), "on_corrupt": on_corrupt}
    calibration = _calibrate(source, recipe, **options)
    parts = [encode_shard(source, recipe, calibration, plan, number, **options) for number in range(plan.n_shards)]
    merged = merge(plan, parts)
    return merged.store(), report_of(plan, merged.survey)


def plan_store(source: ImageSource, recipe: Recipe, *, shard_images: int, made: dict[str, Any]) -> StorePlan:
    """Return what all parts of a store share.

    Args:
        shard_images: consecutive images of a shard. What a shard holds depends on this and the source, never on who encodes it.
        made: JSON values on how the store is made, kept in its header.

    Raises:
        ValueError: if `shard_images` is below 1.
    """
    if shard_images < 1:
        raise UserError(f"shard_images is {shard_images}, expected at least 1")
    return StorePlan(
        recipe.spec, recipe.quantize, source.splits, source.class_names, len(source), shard_images, _digest(source), made
    )


def _digest(source: ImageSource) -> str:
    """Tell one dataset from another of the same options, such as another folder, by what costs one image to read."""
    found = hashlib.sha256(source.ids.tobytes() + (b"" if source.labels is None else source.labels.tobytes()))
    try:
        found.update(source.read(int(source.ids[0])).tobytes())
    except CorruptImage:
        found.update(b"unreadable")
    return found.hexdigest()[:16]


def calibrate_once(
    source: ImageSource, recipe: Recipe, folder: ShardFolder, *, device: torch.device, on_corrupt: str = "fail"
) -> Calibration:
    """Return what all shards of a folder share: found by the first who comes, and kept with the shards for the others.

    Raises:
        ValueError: see `calibrate`, like `CorruptImage`.
    """
    shared = folder.shared(lambda: _tensors_of(_calibrate(source, recipe, device=device, on_corrupt=on_corrupt)))
    calibration = replace(NOTHING_SHARED, **shared)
    if calibration.hidden_bytes is not None:
        calibration = replace(calibration, hidden_bytes=float(calibration.hidden_bytes))
    return calibration


def encode_shards(
    source: ImageSource,
    recipe: Recipe,
    calibration: Calibration,
    folder: ShardFolder,
    numbers: Iterable[int],
    *,
    device: torch.device,
    on_corrupt: str = "fail",
    on_progress: Report | None = None,
    on_shard: Callable[[Shard], None] | None = None,
) -> None:
    """Encode shards of a source, each into its file as it is finished; those that are there already are left as they are.

    Args:
        calibration: of the whole dataset; see `calibrate_once`.
        on_progress: called with the work done since the last call, in images.
        on_shard: called with what was just written.

    Raises:
        CorruptImage: at an unreadable image, where `on_corrupt` is ``fail``.
    """
    for number in numbers:
        with stage(on_progress, worth=len(folder.plan.shard(number))) as report:
            if folder.file(number).exists():  # since another job has made it
                continue
            options = {"device": device, "on_corrupt": on_corrupt, "on_progress": report}
            part = encode_shard(source, recipe, calibration, folder.plan, number, **options)
            folder.write(part)
            if on_shard is not None:
                on_shard(part)


def _calibrate(source: ImageSource, recipe: Recipe, **options: Any) -> Calibration:
    return calibrate(source, recipe.spec, recipe.fit, prune_config=recipe.prune, quantize_config=recipe.quantize, **options)


def _tensors_of(calibration: Calibration) -> dict[str, Tensor]:
    found = {name: value for name, value in vars(calibration).items() if value is not None}
    return {name: value if torch.is_tensor(value) else torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def report_of(plan: StorePlan, found: Survey) -> EncodeReport:
    """Return what became of the images of some parts."""
    measured = {name: found.measured[name] for name in MEASURED if name != "converged"}
    poor = found.ids[~found.measured["converged"]].tolist()
    unconverged = tuple(name_in_splits(plan.splits, image_id) for image_id in poor)
    return EncodeReport(
        **measured, unconverged=unconverged, skipped=found.skipped, fit_s=found.fit_s, compress_s=found.compress_s
    )
