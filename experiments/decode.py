"""`python -m experiments.decode`: a packed file becomes pictures."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from experiments.build import build_device
from experiments.cli import main, start_run
from rapid_inr.decode import decode_each
from rapid_inr.figures import contact_sheet, save_png
from rapid_inr.progress import progress_bar
from rapid_inr.store.format import read_store

SHEET_IMAGES = 48


def run_decode(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    if out.is_dir() and any(out.iterdir()) and not cfg.overwrite:
        raise FileExistsError(f"{out} is not empty; overwrite=true writes into it all the same")
    if cfg.limit is not None and cfg.limit < 1:
        raise ValueError(f"limit is {cfg.limit}, expected at least 1")
    store = read_store(cfg.store, device=build_device(cfg))
    n_images = min(len(store), cfg.limit or len(store))
    size = tuple(cfg.size) if cfg.size is not None else None
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is {list(size)}, expected [height, width] of at least 1")
    with start_run(cfg, "decode") as run:
        shown = []
        with progress_bar("decode", n_images, unit="images") as bar:
            for i, image in enumerate(decode_each(store, size=size, limit=n_images)):
                save_png(out / f"{store.name_of(i)}.png", Image.fromarray(image.numpy()))
                if i < SHEET_IMAGES:
                    shown.append(image.numpy())
                bar.advance(1)
        captions = [store.name_of(i) for i in range(len(shown))]
        contact_sheet(
            out / "contact_sheet.png", shown, captions, title=f"{Path(cfg.store).name}: {n_images} of {len(store)} images"
        )
        run.metrics |= {"images": n_images}
    print(f"{out}: {n_images:,} pictures and contact_sheet.png; run in {run.folder}")


if __name__ == "__main__":
    main("decode", run_decode)
