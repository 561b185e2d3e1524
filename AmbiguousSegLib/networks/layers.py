"""Layers of the U-Net that know nothing of its shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """Group normalisation computed in at least float32, whatever the precision around it."""

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        if x.dtype in (torch.float16, torch.bfloat16):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


class SiLU(nn.SiLU):
    """x·sigmoid(x), in place where no gradients are recorded: for what nothing else will read, as a norm's output."""

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return F.silu(x, inplace=not torch.is_grad_enabled())


def zeroed(module: nn.Module) -> nn.Module:
    """The module, with all its weights set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Downsample(nn.Module):
    """Halves height and width by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return self.op(x)


class Upsample(nn.Module):
    """Doubles height and width by repetition, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
