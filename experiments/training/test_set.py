"""The test images: loaded before any expensive work, since most of what is wrong with a dataset shows there."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from experiments.setup.build import build_source
from rapid_inr.data import ImageSource, Loaded, load_all
from rapid_inr.errors import UserError


@dataclass(frozen=True)
class TestSet:
    """The clean test images, loaded."""

    loaded: Loaded
    class_names: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        return tuple(self.loaded.images.shape[1:3])


def load_labelled(source: ImageSource, cfg: DictConfig) -> Loaded:
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so nothing can be trained from it")
    return load_all(source, on_corrupt=cfg.dataset.on_corrupt)


def load_test_set(cfg: DictConfig) -> TestSet:
    """Load the test images of ``cfg.dataset``."""
    source = build_source(cfg, split="test")
    return TestSet(load_labelled(source, cfg), source.class_names)


def require_match(test: TestSet, *, class_names: tuple[str, ...], image_size: tuple[int, int]) -> None:
    """Refuse training images that have other classes or another size than the test images.

    Raises:
        ValueError: if they differ.
    """
    if test.class_names != class_names:
        raise UserError(f"the {len(class_names)} classes of the training images are not the {len(test.class_names)} of the test")
    if test.image_size != tuple(image_size):
        (h, w), (test_h, test_w) = image_size, test.image_size
        raise UserError(f"training images are {h}x{w}, test images {test_h}x{test_w}; set dataset.size=S")
