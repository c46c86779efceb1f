"""ResNet-20 for images of 32 by 32 pixels in ten classes (He et al. 2016, Deep Residual Learning, section 4.2).

Three stages of three blocks with 16, 32 and 64 channels. A shortcut between stages takes every second pixel and fills
the new channels with zeros (option A of the paper), so that it has no weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Shortcut(nn.Module):
    """Every second pixel, with ``added`` channels of zeros, half of them on either side."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        before = self.added // 2
        return functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


class Block(nn.Module):
    """Two convolutions and a shortcut: [batch, before, height, width] to [batch, after, height, width]."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = Shortcut(after - before) if stride > 1 else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(images))


class ResNet20(nn.Module):
    """[batch, 3, 32, 32] to logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(before: int, after: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Block(before, after, stride), Block(after, after, 1), Block(after, after, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.linear(hidden.mean(dim=(2, 3)))


def resnet20() -> nn.Module:
    """A fresh ResNet-20."""
    return ResNet20()
