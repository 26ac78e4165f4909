"""`suite=pipelines`: how fast each way to feed the network is alone, beside the network's step, and together with it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from experiments.encoding.encode_job import encode_dataset, open_folder, plan_encode
from experiments.export import DEFAULT_QUALITY
from experiments.reporting.markdown import formatted_table
from experiments.setup.build import build_autocast, build_backbone_config, build_device, build_optimizer, build_source, plain
from experiments.setup.cli import CONFIGS
from experiments.setup.errors import USER_ERRORS, one_line
from experiments.training.input_pipelines import ARMS, FROM_FILES, Arm, open_arm
from experiments.training.provenance import dataset_facts
from rapid_inr.data.export import export_images
from rapid_inr.data.reading import read_chunks
from rapid_inr.data.source import limit
from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.models.resnet import build_backbone
from rapid_inr.pipelines.batches import Batch, DeviceTooSmall
from rapid_inr.runlog.named_warnings import STORE_DOES_NOT_FIT, decode_slower_than_step
from rapid_inr.runlog.run import Run, write_csv
from rapid_inr.store.packed import StoreTooLarge
from rapid_inr.training.loop import gradient_step

SIZES_SEEN = 16  # images whose sizes are compared before anything is made of all of them


@dataclass(frozen=True)
class ArmSpeed:
    """What an arm reaches; speeds are medians over epochs.

    Args:
        loader_images_per_s: of batches that nobody uses.
        step_images_per_s: of training steps on one batch that lies ready.
        together_images_per_s: of training.
        headroom: loader over step: below 1 the network waits.
        of_resident: together, as a fraction of the resident arm's; None where that was not timed.
        cpu_s: processor seconds of an epoch together, worker processes included.
        images: of the set.
        repeats: epochs that the medians are over.
    """

    arm: str
    loader_images_per_s: float
    step_images_per_s: float
    together_images_per_s: float
    headroom: float
    of_resident: float | None
    device_bytes: int
    host_bytes: int
    cpu_s: float
    images: int
    repeats: int


def benchmark_pipelines(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """Time every arm in ``arms`` that can run here, tell why the others cannot, and leave table and CSV in the run."""
    unknown = sorted(set(cfg.arms) - set(ARMS))
    if unknown or not cfg.arms:
        raise UserError(f"arms holds {', '.join(unknown) or 'nothing'}, expected some of {', '.join(ARMS)}")
    if cfg.optimizer.first_size is not None:
        raise UserError(
            f"optimizer.first_size is {cfg.optimizer.first_size}, but timed epochs are of one size; expected null: set dataset.size"
        )
    _require_trainable(cfg)
    inputs = _inputs(cfg, run)
    speeds: list[ArmSpeed] = []
    for name in sorted(cfg.arms, key=ARMS.index):  # resident first, which the others are held against
        try:
            speeds.append(_time_arm(_config_of(cfg, name, inputs), speeds))
        except USER_ERRORS as error:  # what the other arms have shown is not thrown away
            too_large = name == "inr" and isinstance(error, DeviceTooSmall | StoreTooLarge)
            run.warn(STORE_DOES_NOT_FIT if too_large else "arm_left_out", f"{name}: {one_line(error)}")
            continue
        finally:
            _free()
        if name == "inr":
            _warn_slow(run, speeds[-1])
        table = _write(run.folder, speeds)
    if not speeds:
        raise UserError("none of the arms can run here")
    print(table)
    return _metrics(speeds) | {"images": speeds[-1].images, "batch_size": cfg.optimizer.batch_size}


def _warn_slow(run: Run, speed: ArmSpeed) -> None:
    speeds = {"decode_images_per_s": speed.loader_images_per_s, "step_images_per_s": speed.step_images_per_s}
    for warning in decode_slower_than_step(**speeds):
        run.warn(*warning)


def _free() -> None:
    """Give back what an arm had in memory, which would be missed by the next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _metrics(speeds: list[ArmSpeed]) -> dict[str, float]:
    return {f"{s.arm}_{name}": value for s in speeds for name, value in asdict(s).items() if name != "arm" and value is not None}


def _inputs(cfg: DictConfig, run: Run) -> dict[str, str]:
    """Return the store and the files that the arms read; those that are not given are made in the run's folder."""
    inputs = {"store": cfg.store, "files": cfg.files}
    if "inr" in cfg.arms and cfg.store is None:
        inputs["store"] = str(run.folder / "train.inr")
        plan, out = plan_encode(cfg, split="train"), Path(inputs["store"])
        encode_dataset(cfg, plan, open_folder(cfg, plan, out=out), run, out=out)
        run.metrics.clear()  # of encoding: not what is measured here
    if set(cfg.arms) & set(FROM_FILES) and cfg.files is None:
        inputs["files"] = str(run.folder / "files")
        sources = {split: build_source(cfg, split=split) for split in ("train", "test")}
        settings = {"dataset": dataset_facts(cfg), "format": "jpeg", "quality": DEFAULT_QUALITY}
        export_images(sources, Path(inputs["files"]), settings=settings, on_corrupt=cfg.dataset.on_corrupt)
    return inputs


def _require_trainable(cfg: DictConfig) -> None:
    """Refuse a dataset that no arm could be trained from, before it is encoded and exported; of its sizes a few are looked at."""
    source = build_source(cfg, split="train")
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so no arm can be trained from it")
    some = next(iter(read_chunks(limit(source, SIZES_SEEN), SIZES_SEEN, on_corrupt=cfg.dataset.on_corrupt)))
    if len({image.shape for image in some.images}) > 1:
        raise UserError(f"the images of dataset={source.name} differ in size; set dataset.size=S, as training would need")


def _config_of(cfg: DictConfig, name: str, inputs: dict[str, str]) -> DictConfig:
    """Return the configuration of an arm: its own as in configs/pipeline, with the number of workers that all share."""
    own = OmegaConf.load(CONFIGS / "pipeline" / f"{name}.yaml")
    if "workers" in own:
        own.workers = cfg.workers
    reads = {"store": inputs["store"] if name == "inr" else None, "files": inputs["files"] if name in FROM_FILES else None}
    return OmegaConf.create(plain(cfg) | {"pipeline": own, **reads})


def _time_arm(cfg: DictConfig, before: list[ArmSpeed]) -> ArmSpeed:
    arm = open_arm(cfg)
    device, feed = build_device(cfg), arm.pipeline
    step = _stepper(cfg, arm)
    n_images = feed.n_batches * feed.batch_size
    ready = next(iter(feed.epoch(0)))

    alone = _epochs_s(lambda k: [None for _ in feed.epoch(k)], repeats=cfg.repeats, device=device)
    steps = _epochs_s(lambda k: [step(ready) for _ in range(feed.n_batches)], repeats=cfg.repeats, device=device)
    cpu_before_s = _cpu_s()
    together = _epochs_s(lambda k: [step(batch) for batch in feed.epoch(k)], repeats=cfg.repeats, device=device)
    cpu_s = (_cpu_s() - cpu_before_s) / (cfg.repeats + 1)
    loader_rate, step_rate, rate = (n_images / seconds for seconds in (alone, steps, together))
    resident = rate if arm.name == "resident" else next((s.together_images_per_s for s in before if s.arm == "resident"), None)
    return ArmSpeed(
        arm.name, loader_images_per_s=loader_rate, step_images_per_s=step_rate, together_images_per_s=rate,
        headroom=loader_rate / step_rate, of_resident=rate / resident if resident else None,
        device_bytes=feed.nbytes, host_bytes=feed.host_bytes, cpu_s=cpu_s, images=len(feed), repeats=cfg.repeats,
    )  # fmt: skip


def _stepper(cfg: DictConfig, arm: Arm) -> Callable[[Batch], None]:
    """Return a training step of the configured backbone."""
    device = build_device(cfg)
    model = build_backbone(build_backbone_config(cfg), n_classes=len(arm.class_names), image_size=arm.image_size, seed=cfg.seed)
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    gradients = gradient_step(model, build_optimizer(cfg), device=device, autocast=build_autocast(cfg))

    def step(batch: Batch) -> None:
        gradients(batch)
        optimizer.step()

    return step


def _epochs_s(epoch: Callable[[int], object], *, repeats: int, device: torch.device) -> float:
    """Return the median seconds of an epoch, the first left out, in which workers start and kernels are chosen."""
    seconds = []
    for number in range(repeats + 1):
        _finish(device)
        began = time.perf_counter()
        epoch(number)
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_s() -> float:
    """Return the processor seconds of this process and of all that it has started; of itself alone where there is no /proc."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # what follows the name, which may hold spaces
        except OSError:
            continue  # it has ended
        parents[int(path.parent.name)] = int(fields[1])
        seconds[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(seconds[pid] for pid in family) if seconds else time.process_time()


def _write(folder: Path, speeds: list[ArmSpeed]) -> str:
    """Write table and CSV, and return the table."""
    columns = {
        "arm": ("arm", "s"), "loader alone, images/s": ("loader_images_per_s", ",.0f"),
        "step alone, images/s": ("step_images_per_s", ",.0f"), "together, images/s": ("together_images_per_s", ",.0f"),
        "headroom": ("headroom", ".2f"), "of resident": ("of_resident", ".2f"), "bytes on the device": ("device_bytes", ",d"),
        "bytes on the host": ("host_bytes", ",d"), "CPU s an epoch": ("cpu_s", ".2f"), "epochs timed": ("repeats", "d"),
    }  # fmt: skip
    table = formatted_table([asdict(speed) for speed in speeds], columns)
    with atomic(folder / "pipelines.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    write_csv(folder / "pipelines.csv", [asdict(speed) for speed in speeds])
    return table
