"""Checks that stores of every family share: what a tensor must be, and what a value of a header must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rapid_inr.errors import UserError, require
from rapid_inr.store.sealed import brief

# shape, dtypes, and whether the header asks for it, forbids it, or says nothing (None)
Expected = tuple[tuple[int, ...], tuple[torch.dtype, ...], bool | None]


def require_tensors(there: Mapping[str, Tensor | None], expected: Mapping[str, Expected], device: torch.device) -> None:
    """Require tensors of these shapes and dtypes on one device.

    Raises:
        UserError: naming the tensor, what it is and what was expected.
    """
    for name, (_, _, needed) in expected.items():
        present, kinds = there.get(name) is not None, ("None", "a tensor")
        require(needed in (None, present), name, kinds[present], f"{kinds[not present]} by the header")
    for name, (shape, dtypes, _) in expected.items():
        tensor = there.get(name)
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        require(tensor.dtype in dtypes, name, tensor.dtype, " or ".join(map(str, dtypes)))
        if tensor.device != device:
            raise UserError(f"{name} is on {tensor.device}, the other tensors on {device}")


def is_of(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)  # JSON may write 15.0 as 15; true is no number


def typed(raw: dict[str, Any], name: str, **kinds: type) -> dict[str, Any]:
    """Return the JSON object under a name, whose values have these types.

    Raises:
        UserError, KeyError, TypeError: if it does not.
    """
    for key, kind in kinds.items():
        require(is_of(raw[name][key], kind), f"{name}.{key}", brief(raw[name][key]), kind.__name__)
    return raw[name]
