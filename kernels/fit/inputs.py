"""The inputs of a fused fit: rows, target pixels by lattice, learning rates, and an optional rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.checks import require
from kernels.spec import IN_FEATURES, SirenSpec

ADAM_EPS = 1e-8


@dataclass(frozen=True)
class FitPixels:
    """The pixels of the images of a fit, the same for all.

    Args:
        coords: float32 [P, 2], lattice after lattice.
        sizes: pixels of each lattice; their sum is P.

    Raises:
        ValueError: if a tensor or a size is wrong.
    """

    coords: Tensor
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.coords.shape), self.coords.dtype
        require(self.coords.ndim == 2 and shape[1] == IN_FEATURES, "coords.shape", shape, f"[P, {IN_FEATURES}]")
        require(dtype == torch.float32, "coords.dtype", dtype, torch.float32)
        require(min(self.sizes, default=0) > 0, "sizes", self.sizes, "at least one, all positive")
        require(sum(self.sizes) == len(self.coords), "sizes", f"{sum(self.sizes)} in all", f"{len(self.coords)}, as coords has")

    @cached_property
    def starts(self) -> Tensor:
        """The first pixel of each lattice and the number of all pixels, int32 [L + 1]."""
        return torch.tensor([0, *self.sizes], device=self.coords.device).cumsum(0).int()

    @cached_property
    def operand(self) -> Tensor:
        """The operand of each pixel, float16 [P, 16]; gradient.py describes it."""
        high = self.coords.half()
        low = (self.coords - high.float()).half()
        one, zero = torch.ones_like(high[:, :1]), torch.zeros_like(high[:, :1])
        position = [high, one, zero]
        return torch.cat([*position, *[zero] * 4, *position, low, zero, zero], 1).contiguous()


@dataclass(frozen=True)
class AdamSteps:
    """The steps of a fit by Adam (Kingma & Ba 2015, algorithm 1): ``w -= rate m / (sqrt(v) root + 1e-8)``.

    Args:
        rates: float32 [T], the learning rate of each step divided by its bias correction ``1 - beta_1^t``.
        roots: float32 [T], ``(1 - beta_2^t)^-1/2``.
        betas: decay rates of the moments, in [0, 1).
        first_full: the first step that sees all pixels; an earlier step t sees lattice t modulo the number of lattices.
    """

    rates: Tensor
    roots: Tensor
    betas: tuple[float, float]
    first_full: int

    @classmethod
    def of(
        cls, learning_rates: Sequence[float], betas: tuple[float, float], first_full: int, device: torch.device | str = "cpu"
    ) -> AdamSteps:
        """Make the steps from their learning rates, with corrections computed in float64.

        Raises:
            ValueError: if there is no step, or a value is out of range.
        """
        require(len(learning_rates) > 0, "learning_rates", "empty", "one a step")
        require(all(map(math.isfinite, learning_rates)), "learning_rates", learning_rates, "finite")
        require(len(betas) == 2 and all(0 <= beta < 1 for beta in betas), "betas", betas, "two numbers in [0, 1)")
        require(first_full >= 0, "first_full", first_full, "at least 0")
        rates = [rate / (1 - betas[0] ** (i + 1)) for i, rate in enumerate(learning_rates)]
        roots = [(1 - betas[1] ** (i + 1)) ** -0.5 for i in range(len(learning_rates))]
        return cls(*(torch.tensor(x, dtype=torch.float32, device=device) for x in (rates, roots)), tuple(betas), first_full)

    def __len__(self) -> int:
        return len(self.rates)


def image_targets(images: Tensor, order: Tensor) -> Tensor:
    """Return the target colours of a fit, float16 [B, P, 4] in [0, 1], with 0 as the fourth value.

    Args:
        images: uint8 [B, height, width, 3].
        order: int64 [P], the pixels lattice after lattice, on the same device.
    """
    return torch.nn.functional.pad(images.flatten(1, 2)[:, order].float().div_(255).half(), (0, 1))


@dataclass
class Rounding:
    """How rows are rounded in each step, and how the scales of their hidden weights are learned.

    `siren_fit_torch` calls `forward` and `backward`; the kernel computes the same by itself.

    Args:
        log_scales: float32 [B, D-1, H or 1], logarithms, learned in place; or [1, D-1, 1], shared by all images and fixed.
        max_code: the largest code of a hidden weight.
        ends_bits: 8, 16 or 32, of all other weights.
        relative_rate: learning rate of `log_scales` over that of the rows; 0 for shared scales.
        forward: rows [B, S] -> rounded rows.
        backward: (rows, gradient at the rounded rows) -> gradients by rows and by `log_scales`.
    """

    log_scales: Tensor
    max_code: int
    ends_bits: int
    relative_rate: float
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def __post_init__(self) -> None:
        self.means, self.squares = torch.zeros_like(self.log_scales), torch.zeros_like(self.log_scales)

    @property
    def scales_a_layer(self) -> int:
        return self.log_scales.shape[2]

    def check(self, batch: int, spec: SirenSpec) -> None:
        """Raise ValueError unless the rounding fits a batch of rows."""
        shape, learned = tuple(self.log_scales.shape), self.relative_rate > 0
        columns = (1, spec.hidden) if learned else (1,)
        shapes = [(batch if learned else 1, spec.depth - 1, count) for count in columns]
        require(shape in shapes, "log_scales.shape", shape, " or ".join(map(str, shapes)))
        require(bool(self.log_scales.isfinite().all()), "log_scales", "not finite everywhere", "finite")
        require(1 <= self.max_code <= 127, "max_code", self.max_code, "1 to 127")
        require(self.ends_bits in (8, 16, 32), "ends_bits", self.ends_bits, "8, 16 or 32")


@dataclass
class FitState:
    """The state of the fits of B images; rows are trained in place.

    The loss of an image is its mean squared error over the pixels of a step and the channels. A fit that diverges ends with rows
    that are not finite.

    Args:
        rows: float32 [B, S], initial weights, in the layout of `kernels.spec.weight_sections`.
        targets: float16 [B, P, 4], the colours in the order of `pixels`, with 0 as the fourth value (`image_targets`).
        steps: of the whole fit, on the device of the rows like `pixels`.
        masks: bool [B, S] or [1, S], false where a weight stays zero; None trains all.
        rounding: to train the rows through; None for none.

    Raises:
        ValueError: if an argument is wrong; the message names it, its value and the expected values.
    """

    rows: Tensor
    targets: Tensor
    spec: SirenSpec
    pixels: FitPixels
    steps: AdamSteps
    masks: Tensor | None = None
    rounding: Rounding | None = None

    def __post_init__(self) -> None:
        batch = self.rows.shape[0] if self.rows.ndim else 0
        require(batch > 0, "rows.shape", tuple(self.rows.shape), f"[B, {self.spec.n_weights}] with at least one row")
        self._check("rows", self.rows, (batch, self.spec.n_weights), torch.float32)
        self._check("targets", self.targets, (batch, len(self.pixels.coords), 4), torch.float16)
        self._check("coords", self.pixels.coords, tuple(self.pixels.coords.shape), torch.float32)
        self._check("rates", self.steps.rates, (len(self.steps),), torch.float32)
        for name in ("rows", "targets"):
            require(bool(getattr(self, name).isfinite().all()), name, "not finite everywhere", "finite")
        if self.masks is not None:
            own = self.masks.ndim != 2 or len(self.masks) != 1
            self._check("masks", self.masks, (batch if own else 1, self.spec.n_weights), torch.bool)
            self.rows.mul_(self.masks)
        if self.rounding is not None:
            self.rounding.check(batch, self.spec)
            self._check("log_scales", self.rounding.log_scales, tuple(self.rounding.log_scales.shape), torch.float32)
        self.means, self.squares = torch.zeros_like(self.rows), torch.zeros_like(self.rows)  # Adam's moments

    def _check(self, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        require(tuple(tensor.shape) == shape, f"{name}.shape", tuple(tensor.shape), shape)
        require(tensor.dtype == dtype, f"{name}.dtype", tensor.dtype, dtype)
        require(tensor.is_contiguous(), name, f"strided {tensor.stride()}", "contiguous")
        require(tensor.device == self.rows.device, f"{name}.device", tensor.device, self.rows.device)

    def chunk(self, first: int, last: int | None) -> range:
        """Return the steps from `first` up to but not including `last`; None for the end.

        Raises:
            ValueError: unless these are one or more of the steps.
        """
        chunk = range(first, len(self.steps) if last is None else last)
        inside = 0 <= chunk.start < chunk.stop <= len(self.steps)
        require(inside, "first and last", f"{chunk.start} and {chunk.stop}", f"a range of the {len(self.steps)} steps")
        return chunk
