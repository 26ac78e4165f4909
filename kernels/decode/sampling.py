"""The points at which a decode samples an INR: supersampling and padding, shared by all backends."""

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
    """The supersampling and padding of a decode; the arguments are those of `decode_siren`.

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
        require(ok, "edges", self.edges, f"[1 - 1/height, 1 - 1/width] of the encoded image with padding={self.padding!r}")

    @property
    def folds(self) -> bool:
        """Whether coordinates are folded back into the image, which needs its edges."""
        return self.padding in ("reflection", "border")

    def check(self, ids: Tensor) -> None:
        """Check that the edges fit a batch; their values are checked only on the CPU.

        Raises:
            ValueError: if they have the wrong dtype, shape or device, are not contiguous or, on the CPU, have a wrong value.
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
        """Return the offsets of a pixel's samples from its centre, in pixels."""
        along = [(k + 0.5) / self.supersample - 0.5 for k in range(self.supersample)]
        return ((row, column) for row in along for column in along)

    def average(self, sample: Callable[[float, float], Tensor]) -> Tensor:
        """Return the RGB of `sample` at the pixels' centres or, with supersampling, the mean of its clamped values."""
        if self.supersample == 1:
            return sample(0.0, 0.0)
        total = sum(sample(row, column).nan_to_num_(nan=0.0).clamp_(0, 1) for row, column in self.offsets())
        return total / self.supersample**2

    def bend(self, coords: Tensor, images: slice) -> Tensor:
        """Fold coordinates [b or 1, 2, P] back into the image, for reflection and border.

        Args:
            images: the images of the batch that the coordinates belong to.
        """
        if not self.folds:
            return coords
        edges = self.edges[None] if self.edges.ndim == 1 else self.edges[images]
        edges = edges[:, :, None].to(coords.dtype)  # [b or 1, 2, 1]
        if self.padding == "border":
            return torch.minimum(torch.maximum(coords, -edges), edges)
        # a triangle wave: 0 at one edge, 1 at the other; the two edges of a single pixel coincide
        turns = (coords + edges) / torch.where(edges > 0, 2 * edges, 1)
        folded = (turns - 2 * (turns / 2).round()).abs() * (2 * edges) - edges
        return torch.where(coords.abs() <= edges, coords, folded)

    def blacken(self, rgb: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """With padding ``zeros``, set RGB [b, 3, ...] to 0 in place where coordinates [b or 1, ...] lie outside the image."""
        if self.padding == "zeros":
            rgb.masked_fill_(((y.abs() > 1) | (x.abs() > 1))[:, None], 0)
        return rgb
