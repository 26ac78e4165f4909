"""Build the objects that a configuration describes. Nothing below this file knows Hydra."""

from __future__ import annotations

import os
import re
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.data import READERS, open_source
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.cosine import CosineConfig, cosine_spec
from rapid_inr.encoding.encoder import Encoder
from rapid_inr.encoding.siren import SirenConfig
from rapid_inr.errors import UserError
from rapid_inr.inr.siren import default_omega


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def build(group: DictConfig) -> Any:
    """Return the dataclass of a config group, which checks its ranges."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in plain(group).items()}
    return OmegaConf.get_type(group)(**values)


def build_device(cfg: DictConfig) -> torch.device:
    """Return the device that ``device=auto|cpu|cuda`` means here: under torchrun, each process of a machine has its own GPU."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", cfg.device):
        raise UserError(f"device is {cfg.device!r}, expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    device = torch.device(cfg.device if cfg.device != "auto" else "cuda" if available else "cpu")
    if device.type == "cuda" and not available:
        raise UserError("device=cuda, but torch sees no CUDA device here; use device=cpu, or install a CUDA build of torch")
    if device.type == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)  # kernels are launched on the current one
    return device


def build_source(cfg: DictConfig, *, split: str | None = None) -> ImageSource:
    """Open ``cfg.dataset``, or another split of it."""
    if OmegaConf.is_missing(cfg.dataset, "name"):
        raise UserError(f"dataset=... is required, one of: {', '.join(sorted(READERS))}")
    options = {key: value for key, value in plain(cfg.dataset).items() if value is not None and key != "on_corrupt"}
    if split is None and options.get("split") == "test" and "limit" in options and "test_limit" not in options:
        raise UserError("dataset.limit counts training images, and dataset.split=test has none; set dataset.test_limit")
    return open_source(**options | ({"split": split} if split else {}))


def build_spec(cfg: DictConfig, *, image_size: tuple[int, int]) -> SirenSpec:
    """Return the shape of SIRENs. Where omega is null, the size of the images decides it.

    Raises:
        UserError: if ``inr`` is not of that family.
    """
    if cfg.inr.depth is None:
        raise UserError("inr is cosine, expected DEPTHxWIDTH: a cosine series is not fitted")
    omega = default_omega(*image_size) if cfg.inr.omega is None else cfg.inr.omega
    return SirenSpec(cfg.inr.depth, cfg.inr.hidden, float(omega))


def build_encoder(cfg: DictConfig, *, image_size: tuple[int, int]) -> Encoder:
    """Return how ``inr`` encodes images."""
    if cfg.inr.bytes is not None:
        return CosineConfig(cosine_spec(cfg.inr.bytes, cfg.inr.profiles, image_size=image_size), cfg.inr.basis, cfg.seed)
    fit, quantize, prune, refine = (build(cfg[group]) for group in ("fit", "quantize", "prune", "refine"))
    for key, wanted, unset in (("prune.rule", prune.rule != "none", "none"), ("refine.steps", refine.steps > 0, "0")):
        if wanted and not quantize.is_integer:
            # zeros are stored like any other weight there, and no quantization is left to train through
            raise UserError(f"{key} is {OmegaConf.select(cfg, key)}, expected {unset} with quantize.bits={quantize.bits}")
    return SirenConfig(build_spec(cfg, image_size=image_size), fit, quantize, prune, refine)


def build_augment(cfg: DictConfig) -> AugmentConfig | None:
    config = build(cfg.augment)
    return config if config.changes_anything else None


def build_autocast(cfg: DictConfig) -> bool:
    """Return whether to train in bfloat16. ``auto`` does so on a GPU only, since few CPUs are faster in it."""
    return build_device(cfg).type == "cuda" if cfg.autocast == "auto" else cfg.autocast
