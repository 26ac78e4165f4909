"""The images that a training is evaluated on: clean test images, decoded test images, and a validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from experiments.setup.build import build_device, build_source
from experiments.setup.distributed import ranks
from experiments.setup.groups import encodes_tests
from experiments.training.inputs import TrainingInput, decode_size, load_labelled, pipeline_dtype
from experiments.training.provenance import missing_images, require_made_from, rows_of
from experiments.training.store_cache import metrics_of, store_on_demand
from rapid_inr.data import Loaded
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.runlog.run import Run
from rapid_inr.store.format import read_store

TEST_BATCH, TEST_PIXELS = 1024, {"cpu": 2**18, "cuda": 2**23}  # most images, and pixels, in a batch of tests
_STREAM = 3  # so that the validation split shares no random numbers with other uses of the seed


@dataclass(frozen=True)
class TestSet:
    """The clean test images. They are loaded first: most errors of a dataset show there, before any expensive work."""

    loaded: Loaded
    class_names: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        return tuple(self.loaded.images.shape[1:3])


def load_test_set(cfg: DictConfig) -> TestSet:
    """Load the test images of ``cfg.dataset``."""
    source = build_source(cfg, split="test")
    return TestSet(load_labelled(source, cfg), source.class_names)


def require_match(test: TestSet, *, class_names: tuple[str, ...], image_size: tuple[int, int]) -> None:
    """Refuse training images whose classes or size differ from those of the test images.

    Raises:
        UserError: if they differ.
    """
    if test.class_names != class_names:
        raise UserError(f"the {len(class_names)} classes of the training images are not the {len(test.class_names)} of the test")
    if test.image_size != tuple(image_size):
        (h, w), (test_h, test_w) = image_size, test.image_size
        raise UserError(f"training images are {h}x{w}, test images {test_h}x{test_w}; set dataset.size=S")


def warn_untested(run: Run, test: TestSet) -> None:
    """Warn of classes without a test image."""
    tested = set(test.loaded.labels.tolist())
    untested = [name for label, name in enumerate(test.class_names) if label not in tested]
    if untested:
        named = f"{len(untested)} of {len(test.class_names)} classes have no test image: {', '.join(untested)}"
        run.warn("untested_classes", f"{named}; the accuracy says nothing about them; a higher dataset.val_fraction tests more")


def test_pipeline(cfg: DictConfig, data: TrainingInput, test: TestSet) -> BatchPipeline:
    """Return the clean test images, normalised like the training images."""
    images = resident_pipeline(test.loaded.images, test.loaded.labels, mean=data.mean, std=data.std, **_options(cfg, data))
    return with_masks(images, cfg, split="test")


def decoded_pipeline(cfg: DictConfig, data: TrainingInput) -> tuple[BatchPipeline | None, dict[str, Any]]:
    """Return the test images as INRs, normalised like the training images, and metrics of their store; None without a store.

    The store is ``test_store``, which must hold all test images; with ``test_on_decoded`` one made on demand, if the training
    images are INRs or made with them; or ``store``, if it holds all of them.
    """
    path = _decoded_store(cfg)
    if path is None:
        return None, {}
    store, source = read_store(path), build_source(cfg, split="test")
    options = {"on_corrupt": cfg.dataset.on_corrupt, "split": "test"}
    if cfg.test_store is None and not cfg.test_on_decoded and missing_images(store, source, **options):
        return None, {}
    require_made_from(store, cfg)
    store = rows_of(store, source, **options)
    store = replace(store, header=replace(store.header, mean=data.mean, std=data.std))  # its own are of test images
    if decode_size(cfg, store) != tuple(data.image_size):
        raise UserError(f"the decoded test images are {decode_size(cfg, store)}, the training images {tuple(data.image_size)}")
    images = inr_pipeline(store, size=data.image_size, **_options(cfg, data))
    encoded = metrics_of(path)
    metrics = {"test_store": str(path)} | ({"test_store_psnr_db": encoded["psnr_db"]} if "psnr_db" in encoded else {})
    return with_masks(images, cfg, split="test"), metrics


def _decoded_store(cfg: DictConfig) -> Path | None:
    if cfg.test_store is not None:
        return Path(cfg.test_store)
    if encodes_tests(cfg):
        return store_on_demand(cfg, split="test")
    return Path(cfg.store) if cfg.store is not None and cfg.pipeline.name == "inr" else None


def _options(cfg: DictConfig, data: TrainingInput) -> dict[str, Any]:
    device = build_device(cfg)
    return {"device": device, "batch_size": test_batch(data.image_size, device), "dtype": pipeline_dtype(cfg), **ranks()}


def test_batch(image_size: tuple[int, int], device: torch.device) -> int:
    """Return how many images of (height, width) to test at once."""
    return max(1, min(TEST_BATCH, TEST_PIXELS[device.type] // (image_size[0] * image_size[1])))


def split_validation(pipeline: BatchPipeline, share: float, *, seed: int) -> tuple[BatchPipeline, BatchPipeline | None]:
    """Return the pipeline to train on, and that of the validation split: its images in order, without augmentation."""
    if share == 0:
        return pipeline, None
    count = max(1, round(share * len(pipeline)))
    if len(pipeline) - count < pipeline.batch_size:
        raise UserError(
            f"optimizer.validation_split is {share:g}, which leaves {len(pipeline) - count} of {len(pipeline)} images, fewer "
            f"than optimizer.batch_size={pipeline.batch_size}"
        )
    order = torch.from_numpy(np.random.default_rng((seed, _STREAM)).permutation(len(pipeline)))
    kept, trained = order[:count].sort().values, order[count:].sort().values
    batch_size = test_batch(pipeline.image_size, pipeline.device)
    return replace(pipeline, subset=trained), replace(pipeline, subset=kept, seed=None, augment=None, batch_size=batch_size)


def is_segmentation(cfg: DictConfig) -> bool:
    """Return whether the task is segmentation; a command without ``task``, such as the demo, classifies."""
    return cfg.get("task") == "segmentation"


def with_masks(pipeline: BatchPipeline, cfg: DictConfig, *, split: str) -> BatchPipeline:
    """Return a pipeline; for segmentation its labels are the images' masks.

    Raises:
        UserError: if the dataset has no masks.
    """
    if not is_segmentation(cfg):
        return pipeline
    return replace(pipeline, labels=load_masks(cfg, split=split).to(pipeline.device), masks=True)


def load_masks(cfg: DictConfig, *, split: str) -> Tensor:
    """Return the masks of ``cfg.dataset``, uint8 [N, height, width], 0 for the background and class + 1 elsewhere."""
    source = build_source(cfg, split=split)
    if source.read_mask is None:
        raise UserError(f"dataset={source.name} has no masks to learn from; dataset=shapes has")
    return torch.from_numpy(np.stack([source.read_mask(image_id) for image_id in source.ids.tolist()]))
