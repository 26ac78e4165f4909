"""Fold the biases of sine layers into a quarter turn either way: the same function, in numbers that quantize finely.

A sine repeats: sin(omega (x + b)) = (-1)^k sin(omega (x + b - k pi / omega)) for every integer k, and the weights that the unit
feeds can take the sign. So each bias comes within pi / (2 omega): 0.1 at omega 15, where those of the first layer are drawn from
-0.7 to 0.7. Eight-bit biases then cost 0.1 dB in place of 0.6 (docs/compression.md).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.inr.siren import layer_views


def fold_biases(rows: Tensor, spec: SirenSpec) -> Tensor:
    """Return rows [B, S] of the same SIRENs whose biases of sine layers lie in [-pi / (2 omega), pi / (2 omega)].

    Equal in exact arithmetic; in float32 the values differ by rounding alone. Weights that are zero stay so.
    """
    rows, half_turn = rows.clone(), math.pi / spec.omega
    layers = layer_views(rows, spec)
    for (_, bias), (fed_weight, _) in pairwise(layers):
        half_turns = torch.round(bias / half_turn)  # [B, 1, H]
        bias.sub_(half_turns * half_turn)
        fed_weight.mul_((1 - 2 * (half_turns % 2)).transpose(1, 2))
    return rows
