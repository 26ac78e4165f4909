"""`python -m experiments.export`: write a dataset as image files, for the pipelines that read files."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.setup.cli import main
from experiments.setup.run_folder import require_folder_can_be_written, start_run
from experiments.training.exports import plan_export, write_export


def run_export(cfg: DictConfig) -> None:
    out, quality = Path(cfg.out), {"quality": cfg.quality, "bytes": cfg.bytes, "size_of": cfg.store}
    plan = plan_export(cfg, format=cfg.format, decoded=cfg.decoded, **quality)
    require_folder_can_be_written(out)
    with start_run(cfg, "export") as run:
        export = write_export(cfg, plan, out, run)
    count, quality = sum(len(split.files) for split in export.splits.values()), plan.settings["quality"]
    how = cfg.format if quality is None else f"{cfg.format} of quality {quality}"
    print(f"{out}: {count:,} images, {export.n_bytes:,} bytes, {export.n_bytes / count:,.0f} an image, {how}")


if __name__ == "__main__":
    main("export", run_export)
