"""The images of a dataset, loaded with their labels, and what is to be learnt of them."""

from __future__ import annotations

from omegaconf import DictConfig

from rapid_inr.data import ImageSource, Loaded, load_all
from rapid_inr.errors import UserError


def is_segmentation(cfg: DictConfig) -> bool:
    """Return whether masks are learnt; a command without a ``task``, such as the demo, classifies."""
    return cfg.get("task") == "segmentation"


def load_labelled(source: ImageSource, cfg: DictConfig) -> Loaded:
    """Load a source that has labels."""
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so nothing can be trained from it")
    return load_all(source, on_corrupt=cfg.dataset.on_corrupt)
