"""The arms of a comparison: the same backbone, augmentation and test set behind every way to feed it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from experiments.build import build_augment, build_autocast, build_device, build_source
from experiments.held_out import load_labelled
from experiments.provenance import require_made_from, rows_of
from rapid_inr.data.moments import ChannelMoments, Triple
from rapid_inr.decode import one_size
from rapid_inr.pipelines.on_device import DevicePipeline, inr_pipeline, resident_pipeline
from rapid_inr.store.packed import PackedStore


@dataclass(frozen=True)
class Arm:
    """A pipeline of training batches, what the test images must share with it, and a message for each image left out."""

    name: str
    pipeline: DevicePipeline
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: Triple
    std: Triple
    skipped: tuple[str, ...] = ()


def pipeline_dtype(cfg: DictConfig) -> torch.dtype:
    return torch.bfloat16 if build_autocast(cfg) else torch.float32


def _feed(cfg: DictConfig) -> dict[str, object]:
    return {
        "batch_size": cfg.optimize.batch_size, "augment": build_augment(cfg), "seed": cfg.seed, "dtype": pipeline_dtype(cfg),
    }  # fmt: skip


def resident_arm(cfg: DictConfig) -> Arm:
    """Raw uint8 images of the training split, on the device."""
    source = build_source(cfg, split="train")
    loaded, moments = load_labelled(source, cfg), ChannelMoments()
    moments.add(loaded.images.numpy())
    mean, std = moments.mean_std()
    pipeline = resident_pipeline(loaded.images, loaded.labels, mean=mean, std=std, device=build_device(cfg), **_feed(cfg))
    return Arm("resident", pipeline, source.class_names, tuple(loaded.images.shape[1:3]), mean, std, loaded.skipped)


def inr_arm(cfg: DictConfig, store: PackedStore) -> Arm:
    """The training images of ``cfg.dataset`` in a store, on the device, decoded as they are asked for.

    Raises:
        ValueError: if the store was made from another dataset or lacks some of the images.
    """
    require_made_from(store, cfg)
    store = rows_of(store, build_source(cfg, split="train"), on_corrupt=cfg.dataset.on_corrupt).to(build_device(cfg))
    pipeline_size = decode_size(cfg, store)
    header = store.header
    pipeline = inr_pipeline(store, size=pipeline_size, **_feed(cfg))
    return Arm("inr", pipeline, header.class_names, pipeline_size, header.mean, header.std)


def decode_size(cfg: DictConfig, store: PackedStore) -> tuple[int, int]:
    """Return the (height, width) to decode at: ``dataset.size``, or what the images share."""
    size = cfg.dataset.size
    if size is not None:
        return (size, size) if isinstance(size, int) else tuple(size)
    try:
        return one_size(store, torch.arange(len(store)))
    except ValueError:
        raise ValueError("the training images in the store differ in size; set dataset.size=S to decode them at one") from None
