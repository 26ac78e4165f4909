"""A small U-Net for segmentation. Source: Ronneberger et al. 2015 (arXiv 1505.04597), figure 1.

Unlike theirs, its convolutions are padded and followed by batch norms, and it upsamples by nearest neighbour. So it takes images
of any height and width, and its output has the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rapid_inr.errors import UserError, require


@dataclass(frozen=True)
class UNetConfig:
    """The config of a U-Net.

    Args:
        width: channels of the first level, 64 in the paper; each level below doubles them.
        levels: number of times the image is halved, 4 in the paper.

    Raises:
        ValueError: if a value is out of range.
    """

    width: int = 16
    levels: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "levels"):
            require(getattr(self, name) >= 1, f"unet.{name}", getattr(self, name), "at least 1")


def require_halvable(config: UNetConfig, image_size: tuple[int, int]) -> None:
    """Raise ValueError if images of (height, width) shrink to one pixel before the last level."""
    halvings = (min(image_size) - 1).bit_length()
    if config.levels > halvings:
        raise UserError(
            f"unet.levels is {config.levels}, but images of {image_size[0]}x{image_size[1]} can be halved {halvings} times"
        )


def _block(channels_in: int, channels: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for n_in in (channels_in, channels):
        layers += [nn.Conv2d(n_in, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """[B, 3, height, width] normalised -> [B, n_classes, height, width] logits."""

    def __init__(self, n_classes: int, *, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_block(n_in, n) for n_in, n in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(n + 2 * n, n) for n in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, n_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for block in self.down[:-1]:
            seen.append(block(x))  # [B, width * 2^level, height / 2^level, width / 2^level]
            x = F.max_pool2d(seen[-1], 2, ceil_mode=True)  # keeps an odd row or column
        x = self.down[-1](x)
        for block in self.up:
            beside = seen.pop()
            x = block(torch.cat([beside, F.interpolate(x, beside.shape[2:], mode="nearest")], dim=1))
        return self.head(x)


def build_unet(config: UNetConfig, *, n_classes: int, seed: int) -> UNet:
    """Build a U-Net on the CPU; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the GPUs
        return UNet(n_classes, width=config.width, levels=config.levels)
