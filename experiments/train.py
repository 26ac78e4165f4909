"""`python -m experiments.train`: train from any input pipeline; `torchrun -m experiments.train` in several processes."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from experiments.setup.build import build_device
from experiments.setup.cli import main
from experiments.setup.distributed import init_distributed
from experiments.setup.left_out import warn_left_out
from experiments.setup.run_folder import start_run
from experiments.training.baseline import log_gap, read_baseline
from experiments.training.eval_sets import decoded_pipeline, load_test_set, require_match, warn_untested
from experiments.training.inputs import open_input_in_run, require_runnable
from experiments.training.session import (
    Training,
    build_task,
    draw_curves,
    draw_masks,
    prepare_training,
    run_training,
)
from rapid_inr.runlog.run import Run
from rapid_inr.training.loop import summary
from rapid_inr.training.threads import thread_limit, training_threads


def run_train(cfg: DictConfig) -> None:
    require_runnable(cfg)
    with init_distributed(cfg):
        train_one(cfg)


def train_one(cfg: DictConfig) -> None:
    test = load_test_set(cfg)
    baseline_pct = read_baseline(cfg, build_task(cfg, n_classes=len(test.class_names)))
    data = open_input_in_run(cfg)
    require_match(test, class_names=data.class_names, image_size=data.image_size)
    decoded, decoded_metrics = decoded_pipeline(cfg, data)
    training = prepare_training(cfg, data, test, decoded=decoded, resume=cfg.resume)
    threads = training_threads(training.model, n_pixels=math.prod(data.image_size), device=build_device(cfg))
    with start_run(cfg, "train") as run, thread_limit(threads):
        skipped = (*test.loaded.skipped, *data.skipped)
        warn_left_out(run, skipped)
        if cfg.dataset.val_fraction:
            warn_untested(run, test)
        run.metrics |= data.metrics | decoded_metrics | {"images": len(data.pipeline), "classes": training.task.n_classes}
        run.metrics["threads"] = threads
        reports = run_training(cfg, run, training)
        if data.faults is not None and data.faults.messages:
            warn_left_out(run, (*skipped, *data.faults.messages))
        run.metrics |= summary(reports, training.task.metric)
        log_gap(run, run.metrics[training.task.metric], baseline_pct, title=training.task.title)
        draw_curves(run, {data.name: reports}, title=f"{cfg.dataset.name}, {data.name}", task=training.task)
        if cfg.task == "segmentation":
            draw_masks(run, cfg, training, test)
    print_result(run, training)


def print_result(run: Run, training: Training) -> None:
    m, metric, title = run.metrics, training.task.metric, training.task.title
    decoded = f" ({m[f'decoded_{metric}']:.2f}% on decoded images)" if f"decoded_{metric}" in m else ""
    origin = f"; images from {m.get('store') or m['files']}" if "store" in m or "files" in m else ""
    epochs = "1 epoch" if m["epochs"] == 1 else f"{m['epochs']} epochs"
    print(
        f"{training.name}: {title} {m[metric]:.2f}%{decoded} after {epochs}, {m['images_per_s']:,.0f} images/s, "
        f"{m['epoch_s']:.1f} s an epoch, {m['device_bytes']:,} bytes on the device{origin}; run in {run.folder}"
    )


if __name__ == "__main__":
    main("train", run_train)
