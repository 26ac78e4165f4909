"""Register the dataclasses of schema.py with Hydra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.setup.schema import SCHEMAS, CommonConfig


def schema(config: type) -> DictConfig:
    """Return a dataclass as a typed configuration that can be changed, although the library's dataclasses are frozen.

    Unknown keys can be added: `unknown_keys` finds them, and the command line words the error better than OmegaConf.
    """
    node = OmegaConf.structured(config, flags={"struct": False})
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            OmegaConf.set_readonly(child, None)
    OmegaConf.set_struct(node.labels, False)  # free-form
    return node


def register(verb: str) -> None:
    """Register the schema of a command as ``VERB_schema``, or ``common_schema`` for one without. All take a tenth of a second."""
    name = verb if verb in SCHEMAS else "common"
    ConfigStore.instance().store(name=f"{name}_schema", node=schema(SCHEMAS.get(verb, CommonConfig)))


def unknown_keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of keys that the dataclasses of a configuration lack."""
    kind = OmegaConf.get_type(cfg)
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else None
    for key in cfg:
        if known is not None and key not in known:
            yield f"{prefix}{key}"
        elif not OmegaConf.is_missing(cfg, key) and OmegaConf.is_dict(cfg._get_node(key)) and cfg[key] is not None:
            yield from unknown_keys(cfg[key], f"{prefix}{key}.")
