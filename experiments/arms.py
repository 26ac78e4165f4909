"""The arms of a comparison: the same backbone, augmentation and test set behind every way to feed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file

from experiments.build import build_augment, build_autocast, build_backbone_config, build_device, build_optimize, build_source
from rapid_inr.backbone import build_backbone
from rapid_inr.data import ImageSource, Loaded, load_all
from rapid_inr.data.moments import ChannelMoments, Triple
from rapid_inr.decode import one_size
from rapid_inr.figures import training_curves
from rapid_inr.pipelines.on_device import DevicePipeline, inr_pipeline, resident_pipeline
from rapid_inr.progress import progress_bar
from rapid_inr.store.packed import PackedStore
from rapid_inr.tracking import Run
from rapid_inr.train import EpochReport, train


@dataclass(frozen=True)
class Arm:
    """A pipeline of training batches, and what the test images must share with it."""

    name: str
    pipeline: DevicePipeline
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: Triple
    std: Triple


def load_labelled(source: ImageSource, cfg: DictConfig) -> Loaded:
    if source.labels is None:
        raise ValueError(f"dataset={source.name} has no labels, so nothing can be trained from it")
    return load_all(source, on_corrupt=cfg.dataset.on_corrupt)


def _feed(cfg: DictConfig) -> dict[str, object]:
    return {"batch_size": cfg.optimize.batch_size, "augment": build_augment(cfg), "seed": cfg.seed}


def resident_arm(cfg: DictConfig) -> Arm:
    """Raw uint8 images of the training split, on the device."""
    source = build_source(cfg, split="train")
    loaded, moments = load_labelled(source, cfg), ChannelMoments()
    moments.add(loaded.images.numpy())
    mean, std = moments.mean_std()
    pipeline = resident_pipeline(loaded.images, loaded.labels, mean=mean, std=std, device=build_device(cfg), **_feed(cfg))
    return Arm("resident", pipeline, source.class_names, tuple(loaded.images.shape[1:3]), mean, std)


def inr_arm(cfg: DictConfig, store: PackedStore) -> Arm:
    """The training images of a store, on the device, decoded as they are asked for."""
    store = store.of_split("train").to(build_device(cfg))
    size = one_size(store, torch.arange(len(store)))
    header = store.header
    return Arm("inr", inr_pipeline(store, **_feed(cfg)), header.class_names, size, header.mean, header.std)


def train_arm(cfg: DictConfig, run: Run, arm: Arm) -> list[EpochReport]:
    """Train a fresh backbone from an arm and test it on the clean test images; epochs and weights go to the run."""
    source = build_source(cfg, split="test")
    test = load_labelled(source, cfg)
    if source.class_names != arm.class_names:
        raise ValueError(f"the {arm.name} arm has {len(arm.class_names)} classes that are not those of dataset={source.name}")
    if tuple(test.images.shape[1:3]) != arm.image_size:
        raise ValueError(
            f"test images are {tuple(test.images.shape[1:3])}, the {arm.name} arm's {arm.image_size}; set dataset.size"
        )
    device, optimize = build_device(cfg), build_optimize(cfg)
    clean = resident_pipeline(test.images, test.labels, mean=arm.mean, std=arm.std, device=device, batch_size=256)
    model = build_backbone(build_backbone_config(cfg), n_classes=len(arm.class_names), image_size=arm.image_size, seed=cfg.seed)
    with progress_bar(f"train {arm.name}", optimize.epochs, unit="epochs") as bar:

        def on_epoch(report: EpochReport) -> None:
            run.log(arm=arm.name, **asdict(report))
            bar.advance(1)
            bar.note(f"{report.images_per_s:,.0f} images/s · loss {report.loss:.3f} · top-1 {report.top1_pct:.1f}%")

        reports = train(model, arm.pipeline, clean, optimize, device=device, autocast=build_autocast(cfg), on_epoch=on_epoch)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, run.folder / f"{arm.name}.safetensors")
    return reports


def draw_curves(run: Run, reports: Mapping[str, list[EpochReport]], *, title: str) -> None:
    """Draw the epochs of each arm into the run, or note that the drawing library is not installed."""
    curves = {name: [asdict(report) for report in epochs] for name, epochs in reports.items()}
    try:
        training_curves(run.picture("curves.png"), curves, title=title)
    except ImportError as error:
        run.warn("no_curves", str(error))
