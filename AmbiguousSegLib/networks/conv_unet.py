"""Plain convolutional U-Net without timestep, the feature extractor of the Probabilistic U-Net (Kohl et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.layers import GroupNorm
from AmbiguousSegLib.networks.limits import check_limits


@dataclass(frozen=True)
class ConvUNetConfig:
    """Shape of the network.

    Attributes:
        in_channels: channels read.
        filters: channels of the levels, each half the size of the one before.
        convolutions: 3×3 convolutions with ReLU per block.
        norm_groups: groups of channels that are normalised together, of each row by itself, between a convolution and
            its ReLU; 0: nothing is normalised.
        patch: edge of the squares of pixels that the first level sees as one place with as many channels more (space to
            depth, Shi et al., CVPR 2016), and that the features are spread to again; 1: pixels.
    """

    in_channels: int = 1
    filters: tuple[int, ...] = (32, 64, 128, 192)
    convolutions: int = 3
    norm_groups: int = 0
    patch: int = 1

    def __post_init__(self) -> None:
        if min(self.in_channels, self.convolutions, self.patch, *(self.filters or (0,))) < 1:
            raise ValueError(f"ConvUNetConfig takes positive integers and at least one filter, got {self}.")
        check_limits(
            self,
            max(self.in_channels * self.patch**2, *self.filters) * self.patch,
            max(self.convolutions, len(self.filters)),
        )
        if self.norm_groups < 0 or any(width % self.norm_groups for width in self.filters if self.norm_groups):
            raise ValueError(
                f"ConvUNetConfig.norm_groups must be 0, or divide all filters, got {self.norm_groups} and "
                f"{self.filters}."
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return self.patch * 2 ** (len(self.filters) - 1)


def _block(channels: int, width: int, config: ConvUNetConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(config.convolutions):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if config.norm_groups:
            layers.append(GroupNorm(config.norm_groups, width))
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers)


class ConvUNet(nn.Module):
    """``(B, in_channels, H, W)`` to features ``(B, filters[0], H, W)``; average pooling, bilinear upsampling."""

    def __init__(self, config: ConvUNetConfig) -> None:
        super().__init__()
        widths, self.patch = config.filters, config.patch
        channels = config.in_channels * config.patch**2
        self.down = nn.ModuleList(_block(c, w, config) for c, w in zip((channels, *widths), widths))
        self.up = nn.ModuleList(
            _block(below + skip, skip, config) for below, skip in zip(widths[:0:-1], widths[-2::-1])
        )
        if self.patch > 1:
            self.spread = nn.Conv2d(widths[0], widths[0] * self.patch**2, 1)
        kaiming_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of each level, the finest first: ``(B, filters[i], H / 2ⁱ / patch, W / 2ⁱ / patch)``."""
        skips = []
        x = F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            skips.append(x)
        return skips

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Features ``(B, filters[0], H, W)`` from those of ``encode``."""
        *skips, x = levels
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], dim=1))
        return F.pixel_shuffle(self.spread(x), self.patch) if self.patch > 1 else x
