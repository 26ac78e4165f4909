"""ResNet-18 with torchvision's parameter names, and a stem for small or for large images.

Source: He et al. 2016 (arXiv 1512.03385), table 1; the small stem, a 3x3 convolution without pooling, is from section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rapid_inr.errors import UserError, require


@dataclass(frozen=True)
class BackboneConfig:
    """The config of a ResNet-18.

    Args:
        stem: ``cifar`` (3x3, stride 1), ``imagenet`` (7x7, stride 2, max pool), or ``auto``: cifar up to 64 px.
        width: channels of the first stage, 64 in the paper; each later stage doubles it.
        weights: a safetensors file to start from, with torchvision's names; a head for another number of classes is skipped.

    Raises:
        ValueError: if a value is out of range.
    """

    stem: str = "auto"
    width: int = 64
    weights: str | None = None

    def __post_init__(self) -> None:
        require(self.stem in ("auto", "cifar", "imagenet"), "backbone.stem", repr(self.stem), "'auto', 'cifar' or 'imagenet'")
        require(self.width >= 1, "backbone.width", self.width, "at least 1")

    def resolved_stem(self, image_size: tuple[int, int]) -> str:
        """Return the stem for images of (height, width), with ``auto`` resolved."""
        return self.stem if self.stem != "auto" else ("cifar" if max(image_size) <= 64 else "imagenet")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.downsample = stride, None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        # strided here, not in the convolution: on CPUs with AVX2, oneDNN's gradient of a strided 1x1 convolution with few
        # channels in channels_last writes out of bounds (torch 2.13)
        shortcut = x if self.downsample is None else self.downsample(x[:, :, :: self.stride, :: self.stride])
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """[B, 3, height, width] normalised -> [B, n_classes] logits; `stem` is ``cifar`` or ``imagenet``."""

    def __init__(self, n_classes: int, *, stem: str, width: int = 64) -> None:
        require(stem in ("cifar", "imagenet"), "stem", repr(stem), "'cifar' or 'imagenet'")
        super().__init__()
        small = stem == "cifar"
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False) if small else nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(BasicBlock(4 * width, 8 * width, 2), BasicBlock(8 * width, 8 * width, 1))
        self.fc = nn.Linear(8 * width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))  # [B, width, height', width']
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def build_backbone(config: BackboneConfig, *, n_classes: int, image_size: tuple[int, int], seed: int) -> ResNet18:
    """Build a ResNet-18 on the CPU for images of a size; the same seed gives the same weights.

    Args:
        image_size: (height, width), which decides the stem ``auto``.

    Raises:
        FileNotFoundError: if `config.weights` names no file.
        ValueError: if the weights are of another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the GPUs
        model = ResNet18(n_classes, stem=config.resolved_stem(image_size), width=config.width)
    if config.weights is not None:
        load_weights(model, config.weights)
    return model


def load_weights(model: ResNet18, path: Path | str) -> None:
    """Load weights with torchvision's names; the model keeps its head (``fc``) if the number of classes differs.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a safetensors file, or holds the weights of another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}; expected a safetensors file with torchvision's resnet18 names")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from None
    own = model.state_dict()
    for name in ("fc.weight", "fc.bias"):
        if name in weights and weights[name].shape[1:] == own[name].shape[1:] and len(weights[name]) != len(own[name]):
            weights[name] = own[name]
    for name in own:
        if name.endswith("num_batches_tracked"):  # older files lack these counters; nothing here reads them
            weights.setdefault(name, own[name])
    shapes, expected = ({name: tuple(w.shape) for name, w in state.items()} for state in (weights, own))
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise UserError(
                f"{path} does not fit this ResNet-18: {name} is {shapes.get(name, 'missing')}, expected "
                f"{expected.get(name, 'no such name')}; check backbone.stem and backbone.width"
            )
    model.load_state_dict(weights)
