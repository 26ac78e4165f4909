"""`python -m experiments.train`: ResNet-18 from raw images on the device, or from a packed file."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.arms import Arm, inr_arm, resident_arm
from experiments.cli import main
from experiments.held_out import load_held_out, require_match
from experiments.runs import start_run
from experiments.training import draw_curves, train_arm, warn_skipped
from rapid_inr.metrics import rates
from rapid_inr.store.format import read_store
from rapid_inr.train import summary


def open_arm(cfg: DictConfig) -> tuple[Arm, dict[str, float]]:
    """Return the arm that ``pipeline`` names, and the metrics of what it reads from."""
    if cfg.pipeline.name == "resident":
        arm = resident_arm(cfg)
        return arm, {"device_bytes": arm.pipeline.nbytes}
    store, store_bytes = read_store(cfg.store), Path(cfg.store).stat().st_size
    arm = inr_arm(cfg, store)
    costs = rates(store_bytes=store_bytes, n_pixels=store.n_pixels)
    return arm, {"device_bytes": arm.pipeline.nbytes} | costs


def require_store_where_it_is_read(cfg: DictConfig) -> None:
    if cfg.pipeline.name == "inr" and cfg.store is None:
        raise ValueError(
            "pipeline=inr needs store=FILE.inr; write one with: python -m experiments.encode dataset=... out=FILE.inr"
        )
    if cfg.pipeline.name == "resident" and cfg.store is not None:
        raise ValueError("pipeline=resident trains from raw images and reads no store; for store=FILE.inr set pipeline=inr")


def run_train(cfg: DictConfig) -> None:
    require_store_where_it_is_read(cfg)
    test = load_held_out(cfg)
    arm, sizes = open_arm(cfg)
    require_match(test, class_names=arm.class_names, image_size=arm.image_size)
    with start_run(cfg, "train") as run:
        warn_skipped(run, test.loaded.skipped)
        run.metrics |= sizes | {"images": len(arm.pipeline)}
        reports = train_arm(cfg, run, arm, test)
        run.metrics |= summary(reports)
        draw_curves(run, {arm.name: reports}, title=f"{cfg.dataset.name}, {arm.name}")
    m = run.metrics
    print(
        f"{arm.name}: top-1 {m['top1_pct']:.2f}% after {m['epochs']} epochs, {m['images_per_s']:,.0f} images/s, "
        f"{m['epoch_s']:.1f} s an epoch, {m['device_bytes']:,} bytes on the device; run in {run.folder}"
    )


if __name__ == "__main__":
    main("train", run_train)
