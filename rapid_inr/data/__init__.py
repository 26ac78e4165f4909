"""Image sources, generated or read from files; `open_source` opens one by name."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path

from rapid_inr.data.cifar import cifar10, cifar100
from rapid_inr.data.flowers import flowers102
from rapid_inr.data.folder import flat, image_folder, mini_imagenet
from rapid_inr.data.pixels import MAX_PIXELS
from rapid_inr.data.reading import Loaded, load_all
from rapid_inr.data.shapes import shapes as generated_shapes  # the name itself is the module
from rapid_inr.data.source import CorruptImage, DatasetMissing, ImageSource, require_split
from rapid_inr.data.source import exclude as exclude_ids
from rapid_inr.data.source import limit as limit_to
from rapid_inr.data.source import resize as resize_to
from rapid_inr.errors import UserError, require

__all__ = ["READERS", "CorruptImage", "DatasetMissing", "ImageSource", "Loaded", "load_all", "open_source"]

_FROM_FILES = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "flowers102": flowers102,
    "mini_imagenet": mini_imagenet,
    "image_folder": image_folder,
    "flat": flat,
}
READERS = {"shapes": generated_shapes, **_FROM_FILES}
_WITHOUT_IMAGE_FILES = ("cifar10", "cifar100")
_COMMON = ("root", "split", "download", "max_pixels")  # a reader's arguments that are named in `open_source`


def open_source(
    name: str,
    *,
    root: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    test_limit: int | None = None,
    size: int | None = None,
    resize: str = "stretch",
    exclude: str | Path | Iterable[int | str] | None = None,
    download: bool = False,
    max_pixels: int = MAX_PIXELS,
    **options: object,
) -> ImageSource:
    """Open a source by name, drop the excluded images, keep at most `limit` of the others and resize them.

    Args:
        name: one of `READERS`.
        root: folder of the data, by default ``data/<name>``; generated shapes need none.
        split: train, test, or all (train, then test).
        limit: most training images to keep, drawn evenly from all classes; also limits images without a split.
        test_limit: the same for test images.
        size: side of the square that images are resized to; shapes are drawn at it and also take (height, width).
        resize: ``"stretch"`` or ``"crop"``.
        exclude: names such as ``train/cat/7.jpg`` or ``train_00008``, ids in the order of ``split="all"``, or a JSON file with a
            list of them or a record with that list as ``"index"``; images of the other split are ignored.
        download: whether to fetch missing data from its official address, if it has one.
        max_pixels: largest number of pixels of an image file; a file with more counts as corrupt.
        options: further arguments of the reader.

    Raises:
        UserError: if an argument is unknown or out of range; the message lists the choices.
        DatasetMissing: if the data is missing.
        CorruptImage: if a file of the dataset is damaged.
        DownloadFailed: if a download failed.
    """
    require(name in READERS, "dataset", repr(name), f"one of {', '.join(READERS)}")
    require_split(split)
    _check_options(name, options)
    if name == "shapes":
        source = generated_shapes(split, **options if size is None else {**options, "size": size})
    else:
        folder = Path("data", name) if root is None else Path(root)
        require(max_pixels >= 1, "dataset.max_pixels", max_pixels, "at least 1")
        if name not in _WITHOUT_IMAGE_FILES:
            options["max_pixels"] = max_pixels
        source = _FROM_FILES[name](folder, split, download=download, **options)
    if exclude is not None:
        source = exclude_ids(source, _own_ids(source, split, exclude))
    source = limit_to(source, limit, n_test=test_limit)
    return source if size is None or name == "shapes" else resize_to(source, size, resize)


def _check_options(name: str, options: Iterable[str]) -> None:
    known = [option for option in inspect.signature(READERS[name]).parameters if option not in _COMMON]
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option!r}, expected one of: {', '.join(known) or 'none'}")


def _own_ids(source: ImageSource, split: str, exclude: str | Path | Iterable[int]) -> list[int]:
    """Translate ids in the order of ``split="all"`` into those of a source of one split."""
    where, ids = "exclude", exclude
    if isinstance(exclude, str | Path):
        where = str(exclude)
        try:
            ids = json.loads(Path(exclude).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"exclude: {where} cannot be read as JSON ({error})") from error
        ids = ids.get("index") if isinstance(ids, dict) else ids
        if not isinstance(ids, list):
            raise UserError(f'exclude: {where} holds neither a list of ids nor a record with one as "index"')
    of_files = any("/" in str(value) for value in ids)
    named = {source.name_of(image_id): image_id for image_id in range(source.n_opened)} if of_files else {}
    elsewhere = set() if split == "all" else {"train", "test"} - set(dict(source.splits))
    ids = [_id_of(value, source, named, elsewhere, where) for value in ids]
    if split == "all":
        return ids
    return [image_id - source.offset for image_id in ids if 0 <= image_id - source.offset < source.n_opened]


def _id_of(value: int | str, source: ImageSource, named: dict[str, int], elsewhere: set[str], where: str) -> int:
    """Return the id in the order of ``split="all"`` of an id or a name; -1 for a file of a split `elsewhere`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and "/" in value:
        if value not in named and value.partition("/")[0] not in elsewhere:
            raise UserError(f"{where}: {value!r} is no image of {source.name}, expected a name such as {source.name_of(0)}")
        return source.offset + named[value] if value in named else -1
    name = re.fullmatch(r"(train|test|all)_(\d+)", value) if isinstance(value, str) else None
    if name is None:
        raise UserError(f"{where}: {value!r} is not an id, expected an integer of at least 0, or a name such as train_00008")
    return int(name[2]) + (dict(source.splits).get("train", source.offset) if name[1] == "test" else 0)
