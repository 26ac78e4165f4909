"""`python -m experiments.decode`: turn a store into pictures, or several stores into a sheet that compares them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import torch
from omegaconf import DictConfig, ListConfig
from PIL import Image

from experiments.setup.build import build_device
from experiments.setup.cli import main
from experiments.setup.groups import sides
from experiments.setup.run_folder import require_folder_can_be_written, start_run
from rapid_inr.errors import UserError
from rapid_inr.plots.figures import contact_sheet, save_png
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.store.decode import decode_each
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, image_bytes

SHEET_IMAGES, COMPARED_IMAGES = 48, 4
PICTURE = re.compile(r"(train|test|all)(_\d{5,}|/.+)\.png")  # of a decode, below `out`


def run_decode(cfg: DictConfig) -> None:
    if isinstance(cfg.store, ListConfig):
        compare_stores(cfg)
    else:
        decode_store(cfg)


def decode_store(cfg: DictConfig) -> None:
    """Write a picture for each image of a store, and a contact sheet of the first ones."""
    size, store = sides(cfg.size), open_store(cfg, cfg.store)
    n_images = min(len(store), cfg.limit or len(store))
    out, names = Path(cfg.out), [store.name_of(i) for i in range(n_images)]
    pictures = picture_names(names)
    require_no_other_pictures(out, pictures, overwrite=cfg.overwrite)
    with start_run(cfg, "decode") as run:
        shown = []
        with progress_bar("decode", n_images, unit="images") as bar:
            for i, image in enumerate(decode_each(store, size=size, limit=n_images)):
                save_png(out / pictures[i], Image.fromarray(image.numpy()))
                if i < SHEET_IMAGES:
                    shown.append(image.numpy())
                bar.advance(1)
        title = f"{Path(cfg.store).name}: {n_images} of {len(store)} images"
        contact_sheet(out / "contact_sheet.png", shown, names[: len(shown)], title=title)
        run.metrics |= {"images": n_images}
    print(f"{out}: {n_images:,} pictures and contact_sheet.png; run in {run.folder}")


def picture_names(names: list[str]) -> list[str]:
    """Return a name for the picture of each image: ``.png`` in place of its suffix, or after it where two would be equal."""
    pictures = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    return pictures if len(set(pictures)) == len(names) else [f"{name}.png" for name in names]


def compare_stores(cfg: DictConfig) -> None:
    """Write a sheet of the first images that are in all stores, each decoded from every store."""
    size, stores = sides(cfg.size), {Path(path).name: open_store(cfg, path) for path in cfg.store}
    if len(stores) < len(cfg.store) or not stores:
        raise UserError(f"store is {list(cfg.store)}, expected one or more files of different names")
    places = [{store.name_of(i): i for i in range(len(store))} for store in stores.values()]
    names = [name for name in places[0] if all(name in others for others in places)][: cfg.limit or COMPARED_IMAGES]
    if not names:
        raise UserError(f"no image is in all of {', '.join(stores)}; name stores of the same dataset")
    out = Path(cfg.out)
    require_no_other_pictures(out, ["comparison.png"], overwrite=cfg.overwrite)
    with start_run(cfg, "decode") as run:
        shown, captions = [], []
        for name in names:
            for (file, store), at in zip(stores.items(), places, strict=True):
                one = store.take(torch.tensor([at[name]]))
                shown.append(next(decode_each(one, size=size)).numpy())
                captions.append(f"{PurePosixPath(name).stem}  {Path(file).stem}, {image_bytes(one):,.0f} bytes")
        title = f"{len(names)} images as {', '.join(stores)} hold them"
        contact_sheet(out / "comparison.png", shown, captions, title=title, together=len(stores))
        run.metrics |= {"images": len(names), "stores": len(stores)}
    print(f"{out / 'comparison.png'}: {len(names):,} images of {len(stores)} stores; run in {run.folder}")


def open_store(cfg: DictConfig, path: str) -> PackedStore:
    return read_store(path, device=build_device(cfg), max_pixels=cfg.max_pixels)


def require_no_other_pictures(out: Path, names: list[str], *, overwrite: bool) -> None:
    """Refuse a folder that is not empty; with `overwrite`, one with pictures of another decode that this one does not replace.

    Nothing is ever removed: a picture that this decode does not write may belong to anybody.

    Raises:
        OSError: if the folder is refused, or cannot be written.
    """
    require_folder_can_be_written(out)
    if any(out.iterdir()) and not overwrite:
        raise FileExistsError(f"{out} is not empty; overwrite=true adds to it; or choose another out=")
    present = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    others = sorted(name for name in present - set(names) if PICTURE.fullmatch(name))
    if others:
        raise FileExistsError(f"{out} holds {len(others)} pictures of another decode, such as {others[0]}; remove them first")


if __name__ == "__main__":
    main("decode", run_decode)
