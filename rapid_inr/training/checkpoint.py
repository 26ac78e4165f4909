"""Checkpoints: one safetensors file with weights, momenta and averages, and JSON in its metadata."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from rapid_inr.errors import UserError
from rapid_inr.files import atomic
from rapid_inr.runlog.differences import first_difference
from rapid_inr.store.tensor_file import read_tensors

VERSION = 3
METADATA_KEY, CHECKSUM_KEY = "rapid_inr_training", "sha256"


class CheckpointError(UserError):
    """A file is not a checkpoint of this training; the message names the file and the first difference."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a whole epoch.

    Args:
        tensors: by name: ``model.*``, ``momentum.*`` and, with EMA, ``average.*``.
        reports: one for each finished epoch, as JSON values.
        steps: number of steps taken; less than the number of batches if some could not be read.
    """

    tensors: dict[str, Tensor]
    reports: list[dict[str, Any]]
    steps: int

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix.``, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, training: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        training: JSON values by dotted name that identify the training: network, optimizer, data.
    """
    values = {"version": VERSION, "training": dict(training), "reports": checkpoint.reports, "steps": checkpoint.steps}
    text = json.dumps(values)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: text, CHECKSUM_KEY: _checksum(text, tensors)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # days of training must survive a power cut


def read_checkpoint(path: Path | str, *, training: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a training.

    Args:
        training: the identity of this training; all values must equal those in the file.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is not a checkpoint, damaged, or of another training.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a training writes PIPELINE_last.safetensors to its run folder")
    try:
        metadata, tensors = read_tensors(path)
        metadata = metadata or {}
        text = metadata[METADATA_KEY]
        values = json.loads(text)
        version, checksum = values["version"], metadata.get(CHECKSUM_KEY)
        before, checkpoint = values["training"], Checkpoint(tensors, values["reports"], values["steps"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of a training ({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise CheckpointError(f"{path} has checkpoint version {version}, expected {VERSION}; train again")
    if checksum != _checksum(text, tensors):
        raise CheckpointError(f"{path} is damaged: its checksum does not match its content; resume from another one")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} holds values in {name} that are not finite: the training diverged")
    if differs := first_difference(before, training):
        key, then, now = differs
        raise CheckpointError(f"{path} is of a training with {key}={then}, this one has {key}={now}")
    return checkpoint


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the metadata and of the name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
