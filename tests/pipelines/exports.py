"""Small exports of generated images, for the tests of pipelines that read files."""

from __future__ import annotations

from pathlib import Path

from rapid_inr.data import open_source
from rapid_inr.data.export import Export, export_images

N, SIZE = 30, (32, 32)


def small_export(folder: Path, *, format: str = "png") -> Export:
    """Write N training and 5 test images into a folder."""
    sources = {
        split: open_source("shapes", split=split, size=SIZE[0], count=N, test_count=5, classes=3) for split in ("train", "test")
    }
    return export_images(sources, folder, settings={"format": format, "quality": 90, "dataset": {"name": "shapes"}})
