"""The input checks and the image format of a decode, shared by all backends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.checks import require
from kernels.rows import TensorRows, require_contiguous
from kernels.spec import OUT_FEATURES

MAX_HIDDEN = 64  # widest SIREN whose activations the kernel keeps in registers; torch takes any width
MAX_INT32 = 2**31 - 1
MAX_WIDTH = 2**22
BACKENDS = ("auto", "kernel", "torch")
NEEDS_GPU = "a CUDA device, or TRITON_INTERPRET=1 for Triton's interpreter (backend='torch' runs on any)"
IMAGE_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)


def check_batch(ids: Tensor, affine: Tensor, rows: TensorRows) -> None:
    """Check the ids and affine maps of a batch.

    Values (ids within the store, a finite affine) are checked only on the CPU, since on a GPU this would wait for the device.

    Raises:
        ValueError: if a tensor has the wrong dtype, shape or device, is not contiguous or, on the CPU, has a wrong value.
    """
    for name, value in {"ids": ids, "affine": affine}.items():
        require(isinstance(value, Tensor), name, value, "a tensor")
    require(ids.dtype == torch.int64, "ids.dtype", ids.dtype, torch.int64)
    require(ids.ndim == 1 and len(ids) >= 1, "ids.shape", tuple(ids.shape), "[B] with B >= 1")
    require(ids.device == rows.device, "ids.device", ids.device, f"{rows.device}, that of the rows")
    require(affine.dtype == torch.float32, "affine.dtype", affine.dtype, torch.float32)
    shapes = ((2, 3), (len(ids), 2, 3))
    require(tuple(affine.shape) in shapes, "affine.shape", tuple(affine.shape), f"{shapes[0]} or {shapes[1]}")
    require(affine.device == rows.device, "affine.device", affine.device, f"{rows.device}, that of the rows")
    require_contiguous(ids=ids, affine=affine)
    if ids.device.type == "cpu":
        low, high = (int(v) for v in torch.aminmax(ids))
        require(low >= 0 and high < len(rows), "ids", f"in [{low}, {high}]", f"within [0, {len(rows) - 1}]")
        if not bool(affine.isfinite().all()):  # builds the message only if needed
            first = next(matrix for matrix in affine.reshape(-1, 2, 3) if not bool(matrix.isfinite().all()))
            require(False, "affine", first.tolist(), "finite")


@dataclass(frozen=True)
class ImageFormat:
    """The format of the images that a decode writes; the arguments are those of `decode_siren`.

    Raises:
        ValueError: if size, dtype or normalisation are out of range or contradict each other.
    """

    height: int
    width: int
    dtype: torch.dtype
    mean: Sequence[float] | None
    std: Sequence[float] | None
    round_8bit: bool
    channels_last: bool

    def __post_init__(self) -> None:
        size = f"{self.height}x{self.width}"
        require(self.height >= 1 and self.width >= 1, "height x width", size, "at least 1x1")
        # 4096 leaves room for the offsets of the last, partly filled block
        require(self.n_pixels * OUT_FEATURES <= MAX_INT32 - 4096, "height x width", size, "under 2^31 values an image")
        require(
            self.width <= MAX_WIDTH, "width", self.width, f"at most {MAX_WIDTH}, up to which the kernel places pixels exactly"
        )
        require(self.dtype in IMAGE_DTYPES, "dtype", self.dtype, f"one of {IMAGE_DTYPES}")
        require((self.mean is None) == (self.std is None), "mean, std", f"{self.mean}, {self.std}", "both or neither")
        if self.dtype == torch.uint8:
            require(self.round_8bit, "round_8bit", self.round_8bit, "True for torch.uint8")
            require(self.mean is None, "mean", self.mean, "None for torch.uint8")
        if self.mean is not None and self.std is not None:
            require(_three(self.mean), "mean", self.mean, "three finite numbers")
            require(_three(self.std) and min(self.std) > 0, "std", self.std, "three positive numbers")

    @property
    def n_pixels(self) -> int:
        return self.height * self.width

    def empty(self, batch: int, device: torch.device) -> Tensor:
        """Return uninitialised images, [batch, 3, height, width]."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        size = (batch, OUT_FEATURES, self.height, self.width)
        return torch.empty(size, dtype=self.dtype, device=device, memory_format=layout)

    def planes(self, out: Tensor) -> Tensor:
        """View images as [B, 3, P], in either layout."""
        return out.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if self.channels_last else out.flatten(2)

    def finish_(self, rgb: Tensor) -> Tensor:
        """Clamp, round and normalise RGB [b, 3, P] to the values of the images, in place."""
        rgb.nan_to_num_(nan=0.0).clamp_(0, 1)
        if self.round_8bit:
            rgb.mul_(255).round_()
            if self.dtype != torch.uint8:
                rgb.div_(255)
        if self.mean is not None and self.std is not None:
            rgb.sub_(rgb.new_tensor(self.mean)[:, None]).div_(rgb.new_tensor(self.std)[:, None])
        return rgb

    def gains_and_shifts(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return gain and shift of each channel: output = gain x + shift, with x in 0..255 if rounded, else in [0, 1]."""
        top = 255.0 if self.round_8bit and self.dtype != torch.uint8 else 1.0
        mean = (0.0,) * OUT_FEATURES if self.mean is None else self.mean
        std = (1.0,) * OUT_FEATURES if self.std is None else self.std
        return tuple(1 / (top * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))


def cut(n_images: int, n_lines: int, line_values: int, values: int) -> tuple[int, int]:
    """Return (images, lines) of a chunk with at most `values` values: whole images, or lines of one image, at least one line."""
    lines = max(1, min(n_lines, values // line_values))
    return (max(1, min(n_images, values // (line_values * lines))) if lines == n_lines else 1), lines


def _three(values: Sequence[float]) -> bool:
    return len(values) == OUT_FEATURES and all(math.isfinite(value) for value in values)
