"""Open the input pipeline of a training: every way to feed the same network the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.setup.build import build_augment, build_autocast, build_device, build_source
from experiments.setup.distributed import ranks, world_size
from experiments.setup.groups import FROM_FILES, sides
from experiments.setup.run_folder import start_run
from experiments.training.provenance import dataset_facts, require_exported_from, require_made_from, rows_of
from experiments.training.store_cache import export_on_demand, metrics_of, store_on_demand
from rapid_inr.data import DatasetMissing, ImageSource, Loaded, load_all
from rapid_inr.data.export import Export, read_export
from rapid_inr.data.moments import ChannelMoments, Triple
from rapid_inr.data.source import keep
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import bpp, rgb_pct
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import DeviceTooSmall, require_fits
from rapid_inr.pipelines.dali import dali_pipeline, require_dali
from rapid_inr.pipelines.dataloader import FileImages, fail_on, loader_pipeline
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.nvjpeg import nvjpeg_pipeline, require_nvjpeg
from rapid_inr.pipelines.ram import ram_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.runlog.named_warnings import STORE_DOES_NOT_FIT
from rapid_inr.store.decode import one_size
from rapid_inr.store.families import code_settings
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, StoreTooLarge, store_rates


@dataclass
class Faults:
    """Collects what is wrong with skipped files, each message once; with ``on_corrupt=fail`` the first one is raised."""

    on_corrupt: str
    messages: dict[str, None] = field(default_factory=dict)  # an ordered set

    def __call__(self, messages: Sequence[str]) -> None:
        if self.on_corrupt == "fail":
            fail_on(messages)
        self.messages |= dict.fromkeys(messages)


@dataclass(frozen=True)
class TrainingInput:
    """A pipeline of training batches, with what the test images must share.

    Args:
        name: of the pipeline.
        skipped: a message for each image left out before training.
        faults: the messages of images left out during training.
        metrics: for the record: bytes in memory, and the store or files that the images come from.
        made: how the images were made from those of the dataset, as JSON values; empty for raw images.
    """

    name: str
    pipeline: BatchPipeline
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: Triple
    std: Triple
    skipped: tuple[str, ...] = ()
    faults: Faults | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)


def open_input(cfg: DictConfig) -> TrainingInput:
    """Return the input pipeline that ``pipeline`` names. Its store or files are made if they are missing."""
    require_runnable(cfg)
    with suppress(DatasetMissing):  # a store may do without the files
        require_batch(cfg, n_images=len(build_source(cfg, split="train")))
    openers: dict[str, Callable[[DictConfig], TrainingInput]] = {
        "resident": resident_input, "ram": ram_input, "inr": store_input
    }  # fmt: skip
    data = openers.get(cfg.pipeline.name, file_input)(cfg)
    data.metrics.update(device_bytes=data.pipeline.nbytes, host_bytes=data.pipeline.host_bytes)
    if "rgb_pct" not in data.metrics:  # for files and raw images
        n_pixels = len(data.pipeline) * data.image_size[0] * data.image_size[1]
        cost = {"n_bytes": int(data.metrics.get("file_bytes", 3 * n_pixels)), "n_pixels": n_pixels}
        data.metrics.update(bpp=bpp(**cost), rgb_pct=rgb_pct(**cost))
    return data


def open_input_in_run(cfg: DictConfig) -> TrainingInput:
    """Do the same. If the GPU has no memory for a store, leave a run with a named warning."""
    try:
        return open_input(cfg)
    except (DeviceTooSmall, StoreTooLarge) as error:
        if cfg.pipeline.name != "inr":
            raise
        with start_run(cfg, "train") as run:
            run.warn(STORE_DOES_NOT_FIT, str(error))
            raise


def require_runnable(cfg: DictConfig) -> None:
    """Refuse a pipeline that cannot run on this machine, before its store or files are made.

    Raises:
        PipelineUnavailable: if a library or a GPU is missing.
        UserError: if several processes would wait for each other, or one process is asked to share a store.
    """
    name = cfg.pipeline.name
    if name.startswith("dali"):
        require_dali()
    if name == "nvjpeg":
        require_nvjpeg(build_device(cfg))
    if cfg.pipeline.shard_store and world_size() == 1:
        raise UserError(
            "pipeline.shard_store is true, but there is one process; start several with: "
            "torchrun --nproc-per-node=N -m experiments.train ..."
        )
    if name in FROM_FILES and cfg.dataset.on_corrupt == "skip" and world_size() > 1:
        raise UserError(
            f"dataset.on_corrupt is skip, but pipeline={name} finds corrupt files as it trains: of {world_size()} processes one "
            "would skip a batch that the others wait for; expected fail"
        )


def require_batch(cfg: DictConfig, *, n_images: int) -> None:
    """Refuse a batch that is larger than the training split, before its store or files are made."""
    n_batch = cfg.optimizer.batch_size
    if n_batch > n_images:
        raise UserError(
            f"optimizer.batch_size is {n_batch}, more than the {n_images} training images; set it to {n_images} or less"
        )


def pipeline_dtype(cfg: DictConfig) -> torch.dtype:
    return torch.bfloat16 if build_autocast(cfg) else torch.float32


def _common_options(cfg: DictConfig) -> dict[str, Any]:
    """Return the options that all pipelines share."""
    return {
        "batch_size": cfg.optimizer.batch_size, "augment": build_augment(cfg), "seed": cfg.seed, "dtype": pipeline_dtype(cfg),
        **ranks(),
    }  # fmt: skip


def load_labelled(source: ImageSource, cfg: DictConfig) -> Loaded:
    """Load a source; refuse one without labels."""
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so nothing can be trained from it")
    return load_all(source, on_corrupt=cfg.dataset.on_corrupt)


def resident_input(cfg: DictConfig) -> TrainingInput:
    """Raw uint8 images of the training split, on the device."""
    return _raw_input(cfg, "resident", resident_pipeline)


def ram_input(cfg: DictConfig) -> TrainingInput:
    """Raw uint8 images of the training split in host memory, through a DataLoader."""
    return _raw_input(cfg, "ram", ram_pipeline, workers=cfg.pipeline.workers, prefetch=cfg.pipeline.prefetch)


def _raw_input(cfg: DictConfig, name: str, make: Callable[..., BatchPipeline], **options: Any) -> TrainingInput:
    source = build_source(cfg, split="train")
    loaded, moments = load_labelled(source, cfg), ChannelMoments()
    moments.add(loaded.images.numpy())
    mean, std = moments.mean_std()
    options |= {"mean": mean, "std": std, "device": build_device(cfg), **_common_options(cfg)}
    pipeline = make(loaded.images, loaded.labels, **options)
    return TrainingInput(name, pipeline, source.class_names, pipeline.image_size, mean, std, skipped=loaded.skipped)


def store_input(cfg: DictConfig) -> TrainingInput:
    """The training images in ``store``, or in a store made on demand, decoded batch by batch."""
    path = Path(cfg.store) if cfg.store else store_on_demand(cfg, split="train")
    store = read_store(path)
    data = inr_input(cfg, store, shard_store=cfg.pipeline.shard_store)
    data.metrics.update({"store": str(path)}, **store_rates(store, store_bytes=path.stat().st_size))
    encoded = metrics_of(path)
    data.metrics.update({f"store_{name}": encoded[name] for name in ("psnr_db", "encode_ms_per_image") if name in encoded})
    return data


def inr_input(cfg: DictConfig, store: PackedStore, *, shard_store: bool = False) -> TrainingInput:
    """The training images of ``cfg.dataset`` in a store, on the device.

    Raises:
        UserError: if the store was made from another dataset or lacks some of the images.
        DeviceTooSmall: if the store does not fit in the device's memory; with `shard_store`, if this process's share does not.
    """
    require_made_from(store, cfg)
    store, device = _training_rows(store, cfg), build_device(cfg)
    size, header = decode_size(cfg, store), store.header
    if not shard_store:
        require_fits(store.nbytes, n_images=len(store), device=device, what="the store's images")
    pipeline = inr_pipeline(store, size=size, device=device, shard_store=shard_store, **_common_options(cfg))
    made = code_settings(header.code) | header.made
    return TrainingInput("inr", pipeline, header.class_names, size, header.mean, header.std, made=made)


def _training_rows(store: PackedStore, cfg: DictConfig) -> PackedStore:
    """Return the training images of ``cfg.dataset`` in a store; where their files are gone, all that it was asked to hold."""
    try:
        source = build_source(cfg, split="train")
    except DatasetMissing:
        made, asked = store.header.made["dataset"], dataset_facts(cfg)
        if store.labels is None or any(made.get(key) != asked.get(key) for key in ("limit", "exclude")):
            raise
        return store.of_split("train")
    return rows_of(store, source, on_corrupt=cfg.dataset.on_corrupt)


def decode_size(cfg: DictConfig, store: PackedStore) -> tuple[int, int]:
    """Return the (height, width) to decode at: ``dataset.size``, or the size that all images have."""
    if cfg.dataset.size is not None:
        return sides(cfg.dataset.size)
    try:
        return one_size(store, torch.arange(len(store)))
    except ValueError:
        raise UserError("the training images in the store differ in size; set dataset.size=S to decode them at one") from None


def file_input(cfg: DictConfig) -> TrainingInput:
    """The training images as exported files, read by the library that ``pipeline`` names.

    Raises:
        ExportError: if ``files`` names no export.
        UserError: if the files were made from another dataset, some are missing, or they differ in size.
    """
    folder = Path(cfg.files) if cfg.files else export_on_demand(cfg)
    export = read_export(folder)
    require_exported_from(export, cfg)
    paths, labels = _files_of(export, build_source(cfg, split="train"))
    if export.size is None:
        raise UserError(f"the images in {export.folder} differ in size; export them with dataset.size=S")
    name, faults = cfg.pipeline.name, Faults(cfg.dataset.on_corrupt)
    options = _common_options(cfg) | {"on_faults": faults, "device": build_device(cfg)}
    options |= {"image_size": export.size, "mean": export.mean, "std": export.std}
    if name == "dataloader":
        images, workers = FileImages(paths, export.size), {"workers": cfg.pipeline.workers, "prefetch": cfg.pipeline.prefetch}
        pipeline = loader_pipeline(images, labels, **workers, **options)
    elif name == "nvjpeg":
        pipeline = nvjpeg_pipeline(paths, labels, **options)
    else:
        recipe = {"recipe": "published"} if name == "dali_published" else {"prefetch": cfg.pipeline.prefetch}
        pipeline = dali_pipeline(paths, labels, threads=cfg.pipeline.workers, **recipe, **options)
    metrics = {"files": str(folder), "file_bytes": sum(path.stat().st_size for path in paths if path.is_file())}
    exported = metrics_of(folder)
    metrics |= {f"files_{key}": exported[key] for key in ("quality", "psnr_db", "export_ms_per_image") if key in exported}
    return TrainingInput(
        name, pipeline, export.class_names, export.size, export.mean, export.std, faults=faults, metrics=metrics,
        made=export.settings,
    )  # fmt: skip


def _files_of(export: Export, source: ImageSource) -> tuple[list[Path], Tensor]:
    """Return the files of a source's images, in its order, and their labels."""
    split = export.splits["train"]
    source = keep(source, ~np.isin(source.ids, split.skipped))
    at = {image_id: position for position, image_id in enumerate(split.ids)}
    missing = [image_id for image_id in source.ids.tolist() if image_id not in at]
    if missing:
        raise UserError(
            f"{export.folder} lacks {len(missing)} of the {len(source)} training images, the first {source.name_of(missing[0])}; "
            "set dataset.limit, dataset.exclude and dataset.on_corrupt as when it was exported"
        )
    chosen = [at[image_id] for image_id in source.ids.tolist()]
    labels = np.array(split.labels, dtype=np.int64)[chosen]
    if export.class_names != source.class_names or source.labels is None or labels.tolist() != source.labels.tolist():
        raise UserError(f"the labels in {export.folder} are not those of dataset={source.name}")
    paths = export.paths("train")
    return [paths[position] for position in chosen], torch.from_numpy(labels)
