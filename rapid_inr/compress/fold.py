"""Fold the biases of sine layers into a quarter turn either way: the same function with a range that quantizes finely.

A sine repeats: sin(omega (x + b)) = (-1)^k sin(omega (x + b - k pi / omega)) for every integer k, and the weights after it can
take the sign. So each bias can be brought within pi / (2 omega) of 0: 0.1 at omega 15, while the first layer's are drawn from
-0.7 to 0.7. Eight-bit biases then cost 0.1 dB instead of 0.6 (docs/compression.md).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.inr.siren import layer_views


def fold_biases(rows: Tensor, spec: SirenSpec) -> Tensor:
    """Return rows [B, S] of the same SIRENs with the biases of sine layers in [-pi / (2 omega), pi / (2 omega)].

    The functions are equal up to float32 rounding. Zero weights stay zero.
    """
    rows, half_turn = rows.clone(), math.pi / spec.omega
    layers = layer_views(rows, spec)
    for (_, bias), (next_weight, _) in pairwise(layers):
        half_turns = torch.round(bias / half_turn)  # [B, 1, H]
        bias.sub_(half_turns * half_turn)
        next_weight.mul_((1 - 2 * (half_turns % 2)).transpose(1, 2))
    return rows
