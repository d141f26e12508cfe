"""What stands before the first cell."""

from __future__ import annotations

from typing import Literal

from torch import nn

Stem = Literal["cifar", "imagenet"]
"""Which of the two: full resolution, or an eighth of it."""


def cifar_stem(in_channels: int, C: int) -> nn.Sequential:
    """[B, in_channels, H, W] -> [B, C, H, W]"""
    return nn.Sequential(
        nn.Conv2d(in_channels, C, 3, padding=1, bias=False),
        nn.BatchNorm2d(C),
    )


def imagenet_stems(in_channels: int, C: int) -> tuple[nn.Sequential, nn.Sequential]:
    """[B, in_channels, H, W] -> [B, C, H/4, W/4] -> [B, C, H/8, W/8]"""
    stem0 = nn.Sequential(
        nn.Conv2d(in_channels, C // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(C // 2),
        nn.ReLU(),
        nn.Conv2d(C // 2, C, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(C),
    )
    stem1 = nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(C, C, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(C),
    )
    return stem0, stem1
