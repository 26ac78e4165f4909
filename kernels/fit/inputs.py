"""What a fused fit reads besides the rows: the pixels, lattice after lattice, and the rates of its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.checks import require
from kernels.spec import IN_FEATURES, SirenSpec

ADAM_EPS = 1e-8
OPERAND_COLUMNS = 16  # the least inner dimension of a matrix product


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


def check_fit(
    rows: Tensor,
    means: Tensor,
    squares: Tensor,
    targets: Tensor,
    spec: SirenSpec,
    pixels: FitPixels,
    steps: AdamSteps,
    masks: Tensor | None,
    chunk: range,
) -> None:
    """Raise ValueError unless the arguments of a fit are what `fit_siren` documents."""
    batch = rows.shape[0] if rows.ndim else 0
    require(batch > 0, "rows.shape", tuple(rows.shape), f"[B, {spec.n_weights}] with at least one row")
    expected = {
        "rows": (rows, (batch, spec.n_weights), torch.float32),
        "means": (means, (batch, spec.n_weights), torch.float32),
        "squares": (squares, (batch, spec.n_weights), torch.float32),
        "targets": (targets, (batch, len(pixels.coords), 4), torch.float16),
    }
    if masks is not None:
        require(masks.ndim == 2, "masks.shape", tuple(masks.shape), f"[{batch} or 1, {spec.n_weights}]")
        expected["masks"] = (masks, (1 if len(masks) == 1 else batch, spec.n_weights), torch.bool)
    for name, (tensor, shape, dtype) in expected.items():
        require(tuple(tensor.shape) == shape, f"{name}.shape", tuple(tensor.shape), shape)
        require(tensor.dtype == dtype, f"{name}.dtype", tensor.dtype, dtype)
        require(tensor.is_contiguous(), name, f"strided {tensor.stride()}", "contiguous")
    tensors = {name: tensor for name, (tensor, _, _) in expected.items()} | {"coords": pixels.coords, "rates": steps.rates}
    for name, tensor in tensors.items():
        require(tensor.device == rows.device, f"{name}.device", tensor.device, rows.device)
    inside = 0 <= chunk.start < chunk.stop <= len(steps)
    require(inside, "first and last", f"{chunk.start} and {chunk.stop}", f"a run of the {len(steps)} steps")
    if chunk.start == 0:  # later a row that is not finite is one that diverged
        for name in ("rows", "targets"):
            require(bool(expected[name][0].isfinite().all()), name, "not finite everywhere", "finite")
