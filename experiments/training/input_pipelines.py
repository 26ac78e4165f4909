"""The arms of a comparison: the same backbone, augmentation and test set behind every way to feed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.setup.build import build_augment, build_autocast, build_device, build_source
from experiments.setup.processes import place, world_size
from experiments.training.provenance import require_exported_from, require_made_from, rows_of
from experiments.training.test_set import load_labelled
from rapid_inr.data import ImageSource, Loaded
from rapid_inr.data.export import Export, read_export
from rapid_inr.data.moments import ChannelMoments, Triple
from rapid_inr.data.source import CorruptImage, keep
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import bpp, rates, rgb_pct
from rapid_inr.pipelines.batches import require_fits
from rapid_inr.pipelines.dali import dali_pipeline
from rapid_inr.pipelines.dataloader import FileImages, loader_pipeline, ram_images
from rapid_inr.pipelines.nvjpeg import nvjpeg_pipeline
from rapid_inr.pipelines.on_device import inr_pipeline, resident_pipeline
from rapid_inr.pipelines.pipeline import BatchPipeline
from rapid_inr.store.decode import one_size
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore

FROM_FILES = ("dataloader", "dali", "dali_published", "nvjpeg")
ARMS = ("resident", "ram", "inr", *FROM_FILES)


@dataclass
class Faults:
    """What was wrong with files that were left out, once each; or an error at the first where `on_corrupt` is ``fail``."""

    on_corrupt: str
    messages: dict[str, None] = field(default_factory=dict)  # a set that keeps its order

    def __post_init__(self) -> None:
        if self.on_corrupt not in ("fail", "skip"):
            raise UserError(f"dataset.on_corrupt is {self.on_corrupt!r}, expected fail or skip")

    def __call__(self, messages: Sequence[str]) -> None:
        if messages and self.on_corrupt == "fail":
            raise CorruptImage(messages[0])
        self.messages |= dict.fromkeys(messages)


@dataclass(frozen=True)
class Arm:
    """A pipeline of training batches, what the test images must share with it, and what is to be told of it.

    Args:
        skipped: a message for each image left out before training.
        faults: those left out while it goes on.
        metrics: bytes, where the images lie.
        made: how its images were made from those of the dataset, as JSON values; empty where they are the same.
    """

    name: str
    pipeline: BatchPipeline
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: Triple
    std: Triple
    skipped: tuple[str, ...] = ()
    faults: Faults | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)


def pipeline_dtype(cfg: DictConfig) -> torch.dtype:
    return torch.bfloat16 if build_autocast(cfg) else torch.float32


def feed(cfg: DictConfig) -> dict[str, Any]:
    """Return what all pipelines are told alike."""
    return {
        "batch_size": cfg.optimizer.batch_size, "augment": build_augment(cfg), "seed": cfg.seed, "dtype": pipeline_dtype(cfg),
        **place(),
    }  # fmt: skip


def _load_train(cfg: DictConfig) -> tuple[ImageSource, Loaded, dict[str, Triple]]:
    source = build_source(cfg, split="train")
    loaded, moments = load_labelled(source, cfg), ChannelMoments()
    moments.add(loaded.images.numpy())
    mean, std = moments.mean_std()
    return source, loaded, {"mean": mean, "std": std}


def resident_arm(cfg: DictConfig) -> Arm:
    """Raw uint8 images of the training split, on the device."""
    source, loaded, moments = _load_train(cfg)
    pipeline = resident_pipeline(loaded.images, loaded.labels, device=build_device(cfg), **moments, **feed(cfg))
    return Arm("resident", pipeline, source.class_names, pipeline.image_size, **moments, skipped=loaded.skipped)


def ram_arm(cfg: DictConfig) -> Arm:
    """Raw uint8 images of the training split in the host's memory, through a DataLoader."""
    source, loaded, moments = _load_train(cfg)
    size = tuple(loaded.images.shape[1:3])
    pipeline = loader_pipeline(
        ram_images(loaded.images, loaded.labels, workers=cfg.pipeline.workers), loaded.labels, image_size=size,
        device=build_device(cfg), workers=cfg.pipeline.workers, prefetch=cfg.pipeline.prefetch, **moments, **feed(cfg),
    )  # fmt: skip
    return Arm("ram", pipeline, source.class_names, size, **moments, skipped=loaded.skipped)


def inr_arm(cfg: DictConfig, store: PackedStore, *, shard_store: bool = False) -> Arm:
    """The training images of ``cfg.dataset`` in a store, on the device, decoded as they are asked for.

    Raises:
        ValueError: if the store was made from another dataset or lacks some of the images.
        DeviceTooSmall: if it, or with `shard_store` this process's share of it, does not fit the memory of the device.
    """
    require_made_from(store, cfg)
    store, device = rows_of(store, build_source(cfg, split="train"), on_corrupt=cfg.dataset.on_corrupt), build_device(cfg)
    size, header = decode_size(cfg, store), store.header
    if not shard_store:
        require_fits(store.nbytes, n_images=len(store), device=device, what="the store's images")
    pipeline = inr_pipeline(store, size=size, device=device, shard_store=shard_store, **feed(cfg))
    made = {"inr": asdict(header.spec), "quantize": asdict(header.quantize), **header.made}
    return Arm("inr", pipeline, header.class_names, size, header.mean, header.std, made=made)


def decode_size(cfg: DictConfig, store: PackedStore) -> tuple[int, int]:
    """Return the (height, width) to decode at: ``dataset.size``, or what the images share."""
    size = cfg.dataset.size
    if size is not None:
        return (size, size) if isinstance(size, int) else tuple(size)
    try:
        return one_size(store, torch.arange(len(store)))
    except ValueError:
        raise UserError("the training images in the store differ in size; set dataset.size=S to decode them at one") from None


def file_arm(cfg: DictConfig) -> Arm:
    """The exported files of ``cfg.dataset``'s training images, through the library that ``pipeline`` names.

    Raises:
        ExportError: if ``files`` names no export.
        ValueError: if the files were made from another dataset, lack some of the images, or differ in size.
        PipelineUnavailable: if the library cannot be had here.
    """
    export = read_export(cfg.files)
    require_exported_from(export, cfg)
    paths, labels = _files_of(export, build_source(cfg, split="train"))
    if export.size is None:
        raise UserError(f"the images in {export.folder} differ in size; export them with dataset.size=S")
    name, on_faults, options = cfg.pipeline.name, Faults(cfg.dataset.on_corrupt), feed(cfg)
    options |= {"image_size": export.size, "mean": export.mean, "std": export.std, "device": build_device(cfg)}
    options |= {"on_faults": on_faults}
    if name == "dataloader":
        images, workers = FileImages(paths, export.size), {"workers": cfg.pipeline.workers, "prefetch": cfg.pipeline.prefetch}
        pipeline = loader_pipeline(images, labels, **workers, **options)
    elif name == "nvjpeg":
        pipeline = nvjpeg_pipeline(paths, labels, **options)
    else:
        recipe = {"recipe": "published"} if name == "dali_published" else {"prefetch": cfg.pipeline.prefetch}
        pipeline = dali_pipeline(paths, labels, threads=cfg.pipeline.workers, **recipe, **options)
    metrics = {"file_bytes": sum(path.stat().st_size for path in paths if path.is_file())}
    return Arm(
        name, pipeline, export.class_names, export.size, export.mean, export.std, faults=on_faults, metrics=metrics,
        made=export.settings,
    )  # fmt: skip


def _files_of(export: Export, source: ImageSource) -> tuple[list[Path], Tensor]:
    """Return the files of a source's images, in its order, and their labels."""
    split = export.splits["train"]
    at = {image_id: position for position, image_id in enumerate(split.ids)}
    source = keep(source, ~np.isin(source.ids, split.skipped))
    missing = [image_id for image_id in source.ids.tolist() if image_id not in at]
    if missing:
        raise UserError(
            f"{export.folder} lacks {len(missing)} of the {len(source)} training images, the first {source.name_of(missing[0])}; "
            "set dataset.limit and dataset.exclude as when it was exported"
        )
    chosen = [at[image_id] for image_id in source.ids.tolist()]
    labels = np.array(split.labels, dtype=np.int64)[chosen]
    if export.class_names != source.class_names or source.labels is None or labels.tolist() != source.labels.tolist():
        raise UserError(f"the labels in {export.folder} are not those of dataset={source.name}")
    paths = export.paths("train")
    return [paths[position] for position in chosen], torch.from_numpy(labels)


def require_inputs(cfg: DictConfig) -> None:
    """Refuse an arm without what it reads, or with what it does not read."""
    name = cfg.pipeline.name
    if name == "inr" and cfg.store is None:
        raise UserError(
            "pipeline=inr needs store=FILE.inr; write one with: python -m experiments.encode dataset=... out=FILE.inr"
        )
    if name in FROM_FILES and cfg.files is None:
        raise UserError(
            f"pipeline={name} needs files=FOLDER; write one with: python -m experiments.export dataset=... out=FOLDER"
        )
    if cfg.pipeline.get("shard_store", False) and world_size() == 1:
        raise UserError(
            "pipeline.shard_store is true, but there is one process; start several with: "
            "torchrun --nproc-per-node=N -m experiments.train ..."
        )
    if name != "inr" and cfg.store is not None:
        raise UserError(f"pipeline={name} reads no store; for store=FILE.inr set pipeline=inr")
    if name not in FROM_FILES and cfg.files is not None:
        raise UserError(f"pipeline={name} reads no files; for files=FOLDER set pipeline to one of {', '.join(FROM_FILES)}")
    if name in FROM_FILES and cfg.dataset.on_corrupt == "skip" and world_size() > 1:
        raise UserError(
            f"dataset.on_corrupt is skip, but pipeline={name} finds corrupt files as it trains: of {world_size()} processes one "
            "would skip a batch that the others wait for; expected fail"
        )


def stored_arm(cfg: DictConfig) -> Arm:
    """The arm of the store that ``store`` names, with its rates of compression."""
    store = read_store(cfg.store)
    arm = inr_arm(cfg, store, shard_store=cfg.pipeline.shard_store)
    arm.metrics.update(rates(store_bytes=Path(cfg.store).stat().st_size, n_pixels=store.n_pixels))
    return arm


def open_arm(cfg: DictConfig) -> Arm:
    """Return the arm that ``pipeline`` names, ready to train from."""
    require_inputs(cfg)
    special: dict[str, Callable[[DictConfig], Arm]] = {"resident": resident_arm, "ram": ram_arm, "inr": stored_arm}
    arm = special.get(cfg.pipeline.name, file_arm)(cfg)
    arm.metrics.update(device_bytes=arm.pipeline.nbytes, host_bytes=arm.pipeline.host_bytes)
    if "rgb_pct" not in arm.metrics:  # of files, or of images that are raw
        n_pixels = len(arm.pipeline) * arm.image_size[0] * arm.image_size[1]
        cost = {"n_bytes": int(arm.metrics.get("file_bytes", 3 * n_pixels)), "n_pixels": n_pixels}
        arm.metrics.update(bpp=bpp(**cost), rgb_pct=rgb_pct(**cost))
    return arm
