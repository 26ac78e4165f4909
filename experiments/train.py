"""`python -m experiments.train`: ResNet-18 from any of the pipelines; `torchrun -m experiments.train` on several processes."""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.setup.cli import main
from experiments.setup.distributed import init_distributed
from experiments.setup.run_folder import start_run
from experiments.training.baseline import hold_against, read_baseline
from experiments.training.input_pipelines import require_inputs
from experiments.training.session import decoded_pipeline, draw_curves, open_arm_or_say, prepare_training, train_arm, warn_skipped
from experiments.training.test_set import load_test_set, require_match
from rapid_inr.training.loop import summary


def run_train(cfg: DictConfig) -> None:
    require_inputs(cfg)
    with init_distributed(cfg):
        train_together(cfg)


def train_together(cfg: DictConfig) -> None:
    baseline_pct = read_baseline(cfg, verb="train", metric="top1_pct")
    test = load_test_set(cfg)
    arm = open_arm_or_say(cfg, "train")
    require_match(test, class_names=arm.class_names, image_size=arm.image_size)
    training = prepare_training(cfg, arm, test, decoded=decoded_pipeline(cfg, arm), resume=cfg.resume)
    with start_run(cfg, "train") as run:
        warn_skipped(run, test.loaded.skipped)
        run.metrics |= arm.metrics | {"images": len(arm.pipeline)}
        reports = train_arm(cfg, run, training)
        run.metrics |= summary(reports)
        hold_against(run, run.metrics["top1_pct"], baseline_pct)
        draw_curves(run, {arm.name: reports}, title=f"{cfg.dataset.name}, {arm.name}")
    m = run.metrics
    more = f" ({m['decoded_top1_pct']:.2f}% on decoded images)" if "decoded_top1_pct" in m else ""
    print(
        f"{arm.name}: top-1 {m['top1_pct']:.2f}%{more} after {m['epochs']} epochs, {m['images_per_s']:,.0f} images/s, "
        f"{m['epoch_s']:.1f} s an epoch, {m['device_bytes']:,} bytes on the device; run in {run.folder}"
    )


if __name__ == "__main__":
    main("train", run_train)
