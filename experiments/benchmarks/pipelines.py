"""`suite=pipelines`: how fast each input pipeline is alone, beside the network's step, and together with it."""

from __future__ import annotations

import copy
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

from experiments.reporting.markdown import formatted_table
from experiments.setup.build import build, build_autocast, build_device, build_source
from experiments.setup.choices import CONFIGS
from experiments.setup.errors import USER_ERRORS, is_bug, one_line
from experiments.setup.groups import PIPELINES, PipelineConfig
from experiments.training.inputs import TrainingInput, open_input
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
class PipelineSpeed:
    """What an input pipeline reaches; speeds are medians over epochs.

    Args:
        loader_images_per_s: of batches that nobody uses.
        step_images_per_s: of training steps on one batch that is ready.
        together_images_per_s: of training.
        headroom: loader over step: below 1 the network waits.
        of_resident: together, as a fraction of that of `resident`; None where that was not timed.
        cpu_s: processor seconds of an epoch together, worker processes included.
        images: of the set.
        repeats: epochs that the medians are over.
    """

    pipeline: str
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
    """Time every pipeline in ``pipelines`` that can run here, say why the others cannot, and leave table and CSV in the run."""
    if cfg.optimizer.first_size is not None:
        raise UserError(f"optimizer.first_size is {cfg.optimizer.first_size}, but timed epochs are of one size; expected null")
    _require_trainable(cfg)
    speeds: list[PipelineSpeed] = []
    made_from: dict[str, Any] = {}
    for name in sorted(cfg.pipelines, key=PIPELINES.index):  # resident first: the others are compared with it
        try:
            data = open_input(_config_of(cfg, name))
            made_from |= {key: value for key, value in data.metrics.items() if key.startswith(("store", "files"))}
            speeds.append(_time_pipeline(cfg, data, speeds))
        except USER_ERRORS as error:  # what the others have shown is not thrown away
            if is_bug(error):
                raise
            too_large = name == "inr" and isinstance(error, DeviceTooSmall | StoreTooLarge)
            run.warn(STORE_DOES_NOT_FIT if too_large else "pipeline_left_out", f"{name}: {one_line(error)}")
            continue
        finally:
            data = None
            _free()
        if name == "inr":
            loader, step = speeds[-1].loader_images_per_s, speeds[-1].step_images_per_s
            for warning in decode_slower_than_step(decode_images_per_s=loader, step_images_per_s=step):
                run.warn(*warning)
        table = _write(run.folder, speeds)
    if not speeds:
        raise UserError("none of the pipelines can run here")
    print(table)
    return _metrics(speeds) | made_from | {"images": speeds[-1].images, "batch_size": cfg.optimizer.batch_size}


def _free() -> None:
    """Free the memory of a pipeline, which the next one needs."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _metrics(speeds: list[PipelineSpeed]) -> dict[str, float]:
    values = {
        f"{speed.pipeline}_{name}": value for speed in speeds for name, value in asdict(speed).items() if name != "pipeline"
    }
    return {name: value for name, value in values.items() if value is not None}


def _require_trainable(cfg: DictConfig) -> None:
    """Refuse a dataset that no network could be trained from, before it is encoded; of its sizes a few are looked at."""
    source = build_source(cfg, split="train")
    if source.labels is None:
        raise UserError(f"dataset={source.name} has no labels, so nothing can be trained from it")
    chunk = next(iter(read_chunks(limit(source, SIZES_SEEN), SIZES_SEEN, on_corrupt=cfg.dataset.on_corrupt)))
    if len({image.shape for image in chunk.images}) > 1:
        raise UserError(f"the images of dataset={source.name} differ in size; set dataset.size=S, as training would need")


def _config_of(cfg: DictConfig, name: str) -> DictConfig:
    """Return the configuration of a pipeline: as in configs/pipeline, with the number of workers that all share."""
    own = OmegaConf.load(CONFIGS / "pipeline" / f"{name}.yaml")
    if "workers" in own:
        own.workers = cfg.workers
    cfg = copy.deepcopy(cfg)
    cfg.pipeline = PipelineConfig(**own)
    return cfg


def _time_pipeline(cfg: DictConfig, data: TrainingInput, before: list[PipelineSpeed]) -> PipelineSpeed:
    device, pipeline = build_device(cfg), data.pipeline
    step = _stepper(cfg, data)
    n_images = pipeline.n_batches * pipeline.batch_size
    ready = next(iter(pipeline.epoch(0)))

    alone = _epochs_s(lambda k: [None for _ in pipeline.epoch(k)], repeats=cfg.repeats, device=device)
    steps = _epochs_s(lambda k: [step(ready) for _ in range(pipeline.n_batches)], repeats=cfg.repeats, device=device)
    cpu_before_s = _cpu_s()
    together = _epochs_s(lambda k: [step(batch) for batch in pipeline.epoch(k)], repeats=cfg.repeats, device=device)
    cpu_s = (_cpu_s() - cpu_before_s) / (cfg.repeats + 1)
    loader_rate, step_rate, rate = (n_images / seconds for seconds in (alone, steps, together))
    rates = {speed.pipeline: speed.together_images_per_s for speed in before} | {data.name: rate}
    return PipelineSpeed(
        data.name, loader_images_per_s=loader_rate, step_images_per_s=step_rate, together_images_per_s=rate,
        headroom=loader_rate / step_rate, of_resident=rate / rates["resident"] if "resident" in rates else None,
        device_bytes=pipeline.nbytes, host_bytes=pipeline.host_bytes, cpu_s=cpu_s, images=len(pipeline), repeats=cfg.repeats,
    )  # fmt: skip


def _stepper(cfg: DictConfig, data: TrainingInput) -> Callable[[Batch], None]:
    """Return a training step of the configured backbone."""
    device, n_classes = build_device(cfg), len(data.class_names)
    model = build_backbone(build(cfg.backbone), n_classes=n_classes, image_size=data.image_size, seed=cfg.seed)
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    gradients = gradient_step(model, build(cfg.optimizer), device=device, autocast=build_autocast(cfg))

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
    while children := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= children
    return sum(seconds[pid] for pid in family) if seconds else time.process_time()


TABLE = {  # by heading: what of a speed, and its format
    "pipeline": ("pipeline", "s"), "loader alone, images/s": ("loader_images_per_s", ",.0f"),
    "step alone, images/s": ("step_images_per_s", ",.0f"), "together, images/s": ("together_images_per_s", ",.0f"),
    "headroom": ("headroom", ".2f"), "of resident": ("of_resident", ".2f"), "bytes on the device": ("device_bytes", ",d"),
    "bytes on the host": ("host_bytes", ",d"), "CPU s an epoch": ("cpu_s", ".2f"), "epochs timed": ("repeats", "d"),
}  # fmt: skip


def _write(folder: Path, speeds: list[PipelineSpeed]) -> str:
    """Write table and CSV, and return the table."""
    rows = [asdict(speed) for speed in speeds]
    table = formatted_table(rows, TABLE)
    with atomic(folder / "pipelines.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    write_csv(folder / "pipelines.csv", rows)
    return table
