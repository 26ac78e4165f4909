"""A training on disk: one safetensors file with weights, momenta and averages, and facts about them as JSON in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rapid_inr.errors import UserError
from rapid_inr.files import atomic

VERSION = 2
METADATA_KEY = "rapid_inr_training"


class CheckpointError(UserError):
    """A file is not a checkpoint, or not one of this training; the message names the file and the first difference."""


@dataclass(frozen=True)
class Checkpoint:
    """A training after a whole epoch.

    Args:
        tensors: by name: ``model.*``, ``momentum.*`` and, where weights are averaged, ``average.*``.
        reports: of each epoch done, as JSON values.
        steps: taken so far, fewer than the epochs' batches where some could not be read.
    """

    tensors: dict[str, Tensor]
    reports: list[dict[str, Any]]
    steps: int

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix.``, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, training: Mapping[str, Any]) -> None:
    """Write a checkpoint, atomically: the file is whole, or still the one before.

    Args:
        training: JSON values by which the training is known again: network, recipe, data.
    """
    facts = {"version": VERSION, "training": dict(training), "reports": checkpoint.reports, "steps": checkpoint.steps}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(facts)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # days of training must outlive a power cut


def read_checkpoint(path: Path | str, *, training: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a training.

    Args:
        training: as it was written; a training that differs in any of these values is another one.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is no checkpoint, or one of another training.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a training leaves one in its run as PIPELINE_last.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        facts = json.loads(metadata[METADATA_KEY])
        if facts["version"] != VERSION:
            raise CheckpointError(f"{path} has checkpoint version {facts['version']}, this program reads {VERSION}")
        found, reports, steps = facts["training"], facts["reports"], facts["steps"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a training ({type(error).__name__}: {error})") from None
    asked = json.loads(json.dumps(dict(training)))
    for key in sorted(found.keys() | asked.keys()):
        if found.get(key) != asked.get(key):
            raise CheckpointError(f"{path} is of a training with {key}={found.get(key)}, this one has {key}={asked.get(key)}")
    return Checkpoint(tensors, reports, steps)
