"""Mean and standard deviation of a dataset's channels, by which every pipeline normalises."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rapid_inr.errors import UserError

Triple = tuple[float, float, float]
CHUNK_PIXELS = 1 << 22  # counted at once: numpy widens what it counts to 8 bytes a value


@dataclass
class ChannelMoments:
    """Running sums over all pixels, per channel; exact integers, so that neither order nor chunks matter."""

    n_pixels: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))

    def add(self, pixels: np.ndarray) -> None:
        """Count pixels, uint8 [..., 3].

        Raises:
            ValueError: if they are of another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.shape[-1:] != (3,):
            raise UserError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 [..., 3]")
        flat = pixels.reshape(-1, 3)
        for start in range(0, len(flat), CHUNK_PIXELS):
            for channel in range(3):  # 256 counts hold all there is to know, at a tenth of the cost of squaring every pixel
                counts = np.bincount(flat[start : start + CHUNK_PIXELS, channel], minlength=256)
                self.total[channel] += counts @ np.arange(256)
                self.squares[channel] += counts @ np.arange(256) ** 2
        self.n_pixels += len(flat)

    def include(self, other: ChannelMoments) -> None:
        """Count what another has counted."""
        self.n_pixels += other.n_pixels
        self.total += other.total
        self.squares += other.squares

    def mean_std(self) -> tuple[Triple, Triple]:
        """Return mean and std per channel, of values in [0, 1]; a std is at least one level, 1/255, so that one can divide by it.

        Raises:
            ValueError: if no pixel was counted.
        """
        if self.n_pixels == 0:
            raise UserError("no pixel was counted, so there is neither mean nor std")
        mean = self.total / self.n_pixels
        std = np.sqrt(np.maximum(self.squares / self.n_pixels - mean**2, 1.0))
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
