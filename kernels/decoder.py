"""Which backend decodes: the Triton kernel, imported where it is needed, or its torch twin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels.decode_io import MAX_HIDDEN
from kernels.siren_decode_torch import decode_siren_torch
from kernels.spec import SirenSpec


def decoder_for(device: torch.device, spec: SirenSpec) -> Callable[..., Tensor]:
    """Return what decodes rows of `spec` on a device, of the signature of `decode_siren`.

    That is the kernel on a CUDA device, and its torch twin elsewhere and for SIRENs wider than the kernel takes.

    Raises:
        ImportError: on a CUDA device without triton.
    """
    if device.type != "cuda" or spec.hidden > MAX_HIDDEN:
        return decode_siren_torch
    from kernels.siren_decode import decode_siren  # not at the top: triton exists for Linux only

    return decode_siren
