"""Where a decode samples the INR: the samples of a pixel, and what lies outside the image; shared by all its backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.checks import require
from kernels.rows import require_contiguous

PADDINGS = ("none", "zeros", "reflection", "border")
MAX_SUPERSAMPLE = 16


@dataclass(frozen=True, eq=False)
class Sampling:
    """The samples of a decode; the arguments are those of `decode_siren`.

    Raises:
        ValueError: if `padding` or `supersample` is out of range, or `edges` is missing.
    """

    padding: str
    edges: Tensor | None
    supersample: int

    def __post_init__(self) -> None:
        require(self.padding in PADDINGS, "padding", repr(self.padding), f"one of {', '.join(PADDINGS)}")
        n, whole = self.supersample, isinstance(self.supersample, int) and not isinstance(self.supersample, bool)
        require(whole and 1 <= n <= MAX_SUPERSAMPLE, "supersample", n, f"a whole number from 1 to {MAX_SUPERSAMPLE}")
        ok = self.edges is not None or not self.folds
        require(ok, "edges", self.edges, f"a tensor with padding={self.padding!r}")

    @property
    def folds(self) -> bool:
        """Whether coordinates are brought back to the image, for which its edges must be known."""
        return self.padding in ("reflection", "border")

    def check(self, ids: Tensor) -> None:
        """Require edges that fit a batch; their values are looked at on the CPU only.

        Raises:
            ValueError: if dtype, shape, device, contiguity or, on the CPU, a value is not what the decode reads.
        """
        edges = self.edges
        if edges is None:
            return
        require(edges.dtype == torch.float32, "edges.dtype", edges.dtype, torch.float32)
        shapes = ((2,), (len(ids), 2))
        require(tuple(edges.shape) in shapes, "edges.shape", tuple(edges.shape), f"{shapes[0]} or {shapes[1]}")
        require(edges.device == ids.device, "edges.device", edges.device, f"{ids.device}, that of the rows")
        require_contiguous(edges=edges)
        if edges.device.type == "cpu":
            outside = ((edges < 0) | (edges >= 1) | edges.isnan()).reshape(-1, 2).any(1)
            first = edges.reshape(-1, 2)[outside][:1].tolist()
            require(not first, "edges", first[0] if first else None, "1 - 1 / height and 1 - 1 / width, each in [0, 1)")

    def offsets(self) -> Iterator[tuple[float, float]]:
        """Yield where the samples of a pixel lie from its centre, in pixels."""
        places = [(k + 0.5) / self.supersample - 0.5 for k in range(self.supersample)]
        return ((row, column) for row in places for column in places)

    def average(self, sample: Callable[[float, float], Tensor]) -> Tensor:
        """Return the RGB that `sample` gives (row, column) off the pixels' centres; of more than one, clamped each, the mean."""
        if self.supersample == 1:
            return sample(0.0, 0.0)
        total = sum(sample(row, column).nan_to_num_(nan=0.0).clamp_(0, 1) for row, column in self.offsets())
        return total / self.supersample**2

    def bend(self, coords: Tensor, images: slice) -> Tensor:
        """Bring coordinates [b or 1, 2, P] back to the image, for reflect and clamp.

        Args:
            images: those of the batch that the coordinates belong to.
        """
        if not self.folds:
            return coords
        edges = self.edges[None] if self.edges.ndim == 1 else self.edges[images]
        edges = edges[:, :, None].to(coords.dtype)  # [b or 1, 2, 1]
        if self.padding == "border":
            return torch.minimum(torch.maximum(coords, -edges), edges)
        # a triangle wave: 0 at one edge, 1 at the other; a single pixel has both edges in its centre
        turns = (coords + edges) / torch.where(edges > 0, 2 * edges, 1)
        folded = (turns - 2 * (turns / 2).round()).abs() * (2 * edges) - edges
        return torch.where(coords.abs() <= edges, coords, folded)

    def blacken(self, rgb: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Set RGB [b, 3, ...] to 0 where coordinates [b or 1, ...] lie outside the image, for zeros; in place."""
        if self.padding == "zeros":
            rgb.masked_fill_(((y.abs() > 1) | (x.abs() > 1))[:, None], 0)
        return rgb
