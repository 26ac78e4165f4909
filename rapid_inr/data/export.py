"""Export a dataset as image files, so that all pipelines that read files see the same images.

FOLDER/settings.json                the settings of the files, written first: a second start continues the first
FOLDER/train/CLASS/train_00000.jpg  one file an image, written atomically
FOLDER/index.json                   the list of files, written last: a folder with an index is complete
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rapid_inr.data.astc import BLOCKS, SUFFIX, encode_astc
from rapid_inr.data.moments import ChannelMoments, Triple
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import ImageSource, name_in_splits
from rapid_inr.errors import UserError
from rapid_inr.files import atomic, remove_torn
from rapid_inr.runlog.differences import first_difference
from rapid_inr.runlog.run import write_json

FORMATS = {"jpeg": ".jpg", "webp": ".webp", "png": ".png", "astc": SUFFIX}
# the blocks of ASTC by falling size, so of rising quality
ASTC_BLOCKS = sorted(BLOCKS, key=lambda block: -math.prod(map(int, block.split("x"))))
QUALITIES = {"jpeg": (1, 95), "webp": (0, 100), "astc": (0, len(BLOCKS) - 1)}  # png is lossless
_SAVE = {"jpeg": {"optimize": True}, "webp": {"method": 6}, "png": {}}  # the options that give the smallest files
_ASTC_EFFORT = 60  # "medium"; "thorough" gains 0.1 dB and takes twice as long
_SAMPLE = 256  # images used to choose a quality
LOCK = ".lock"  # held by the process that writes to the folder
_FILE = re.compile(r"(train|test)/[^/]+/(train|test)_\d{5,}\.(jpg|webp|png|astc)")


class ExportError(UserError):
    """A folder is not a complete export, or has other settings; the message names the folder."""


@dataclass(frozen=True)
class ExportedSplit:
    """The files of a split, relative to the folder, their ids in the source and classes, and the ids of skipped images."""

    files: tuple[str, ...]
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    skipped: tuple[int, ...]


@dataclass(frozen=True)
class Export:
    """An exported folder of image files.

    Args:
        settings: dataset, format and quality of the files.
        class_names: in the order of the labels.
        size: (height, width) of all images, or None if they differ.
        mean, std: per channel, of the training images before encoding.
        splits: by name.
        n_bytes: of all files.
    """

    folder: Path
    settings: dict[str, Any]
    class_names: tuple[str, ...]
    size: tuple[int, int] | None
    mean: Triple
    std: Triple
    splits: dict[str, ExportedSplit]
    n_bytes: int

    def paths(self, split: str) -> list[Path]:
        return [self.folder / file for file in self.splits[split].files]


def encode_image(pixels: np.ndarray, *, format: str, quality: int | None) -> bytes:
    """Encode an image, uint8 [height, width, 3], and return the file.

    Args:
        quality: within `QUALITIES`, None for PNG; of ASTC the position in `ASTC_BLOCKS`.
    """
    if format == "astc":
        return encode_astc(pixels, effort=_ASTC_EFFORT, block=ASTC_BLOCKS[quality])
    data = io.BytesIO()
    options = _SAVE[format] | ({} if quality is None else {"quality": quality})
    Image.fromarray(pixels).save(data, format=format, **options)
    return data.getvalue()


def even_sample(source: ImageSource, n_images: int = _SAMPLE) -> list[int]:
    """Return the ids of at most `n_images` images, spaced evenly over a source."""
    return source.ids[np.unique(np.linspace(0, len(source) - 1, min(n_images, len(source))).round().astype(int))].tolist()


def quality_for_bytes(source: ImageSource, n_bytes: float, *, format: str = "jpeg") -> int:
    """Return the highest quality at which an even sample of images takes at most `n_bytes` an image on average.

    Raises:
        ValueError: if it takes more even at the lowest quality.
    """
    images = [source.read(image_id) for image_id in even_sample(source)]

    def mean_bytes(quality: int) -> float:
        return sum(len(encode_image(image, format=format, quality=quality)) for image in images) / len(images)

    low, high = QUALITIES[format]
    least = mean_bytes(low)
    if least > n_bytes:
        raise UserError(f"bytes is {n_bytes:,.0f} an image, but {format} takes {least:,.0f} even at quality {low}")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if mean_bytes(middle) <= n_bytes else (low, middle - 1)
    return low


def export_images(
    sources: Mapping[str, ImageSource],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    mean_std: tuple[Triple, Triple] | None = None,
    on_corrupt: str = "fail",
    on_progress: Callable[[int], None] = lambda n: None,
    on_skipped: Callable[[str], None] = lambda message: None,
    on_written: Callable[[int], None] = lambda n: None,
    overwrite: bool = False,
) -> Export:
    """Write the images of each split to a folder, except those that an earlier start wrote; one process at a time.

    Args:
        sources: by split, including "train"; all have its labels and classes.
        settings: JSON values, including "format" and "quality" of `encode_image`.
        mean_std: of the normalisation; None for those of the training images.
        on_corrupt: as `read_chunks`.
        on_skipped: called with a message on each skipped image.
        on_written: called with the number of files written since the last call, without those that already existed.
        overwrite: whether to remove an export of other settings first; other files are kept.

    Raises:
        ExportError: if the folder holds an export of other settings, or files that are not an export's.
        ValueError: if there are no labels.
    """
    settings = json.loads(json.dumps(dict(settings)))
    _claim(folder, settings, overwrite=overwrite)
    moments, splits, sizes, n_bytes = ChannelMoments(), {}, set(), 0
    for split, source in sources.items():
        folders, files, ids, labels, skipped = _class_folders(source), [], [], [], {}
        for chunk in read_chunks(source, 256, on_corrupt=on_corrupt):
            n_written = 0
            for image_id, pixels, label in zip(chunk.ids.tolist(), chunk.images, chunk.labels.tolist(), strict=True):
                file = f"{split}/{folders[label]}/{name_in_splits(source.splits, image_id)}{FORMATS[settings['format']]}"
                n_written += not (folder / file).is_file()
                n_bytes += _write(folder / file, pixels, settings)
                sizes.add(pixels.shape[:2])
                files.append(file)
                if split == "train":
                    moments.add(pixels)
            ids += chunk.ids.tolist()
            labels += chunk.labels.tolist()
            on_progress(len(chunk.ids) + len(chunk.skipped))
            on_written(n_written)
            skipped |= chunk.skipped
            for message in chunk.skipped.values():
                on_skipped(message)
        splits[split] = ExportedSplit(tuple(files), tuple(ids), tuple(labels), tuple(skipped))
    mean, std = mean_std or moments.mean_std()
    size = tuple(map(int, sizes.pop())) if len(sizes) == 1 else None
    export = Export(folder, settings, sources["train"].class_names, size, mean, std, splits, n_bytes)
    write_json(folder / "index.json", {key: value for key, value in asdict(export).items() if key != "folder"})
    return export


def _class_folders(source: ImageSource) -> list[str]:
    """Return the folder name of each class, by label; raise ValueError if two classes would share one."""
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so it has no class folders")
    folders = [name.replace("/", "_").replace("\\", "_").lstrip(".") or "_" for name in source.class_names]
    if len(set(folders)) < len(folders):
        raise UserError(f"dataset={source.name} has classes whose names make the same folder")
    return folders


def _claim(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    path = folder / "settings.json"
    existing = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if existing is not None:
        differs = first_difference(existing, settings)
        if differs is None:
            for below in (folder, *folder.glob("*/*/")):
                remove_torn(below)
            return
        if not overwrite:
            key, before, now = differs
            raise ExportError(
                f"{folder} holds an export with {key}={before}, this is {key}={now}; choose another folder, or overwrite=true"
            )
        _remove(folder)
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise ExportError(f"{folder} holds files that are not an export; name an empty or a new folder")
    write_json(path, settings)


def _remove(folder: Path) -> None:
    """Remove an export, its settings last, so that after an interruption the rest is still recognised as an export."""
    files = [path for path in folder.glob("*/*/*") if _FILE.fullmatch(path.relative_to(folder).as_posix())]
    for path in (folder / "index.json", *files, folder / "settings.json"):
        path.unlink(missing_ok=True)
    for path in sorted({path.parent for path in files} | {path.parents[1] for path in files}, reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _write(path: Path, pixels: np.ndarray, settings: dict[str, Any]) -> int:
    """Write an image unless its file exists; return the size of the file in bytes."""
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_bytes(encode_image(pixels, format=settings["format"], quality=settings["quality"]))
    return path.stat().st_size


def read_export(folder: Path | str) -> Export:
    """Read the index of a folder of exported images.

    Raises:
        ExportError: if there is no index, or the file is not one.
    """
    folder = Path(folder)
    how = f"write it with: python -m experiments.export dataset=... out={folder}"
    if not (folder / "index.json").is_file():
        begun = "an unfinished" if (folder / "settings.json").is_file() else "no"
        raise ExportError(f"{folder} holds {begun} export; {how}")
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        splits = {
            name: ExportedSplit(*(tuple(split[key]) for key in ("files", "ids", "labels", "skipped")))
            for name, split in index["splits"].items()
        }
        return Export(
            folder, index["settings"], tuple(index["class_names"]), None if index["size"] is None else tuple(index["size"]),
            tuple(index["mean"]), tuple(index["std"]), splits, index["n_bytes"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{folder / 'index.json'} is not the index of an export ({error}); {how}") from None
