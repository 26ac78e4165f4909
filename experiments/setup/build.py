"""From configuration to the objects it describes; below this file nobody has heard of Hydra."""

from __future__ import annotations

import re
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from experiments.setup.cli import CONFIGS
from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data import open_source
from rapid_inr.data.codecs import CodecConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig
from rapid_inr.inr.siren import default_omega
from rapid_inr.models.resnet import BackboneConfig
from rapid_inr.models.unet import UNetConfig
from rapid_inr.training.schedule import OptimizerConfig


def plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def build_device(cfg: DictConfig) -> torch.device:
    """Return the device that ``device=auto|cpu|cuda`` means here."""
    if cfg.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", cfg.device):
        raise UserError(f"device is {cfg.device!r}, expected auto, cpu or cuda")
    device = torch.device(cfg.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no CUDA device here; use device=cpu, or install a CUDA build of torch")
    return device


def build_source(cfg: DictConfig, *, split: str | None = None) -> ImageSource:
    """Open ``cfg.dataset``, or another split of it."""
    if "name" not in (cfg.get("dataset") or {}):
        choices = sorted(path.stem for path in (CONFIGS / "dataset").glob("*.yaml"))
        raise UserError(f"dataset=... is required, one of: {', '.join(choices)}")
    options = plain(cfg.dataset)
    options.pop("on_corrupt")
    if split is None and options["split"] == "test" and options["limit"] is not None and options.get("test_limit") is None:
        raise UserError("dataset.limit counts training images, of which dataset.split=test has none; set dataset.test_limit")
    return open_source(**options | ({"split": split} if split else {}))


def build_spec(cfg: DictConfig, *, image_size: tuple[int, int]) -> SirenSpec:
    """Return the shape of the INRs; where omega is null it follows the size of the images."""
    omega = default_omega(*image_size) if cfg.inr.omega is None else cfg.inr.omega
    return SirenSpec(cfg.inr.depth, cfg.inr.hidden, float(omega))


def build_fit(cfg: DictConfig) -> FitConfig:
    options = plain(cfg.fit)
    return FitConfig(**options | {"betas": tuple(options["betas"]), "seed": cfg.seed})


def build_prune(cfg: DictConfig) -> PruneConfig:
    return PruneConfig(**plain(cfg.prune))


def build_refine(cfg: DictConfig) -> RefineConfig:
    options = plain(cfg.refine)
    return RefineConfig(**options | {"betas": tuple(options["betas"])})


def build_quantize(cfg: DictConfig) -> QuantizeConfig:
    return QuantizeConfig(**plain(cfg.quantize))


def build_codec(cfg: DictConfig) -> CodecConfig:
    options = plain(cfg.codec)
    return CodecConfig(options["name"], tuple(options["qualities"]), tuple(options["subsamplings"]))


def build_augment(cfg: DictConfig) -> AugmentConfig | None:
    config = AugmentConfig(**{key: tuple(v) if isinstance(v, list) else v for key, v in plain(cfg.augment).items()})
    return config if config.changes_anything else None


def build_backbone_config(cfg: DictConfig) -> BackboneConfig:
    return BackboneConfig(**plain(cfg.backbone))


def build_unet_config(cfg: DictConfig) -> UNetConfig:
    return UNetConfig(**plain(cfg.unet))


def build_optimizer(cfg: DictConfig) -> OptimizerConfig:
    return OptimizerConfig(**plain(cfg.optimizer))


def build_autocast(cfg: DictConfig) -> bool:
    """Return whether to train in bfloat16; ``auto`` does on a GPU alone, since few CPUs are faster in it."""
    return build_device(cfg).type == "cuda" if cfg.autocast == "auto" else cfg.autocast
