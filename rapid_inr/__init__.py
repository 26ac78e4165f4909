"""Rapid-INR: each image of a dataset is a small SIREN, stored compressed and decoded on the training device.

    from rapid_inr import AugmentConfig, INRLoader

    train = INRLoader("train.inr", 256, augment=AugmentConfig(), device="cuda")
    test = INRLoader("test.inr", 256, seed=None, mean=train.mean, std=train.std, device="cuda")
    for images, labels in train: ...

Names are imported on first use, so importing the package itself costs nothing.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "data": ("CorruptImage", "DatasetMissing", "ImageSource", "open_source"),
    "inr.fit": ("FitConfig", "fit"),
    "compress.prune": ("PruneConfig",),
    "compress.qat": ("RefineConfig",),
    "compress.quantize": ("QuantizeConfig", "quantize"),
    "encoding.siren": ("SirenConfig",),
    "encoding.cosine": ("CosineConfig",),
    "encoding.encode": ("encode",),
    "store.packed": ("PackedStore", "StoreTooLarge"),
    "store.format": ("StoreFormatError", "read_store", "write_store"),
    "store.decode": ("decode",),
    "augment.policy": ("AugmentConfig",),
    "pipelines.batches": ("Batch",),
    "pipelines.loader": ("INRLoader",),
    "errors": ("UserError",),
}
_HOMES = {name: f"rapid_inr.{module}" for module, names in _MODULES.items() for name in names} | {"SirenSpec": "kernels.spec"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
