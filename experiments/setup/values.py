"""The type of every value that a command takes: checked in one place, before any work."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from kernels.spec import SirenSpec
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

GROUPS = {
    "inr": SirenSpec, "fit": FitConfig, "prune": PruneConfig, "quantize": QuantizeConfig, "refine": RefineConfig,
    "augment": AugmentConfig, "backbone": BackboneConfig, "unet": UNetConfig,
    "optimizer": OptimizerConfig, "codec": CodecConfig,
}  # fmt: skip
PIPELINES = Literal["resident", "ram", "inr", "dataloader", "dali", "dali_published", "nvjpeg"]
SIDES = int | tuple[int, int] | None
TYPES = {
    "seed": int, "device": str, "overwrite": bool, "run_dir": str, "track.mode": str, "store": str | list[str] | None, "out": str | None,
    "size": SIDES, "limit": int | None, "autocast": bool | Literal["auto"], "suite": str, "repeats": int, "root": str,
    "update": str | None, "shard_images": int | None, "shard": str | int, "keep_shards": bool,
    "scale": str, "only": list[str] | None, "list": bool, "point": str | None,
    "trials": int | None, "trial": int | None, "at_once": int,
    "inr.omega": float | None, "pipeline.name": PIPELINES, "pipeline.workers": int, "pipeline.prefetch": int,
    "files": str | None, "test_store": str | None, "resume": str | None, "format": str, "quality": int | None,
    "decoded": str | None, "stores": list[str], "image": int, "bytes": float | None, "arms": list[str], "workers": int,
    "baseline": str | None, "gpu_memory_gb": float | None, "encoded": str, "fed": str | None, "images": int, "card_gb": float,
    "reserve_gb": float,
    "dataset.name": str, "dataset.root": str | None, "dataset.split": str, "dataset.limit": int | None, "dataset.test_limit": int | None, "dataset.max_pixels": int, "dataset.size": SIDES,
    "dataset.resize": str, "dataset.exclude": str | list[int] | None, "dataset.download": bool, "dataset.on_corrupt": str,
    "dataset.seed": int, "dataset.count": int, "dataset.test_count": int, "dataset.classes": int, "dataset.test_split": str,
    "codec.qualities": list[float], "codec.subsamplings": list[str],
    "decode.sizes": list[str], "decode.batches": list[int] | None, "decode.offline": bool,
    "decode.threads": int | None,
}  # fmt: skip
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
MANY = {int: "integers", float: "numbers", str: "texts"}


def check_values(cfg: DictConfig) -> None:
    """Check the types of all values of a configuration; those that are required and missing are left to whoever reads them.

    Raises:
        ValueError: at a value of the wrong type, or a key that its group does not have; the message names the key.
    """
    types = TYPES | {
        f"{group}.{key}": kind
        for group, config in GROUPS.items()
        for key, kind in get_type_hints(config).items()
        if f"{group}.{key}" not in TYPES
    }
    for key, value in _leaves(OmegaConf.to_container(cfg, resolve=True)):
        if key.split(".")[0] in GROUPS and key not in types:
            raise UserError(f"{key} is unknown")
        if key in types and value != "???" and not _is(value, types[key]):
            raise UserError(f"{key} is {value!r}, expected {_words(types[key])}")


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def _is(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, UnionType) or (parts and origin not in (Literal, tuple, list)):
        return any(_is(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin in (tuple, list):
        parts = parts if origin is tuple else parts * len(value) if isinstance(value, list) else ()
        return isinstance(value, list) and len(value) == len(parts) and all(map(_is, value, parts))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(parts)
    if origin is list:
        return f"a list of {MANY[parts[0]]}"
    if origin is tuple:
        return f"[{', '.join(_words(part) for part in parts)}]"
    return " or ".join(map(_words, parts)) if parts else WORDS[kind]
