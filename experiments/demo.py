"""`python -m experiments.demo`: encode generated images, train from raw and from INRs, and compare."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from experiments.encoding.encode_job import encode_dataset, open_folder, plan_encode
from experiments.reporting.markdown import ABSENT
from experiments.setup.build import build_device
from experiments.setup.cli import main
from experiments.setup.left_out import warn_left_out
from experiments.setup.run_folder import start_run
from experiments.training.baseline import log_gap
from experiments.training.eval_sets import load_test_set, require_match
from experiments.training.inputs import inr_input, require_batch, resident_input
from experiments.training.session import Training, draw_curves, prepare_training, run_training
from rapid_inr.runlog.run import Run
from rapid_inr.training.loop import summary
from rapid_inr.training.state import EpochReport


def run_demo(cfg: DictConfig) -> None:
    plan, test = plan_encode(cfg, split="train"), load_test_set(cfg)
    require_batch(cfg, n_images=len(plan.source))
    require_match(test, class_names=plan.source.class_names, image_size=plan.image_size)
    resident = resident_input(cfg)  # before encoding, which would be wasted if training is refused
    with start_run(cfg, "demo") as run:
        warn_left_out(run, test.loaded.skipped)
        out = run.folder / "train.inr"
        store = encode_dataset(cfg, plan, open_folder(cfg, plan, out=out), run, out=out)
        trainings = [prepare_training(cfg, data, test) for data in (resident, inr_input(cfg, store))]
        reports = run_trainings(cfg, run, trainings)
        task = trainings[0].task
        for name, epochs in reports.items():
            run.metrics |= {f"{name}_{metric}": value for metric, value in summary(epochs, task.metric).items()}
        log_gap(run, run.metrics["inr_top1_pct"], run.metrics["resident_top1_pct"], title=task.title)
        raw_bytes = 3 * store.n_pixels
        draw_curves(run, reports, title=f"ResNet-18 on {cfg.dataset.name}, raw and INR", task=task)
    Console().print(demo_table(run, raw_bytes=raw_bytes))
    print(f"pictures: {run.folder}/contact_sheet.png, {run.folder}/curves.png\nrecord:   {run.folder}/record.json")


def run_trainings(cfg: DictConfig, run: Run, trainings: Sequence[Training]) -> dict[str, list[EpochReport]]:
    """Run two trainings: on a GPU in turn; on a CPU side by side, a core each, since such small batches gain little from two."""
    if build_device(cfg).type == "cuda":
        return {training.name: run_training(cfg, run, training) for training in trainings}
    reports, errors, n_threads = {}, [], torch.get_num_threads()

    def train_second() -> None:
        try:
            reports[trainings[1].name] = run_training(cfg, run, trainings[1])
        except Exception as error:  # raised again below, in the main thread
            errors.append(error)

    torch.set_num_threads(1)  # also for threads that start later
    second = threading.Thread(target=train_second, daemon=True)  # daemon: Ctrl-C ends it with the program
    try:
        second.start()
        reports[trainings[0].name] = run_training(cfg, run, trainings[0])
        second.join()
    finally:
        torch.set_num_threads(n_threads)
    if errors:
        raise errors[0]
    return {training.name: reports[training.name] for training in trainings}


def demo_table(run: Run, *, raw_bytes: int) -> Table:
    """Return the demo's table: what raw images and INRs take, and how well and how fast each trains."""
    m = run.metrics
    table = Table(title=f"{m['images']:,} images, raw and as INRs")
    for heading in ("", "stored bytes", "% of RGB", "PSNR (dB)", "top-1 (%)", "images/s in training"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "resident": ("raw uint8", raw_bytes, 100.0, ABSENT),
        "inr": ("INR", m["store_bytes"], m["rgb_pct"], f"{m['psnr_db']:.2f}"),
    }
    for name, (label, n_bytes, pct, psnr) in rows.items():
        speed = f"{m[f'{name}_images_per_s']:,.0f}"
        table.add_row(label, f"{n_bytes:,}", f"{pct:.1f}", psnr, f"{m[f'{name}_top1_pct']:.1f}", speed)
    at_once = " of the processor; both trained at once, a core each" if m["device"] == "cpu" else ""
    table.caption = f"encoded in {m['fit_s']:.0f} s, {m['fit_ms_per_image']:.1f} ms an image{at_once}"
    return table


if __name__ == "__main__":
    main("demo", run_demo)
