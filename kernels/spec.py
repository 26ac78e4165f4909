"""The shape of a SIREN and the layout of its weights, defined once for the whole codebase.

A SIREN of depth D and width H maps a coordinate (row, column) in [-1, 1] to RGB in [0, 1]:

    h_0 = (row, column);   h_i = sin(omega (h_{i-1} W_i + b_i)),  i = 1..D;   rgb = h_D W_{D+1} + b_{D+1}

Source: Sitzmann et al. 2020, section 3 (arXiv 2006.09661); one network an image: Dupont et al. 2021 (COIN, 2103.03123).
This module imports neither torch nor triton.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from kernels.checks import require

IN_FEATURES = 2  # (row, column)
OUT_FEATURES = 3  # RGB


@dataclass(frozen=True)
class SirenSpec:
    """Shape of a SIREN.

    Args:
        depth: number of sine layers, at least 1; one linear layer follows (COIN's `num_layers`).
        hidden: width of every sine layer, at least 1.
        omega: frequency inside the sine (the papers' w0), positive and finite.

    Raises:
        ValueError: if an argument is out of range.
    """

    depth: int
    hidden: int
    omega: float

    def __post_init__(self) -> None:
        require(self.depth >= 1, "depth", self.depth, "at least 1")
        require(self.hidden >= 1, "hidden", self.hidden, "at least 1")
        require(math.isfinite(self.omega) and self.omega > 0, "omega", self.omega, "positive and finite")

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of the depth + 1 layers, first to last."""
        middle = ((self.hidden, self.hidden),) * (self.depth - 1)
        return ((IN_FEATURES, self.hidden), *middle, (self.hidden, OUT_FEATURES))

    @property
    def n_weights(self) -> int:
        """S, the number of parameters: weights and biases of all layers."""
        return sum(fan_in * fan_out + fan_out for fan_in, fan_out in self.fans)

    @property
    def n_hidden_weights(self) -> int:
        """Number of weights between sine layers, without biases; these are quantized and pruned."""
        return (self.depth - 1) * self.hidden * self.hidden


@dataclass(frozen=True)
class Section:
    """A named range of values in a row."""

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.start + self.size


def _sections(named_shapes: list[tuple[str, tuple[int, ...]]]) -> dict[str, Section]:
    sections, start = {}, 0
    for name, shape in named_shapes:
        sections[name] = Section(name, start, shape)
        start = sections[name].stop
    return sections


def weight_sections(spec: SirenSpec) -> dict[str, Section]:
    """Return the section of each tensor in a flat row of S weights, the layout of `fit`.

    ``weight_i`` is [fan_in, fan_out] row-major, so that a layer is ``h @ weight + bias``, and ``bias_i`` is [fan_out]; i runs
    from 0 (first sine layer) to depth (linear layer).
    """
    named = []
    for i, (fan_in, fan_out) in enumerate(spec.fans):
        named += [(f"weight_{i}", (fan_in, fan_out)), (f"bias_{i}", (fan_out,))]
    return _sections(named)


@lru_cache  # called in every decode
def end_sections(spec: SirenSpec) -> dict[str, Section]:
    """Return the section of each tensor in the `ends` of a packed row: the first and last layers and all biases.

    Order: first weight, all biases of the sine layers, last weight, last bias. Int8 ends have a scale for each of the four, in
    this order.
    """
    d, h = spec.depth, spec.hidden
    named = [
        ("first_weight", (IN_FEATURES, h)),
        ("biases", (d, h)),
        ("last_weight", (h, OUT_FEATURES)),
        ("last_bias", (OUT_FEATURES,)),
    ]
    return _sections(named)


def n_ends(spec: SirenSpec) -> int:
    """Return the length of the `ends` of a packed row; see `end_sections`."""
    return end_sections(spec)["last_bias"].stop
