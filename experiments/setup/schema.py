"""The keys of every command with type, default and meaning: Hydra's structured configs.

A YAML file in configs/ holds only what differs from these defaults. A group is a dataclass of the library, such as `FitConfig`,
or one of `experiments.setup.groups`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from experiments.setup.groups import (
    PIPELINES,
    DatasetConfig,
    DecodeSuiteConfig,
    ExportConfig,
    InrConfig,
    PipelineConfig,
    TrackConfig,
    require_choice,
    require_side,
)
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.codecs import CodecConfig
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig
from rapid_inr.models.resnet import BackboneConfig
from rapid_inr.models.unet import UNetConfig
from rapid_inr.training.schedule import OptimizerConfig


@dataclass
class CommonConfig:
    """What every command takes.

    Args:
        seed: of every random number, such as initial weights and the order of images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        overwrite: replace an output or a run that exists.
        folder: holds the runs of a sweep.
        run_dir: folder of the run; in an experiment its name says what the sweep varies and what is overridden.
        experiment_name: by which tables collect the runs of an experiment.
        preset: ``paper``: in full, for a GPU; ``cpu``: minutes on two cores; ``smoke``: seconds, on generated images.
        command: the command that an experiment is for.
        labels: what tables group runs by, free-form.
    """

    seed: int = 0
    device: str = "auto"
    overwrite: bool = False
    folder: str = MISSING
    run_dir: str = MISSING
    experiment_name: str | None = None
    preset: str | None = None
    command: str | None = None
    labels: Any = field(default_factory=dict)
    track: TrackConfig = field(default_factory=TrackConfig)


@dataclass
class StoreConfig(CommonConfig):
    """What decides the bytes of a store."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    inr: InrConfig = field(default_factory=InrConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)


@dataclass
class EncodeConfig(StoreConfig):
    """Keys of ``encode``.

    Args:
        out: FILE.inr to write; until it is complete, its shards are kept in FILE.inr.shards.
        shard_images: images in a shard, which is saved when it is finished; null: as many as take about a minute.
        shard: i/n, i from 1 to n: make every n-th shard from the i-th on; ``merge`` joins the shards of n jobs.
        keep_shards: keep the shards when the store is written.
        gpu_memory_gb: of the GPU that will hold the store, for a warning before the work; null: this machine's, if any.
        reuse: folder of a finished encode run; images of it that are in this dataset too are not fitted again.
    """

    out: str = MISSING
    shard_images: int | None = None
    shard: str = "1/1"
    keep_shards: bool = False
    gpu_memory_gb: float | None = None
    reuse: str | None = None


@dataclass
class MergeConfig(CommonConfig):
    """Keys of ``merge``.

    Args:
        out: FILE.inr to write, from the shards in FILE.inr.shards.
        keep_shards: keep the shards.
    """

    out: str = MISSING
    keep_shards: bool = False


@dataclass
class InfoConfig(CommonConfig):
    """Keys of ``info``.

    Args:
        store: FILE.inr to read.
        image: show the name, size and class of this image instead, by its position from 0.
    """

    store: str = MISSING
    image: int | None = None


@dataclass
class DecodeConfig(CommonConfig):
    """Keys of ``decode``.

    Args:
        store: FILE.inr to read, or a list of files to compare.
        out: folder for the pictures.
        size: [height, width] to decode at, or one number for a square; null is the size of each image.
        limit: decode the first N images only.
        max_pixels: refuse a store of larger images.
    """

    store: Any = MISSING
    out: str = MISSING
    size: Any = None
    limit: int | None = None
    max_pixels: int = 90_000_000

    def __post_init__(self) -> None:
        require_side("size", self.size)
        for key, value in (("limit", self.limit), ("max_pixels", self.max_pixels)):
            if value is not None and value < 1:
                raise UserError(f"{key} is {value}, expected at least 1")


@dataclass
class CodecCommandConfig(CommonConfig):
    """Keys of ``codec``."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    codec: CodecConfig = field(default_factory=lambda: CodecConfig("jpeg", (90.0,), ("4:2:0",)))


@dataclass
class ExportCommandConfig(CommonConfig):
    """Keys of ``export``.

    Args:
        out: folder to write.
        format: ``jpeg``, ``webp`` or ``png``, which is exact.
        quality: of JPEG, 1 to 95, or of WebP, 0 to 100; null is 90.
        bytes: take the highest quality at which images take no more than this on average.
        store: FILE.inr: take the quality at which files are no larger than the images in it.
        decoded: FILE.inr: write the training images as they decode from it; the test images stay clean.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    out: str = MISSING
    format: str = "jpeg"
    quality: int | None = None
    bytes: float | None = None
    store: str | None = None
    decoded: str | None = None


@dataclass
class NetworkConfig(StoreConfig):
    """What trains a network: all keys of ``demo``.

    Args:
        autocast: bfloat16: ``auto`` (on a GPU), true or false.
    """

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    autocast: bool | str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.autocast, str) and self.autocast != "auto":
            raise UserError(f"autocast is {self.autocast!r}, expected auto, true or false")


@dataclass
class FeedConfig(NetworkConfig):
    """What the commands take that train from any input pipeline.

    Args:
        store: FILE.inr to train from with pipeline=inr; null: the store of the dataset and `inr`, encoded first if it is missing.
        files: folder of an export, for pipelines that read files; null: make one as `export` says.
        stores_dir: folder of the stores and exports that are made on demand.
    """

    store: str | None = None
    files: str | None = None
    stores_dir: str = "stores"
    export: ExportConfig = field(default_factory=ExportConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)


@dataclass
class TrainConfig(FeedConfig):
    """Keys of ``train``.

    Args:
        task: ``classification`` with a ResNet-18, or ``segmentation`` with a small U-Net, for which dataset=shapes has masks.
        test_on_decoded: if the training images are INRs, or files made with them, also test on test images decoded from INRs.
        test_store: FILE.inr with the test images, to test on them as decoded from any pipeline; null makes it on demand.
        baseline: folder of an earlier run to compare the result with, such as that from raw images.
        resume: RUN/PIPELINE_last.safetensors to resume from.
    """

    task: str = "classification"
    unet: UNetConfig = field(default_factory=UNetConfig)
    test_on_decoded: bool = False
    test_store: str | None = None
    baseline: str | None = None
    resume: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("task", self.task, ("classification", "segmentation"))


@dataclass
class BenchmarkConfig(FeedConfig):
    """Keys of ``benchmark``.

    Args:
        suite: ``fit``, ``decode`` or ``pipelines``.
        backends: with suite=fit, also time four sizes by both backends: minutes on a CPU; a GPU always does.
        repeats: how often each is timed; the median counts.
        pipelines: to time, with suite=pipelines.
        workers: processes or threads of pipelines that have any.
    """

    suite: str = "fit"
    backends: bool = False
    repeats: int = 5
    decode: DecodeSuiteConfig = field(default_factory=DecodeSuiteConfig)
    pipelines: list[str] = field(default_factory=lambda: list(PIPELINES))
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("suite", self.suite, ("fit", "decode", "pipelines"))
        if self.repeats < 1:
            raise UserError(f"repeats is {self.repeats}, expected at least 1")
        for name in self.pipelines:
            require_choice("pipelines", name, PIPELINES)


@dataclass
class SearchConfig(CommonConfig):
    """Keys of ``search``; ``search=NAME/PRESET`` sets them.

    Args:
        overrides: KEY: value of every trial of `command`; {run_dir} in a value is the folder of the trial.
        space: KEY: {low, high, step, log} for a number, whole if low and high are, or KEY: a list of choices.
        goals: METRIC of the trial's record: ``maximize`` or ``minimize``; of several, the result is the Pareto front.
        limits: METRIC: {at_most: NUMBER} or {at_least: NUMBER}; a trial that breaks one is no result.
        trials: how many in all, failed ones included.
    """

    overrides: Any = field(default_factory=dict)
    space: Any = field(default_factory=dict)
    goals: Any = field(default_factory=dict)
    limits: Any = field(default_factory=dict)
    trials: int = 20


SCHEMAS: dict[str, type[CommonConfig]] = {
    "encode": EncodeConfig, "merge": MergeConfig, "info": InfoConfig, "decode": DecodeConfig, "codec": CodecCommandConfig,
    "export": ExportCommandConfig, "train": TrainConfig, "benchmark": BenchmarkConfig, "demo": NetworkConfig,
    "search": SearchConfig,
}  # fmt: skip
