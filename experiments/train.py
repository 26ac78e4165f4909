"""`python -m experiments.train`: ResNet-18 from raw images on the device, or from a packed file."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.arms import Arm, draw_curves, inr_arm, resident_arm, train_arm
from experiments.cli import main, start_run
from rapid_inr.metrics import rates
from rapid_inr.store.format import read_store
from rapid_inr.train import summary


def open_arm(cfg: DictConfig) -> tuple[Arm, dict[str, float]]:
    """Return the arm that ``pipeline`` names, and the metrics of what it reads from."""
    if cfg.pipeline.name == "resident":
        arm = resident_arm(cfg)
        return arm, {"device_bytes": arm.pipeline.nbytes}
    if cfg.store is None:
        raise ValueError(
            "pipeline=inr needs store=FILE.inr; write one with: python -m experiments.encode dataset=... out=FILE.inr"
        )
    store, store_bytes = read_store(cfg.store), Path(cfg.store).stat().st_size
    arm = inr_arm(cfg, store)
    costs = rates(store_bytes=store_bytes, n_pixels=store.n_pixels)
    return arm, {"device_bytes": arm.pipeline.nbytes} | costs


def run_train(cfg: DictConfig) -> None:
    arm, sizes = open_arm(cfg)
    with start_run(cfg, "train") as run:
        run.metrics |= sizes | {"images": len(arm.pipeline)}
        reports = train_arm(cfg, run, arm)
        run.metrics |= summary(reports)
        draw_curves(run, {arm.name: reports}, title=f"{cfg.dataset.name}, {arm.name}")
    m = run.metrics
    print(
        f"{arm.name}: top-1 {m['top1_pct']:.2f}% after {m['epochs']} epochs, {m['images_per_s']:,.0f} images/s, "
        f"{m['epoch_s']:.1f} s an epoch, {m['device_bytes']:,} bytes on the device; run in {run.folder}"
    )


if __name__ == "__main__":
    main("train", run_train)
