"""Config groups that the library has no dataclass for: the dataset, the INRs, the input pipeline."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from kernels.cosine.spec import MAX_FREQUENCIES, MAX_PROFILES
from rapid_inr.cosine.learn import BASES
from rapid_inr.errors import UserError
from rapid_inr.runlog.run import TRACK_MODES
from rapid_inr.store.siren import MAX_DEPTH, MAX_HIDDEN, MAX_OMEGA

FROM_FILES = ("dataloader", "dali", "dali_published", "nvjpeg")
PIPELINES = ("resident", "ram", "inr", *FROM_FILES)
OF_SIRENS = ("fit", "prune", "quantize", "refine")
OF_INRS = ("inr", *OF_SIRENS)
MAX_BYTES = 3 * MAX_FREQUENCIES**2 + 1  # a byte a coefficient, and one for the profile
ON_CORRUPT = ("fail", "skip")


def unread_groups(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the groups of a configuration that change no result: those of SIRENs for a cosine series, and those of INRs or files
    that no pipeline uses.
    """
    inr = config.get("inr")
    unread = OF_SIRENS if isinstance(inr, Mapping) and inr.get("bytes") is not None else ()
    if not {"pipeline", "export", "files", "store"} <= set(config) or config.get("suite", "pipelines") != "pipelines":
        return unread  # neither a training nor a benchmark of trainings
    pipelines = set(config.get("pipelines") or [config["pipeline"]["name"]])
    exports = bool(pipelines & {*FROM_FILES}) and config["files"] is None
    encodes = ("inr" in pipelines and config["store"] is None) or encodes_tests(config)
    encodes |= exports and (config["export"]["as_inr"] or config["export"]["decoded"])
    return (*(unread if encodes else OF_INRS), *(() if exports else ("export",)))


def encodes_tests(config: Mapping[str, Any]) -> bool:
    """Return whether a training makes a store of its test images: raw images, and files made without INRs, have none like it."""
    if not config.get("test_on_decoded") or config.get("test_store") is not None:
        return False
    name, export = config["pipeline"]["name"], config["export"]
    of_inrs = config["files"] is not None or export["as_inr"] or export["decoded"]
    return name == "inr" or (name in FROM_FILES and of_inrs)


def require_side(key: str, value: Any) -> None:
    """Refuse what is neither a number of pixels, nor [height, width], nor null."""
    sides = value if isinstance(value, list | tuple) else [value, value]
    if value is not None and not (len(sides) == 2 and all(type(side) is int and side >= 1 for side in sides)):
        raise UserError(f"{key} is {value!r}, expected an integer of at least 1, or [height, width] of such, or null")


def sides(size: Any) -> tuple[int, int] | None:
    """Return the (height, width) that a side or a pair stands for; None for null."""
    return (size, size) if isinstance(size, int) else size and tuple(size)


def require_choice(key: str, value: Any, choices: Collection[str]) -> None:
    if value not in choices:
        raise UserError(f"{key} is {value!r}, expected one of {', '.join(choices)}")


@dataclass
class DatasetConfig:
    """Which images.

    Args:
        name: the reader, which dataset=NAME sets.
        root: folder of the data; shapes are generated and need none.
        split: train, test, or all.
        limit: how many of the training images to take, evenly from all classes; null for all.
        test_limit: the same for the test images.
        size: pixels of a side, or [height, width], that images are resized to; null leaves them as they are.
        resize: ``stretch``, or ``crop``: take the centre square first.
        exclude: names such as ``train/cat/7.jpg`` or ``train_00008``, or ids, to leave out, or a JSON file with them.
        download: fetch the data where it is missing and has an official address.
        on_corrupt: ``fail`` or ``skip``.
        max_pixels: an image that claims more counts as corrupt; null for the library's limit.
        test_split: of flowers102: ``paper``, 1,020 training and as many test images; ``official``, with 6,149 test images;
            ``swapped``, which trains on those and tests on the other 2,040.
        val_fraction: of image_folder without folders train and val: the fraction to test with, chosen by class and file name.
        seed: of shapes: what is drawn; of mini_imagenet: how the images of a class are split, 420 to 120.
        count: of shapes: training images.
        test_count: of shapes: test images.
        classes: of shapes: how many kinds.
    """

    name: str = MISSING
    root: str | None = None
    split: str = "train"
    limit: int | None = None
    test_limit: int | None = None
    size: Any = None
    resize: str = "stretch"
    exclude: Any = None
    download: bool = False
    on_corrupt: str = "fail"
    max_pixels: int | None = None
    val_fraction: float | None = None
    test_split: str | None = None
    seed: int | None = None
    count: int | None = None
    test_count: int | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        require_side("dataset.size", self.size)
        require_choice("dataset.on_corrupt", self.on_corrupt, ON_CORRUPT)
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UserError(f"dataset.max_pixels is {self.max_pixels}, expected at least 1, or null")
        names = isinstance(self.exclude, list | tuple) and all(type(name) in (int, str) for name in self.exclude)
        if not (self.exclude is None or isinstance(self.exclude, str) or names):
            raise UserError(f"dataset.exclude is {self.exclude!r}, expected a file, a list of names or ids, or null")


@dataclass
class InrConfig:
    """The shape of an INR: ``inr=DEPTHxWIDTH`` chooses any SIREN, ``inr=cosine`` a cosine series.

    Args:
        depth: sine layers; one linear layer follows.
        hidden: width of every sine layer.
        omega: frequency inside the sine, the papers' w0; null is 15 for images up to 64 px and 30 above.
        bytes: of a cosine series: bytes an image, without the codebooks.
        profiles: of a cosine series: sets of codebooks; each image uses one of them.
        basis: of a cosine series: ``learned`` from the training images, or ``cosines``, which take no bytes: for small datasets.
    """

    depth: int | None = 3
    hidden: int | None = 16
    omega: float | None = None
    bytes: int | None = None
    profiles: int | None = None
    basis: str | None = None

    def __post_init__(self) -> None:
        if (self.bytes, self.profiles, self.basis) != (None, None, None):
            for key in ("depth", "hidden", "omega"):
                if getattr(self, key) is not None:
                    raise UserError(f"inr.{key} is {getattr(self, key)}, expected null with inr.bytes, which is of inr=cosine")
            for key, most in (("bytes", MAX_BYTES), ("profiles", MAX_PROFILES)):
                if not 1 <= (getattr(self, key) or 0) <= most:
                    raise UserError(f"inr.{key} is {getattr(self, key)}, expected 1 to {most}")
            require_choice("inr.basis", self.basis, BASES)
            return
        for key, most in (("depth", MAX_DEPTH), ("hidden", MAX_HIDDEN)):
            if not 1 <= (getattr(self, key) or 0) <= most:
                raise UserError(f"inr.{key} is {getattr(self, key)}, expected 1 to {most}")
        if self.omega is not None and not 0 < self.omega <= MAX_OMEGA:
            raise UserError(f"inr.omega is {self.omega}, expected above 0 and at most {MAX_OMEGA:g}, or null")


@dataclass
class PipelineConfig:
    """What feeds the network.

    Args:
        name: which pipeline; pipeline=NAME sets it.
        workers: processes of ram and dataloader, 0 for none; threads of DALI; null for the others.
        prefetch: batches that a worker, or DALI, has ready.
        shard_store: of inr with torchrun: each process keeps a share of the store, and gets the rest of a batch from the others.
    """

    name: str = "resident"
    workers: int | None = None
    prefetch: int | None = None
    shard_store: bool = False

    def __post_init__(self) -> None:
        require_choice("pipeline.name", self.name, PIPELINES)
        takes = {
            "workers": ("ram", "dataloader", "dali", "dali_published"),
            "prefetch": ("ram", "dataloader", "dali"),
            "shard_store": ("inr",),
        }
        for key, names in takes.items():
            if getattr(self, key) and self.name not in names:
                raise UserError(f"pipeline={self.name} takes no pipeline.{key}; {', '.join(names)} do")


@dataclass
class ExportConfig:
    """How images become files, for the pipelines that read files.

    Args:
        format: ``jpeg``, ``webp``, ``astc``, or ``png``, which is exact.
        quality: of JPEG, 1 to 95, or of WebP, 0 to 100; null is 90. Of ASTC, from 0, blocks of 12x12, to 13, 4x4; null is 13.
        bytes: take the highest quality at which images take no more than this on average.
        as_inr: take the highest quality at which images take no more bytes than in the store of ``inr=...``.
        decoded: write the training images as they decode from the store of ``inr=...``.
    """

    format: str = "jpeg"
    quality: int | None = None
    bytes: float | None = None
    as_inr: bool = False
    decoded: bool = False

    def __post_init__(self) -> None:
        require_choice("export.format", self.format, ("jpeg", "webp", "astc", "png"))
        if sum((self.quality is not None, self.bytes is not None, self.as_inr)) > 1:
            raise UserError("export.quality, export.bytes and export.as_inr exclude each other; give one")


@dataclass
class DecodeSuiteConfig:
    """What ``suite=decode`` times.

    Args:
        sizes: DEPTHxWIDTH@PIXELS.
        batches: images decoded at once; null: enough for 2^18 pixels on a CPU, 2^22 on a GPU.
        threads: on a CPU; null: one for each core.
        offline: also compile the kernel for several GPUs, which need not be present, and print its resources: half a minute.
    """

    sizes: list[str] = field(default_factory=lambda: ["3x16@32", "5x13@32", "10x32@224", "10x40@224", "6x44@224"])
    batches: list[int] | None = None
    threads: int | None = None
    offline: bool = True


@dataclass
class TrackConfig:
    """How W&B mirrors a run.

    Args:
        mode: ``offline``, ``online`` or ``off``.
    """

    mode: str = "off"

    def __post_init__(self) -> None:
        require_choice("track", self.mode, TRACK_MODES)
