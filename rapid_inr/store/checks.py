"""Checks of tensors and header values for stores of all families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rapid_inr.errors import UserError, require
from rapid_inr.store.sealed import brief

# shape, dtypes, and whether the header requires the tensor (True), forbids it (False), or allows both (None)
Expected = tuple[tuple[int, ...], tuple[torch.dtype, ...], bool | None]


def require_tensors(tensors: Mapping[str, Tensor | None], expected: Mapping[str, Expected], device: torch.device) -> None:
    """Check the presence, shapes, dtypes and device of tensors.

    Raises:
        UserError: if a tensor is wrong; the message names it, its value and the expected values.
    """
    for name, (_, _, needed) in expected.items():
        present, kinds = tensors.get(name) is not None, ("None", "a tensor")
        require(needed in (None, present), name, kinds[present], f"{kinds[not present]} by the header")
    for name, (shape, dtypes, _) in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        require(tensor.dtype in dtypes, name, tensor.dtype, " or ".join(map(str, dtypes)))
        if tensor.device != device:
            raise UserError(f"{name} is on {tensor.device}, the other tensors on {device}")


def is_of(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)  # JSON may write 15.0 as 15; true is not a number


def typed(raw: dict[str, Any], name: str, **kinds: type) -> dict[str, Any]:
    """Return the JSON object under a name, after checking the types of its values.

    Raises:
        UserError, KeyError, TypeError: if it is missing or a value has another type.
    """
    for key, kind in kinds.items():
        require(is_of(raw[name][key], kind), f"{name}.{key}", brief(raw[name][key]), kind.__name__)
    return raw[name]
