"""Residual-in-residual dense blocks (RRDB; Wang et al. 2018, ESRGAN, section 3.1), and the image encoder made of them.

Nothing is normalised, every 3×3 convolution keeps height and width, and residuals are scaled before they are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AmbiguousSegLib.networks.limits import check_limits

RESIDUAL_SCALE = 0.2  # β of ESRGAN, section 3.1
SLOPE = 0.2  # of the leaky ReLU for negative values: ESRGAN's published code
_CONVOLUTIONS, _DENSE_BLOCKS = 5, 3  # of a dense block, and of an RRDB


@dataclass(frozen=True)
class RRDBConfig:
    """Shape of the encoder.

    Attributes:
        filters: channels between the blocks.
        growth: channels that each but the last convolution of a dense block adds.
        blocks: RRDBs in a row.
    """

    filters: int = 64
    growth: int = 32
    blocks: int = 6

    def __post_init__(self) -> None:
        if min(self.filters, self.growth, self.blocks) < 1:
            raise ValueError(
                "RRDBConfig takes filters, growth and blocks of at least 1, got "
                f"{self.filters}, {self.growth} and {self.blocks}."
            )
        check_limits(self, self.filters + (_CONVOLUTIONS - 1) * self.growth, self.blocks)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the input and all that came before it: ``(B, filters, H, W)`` to as much.

    The last one makes ``filters`` channels again; ``RESIDUAL_SCALE`` times that is added to the input.
    """

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        made = [growth] * (_CONVOLUTIONS - 1) + [filters]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(filters + i * growth, channels, 3, padding=1) for i, channels in enumerate(made)
        )

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        *dense, last = self.convolutions
        known = [x]
        for convolution in dense:
            known.append(_leaky(convolution(torch.cat(known, dim=1))))
        return x + RESIDUAL_SCALE * last(torch.cat(known, dim=1))


class RRDB(nn.Module):
    """Three dense blocks in a row, of which ``RESIDUAL_SCALE`` times the result is added to the input."""

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(filters, growth) for _ in range(_DENSE_BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return x + RESIDUAL_SCALE * self.dense(x)


class RRDBEncoder(nn.Module):
    """Image ``(B, in_channels, H, W)`` to features ``(B, out_channels, H, W)``, any height and width.

    ESRGAN's generator without its upsampling, as SegDiff's published code has it: a convolution, the RRDBs with a
    convolution behind them, both added; then a convolution, the leaky ReLU, and a convolution to ``out_channels``.
    """

    def __init__(self, config: RRDBConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        filters = config.filters
        self.first = nn.Conv2d(in_channels, filters, 3, padding=1)
        self.trunk = nn.Sequential(
            *(RRDB(filters, config.growth) for _ in range(config.blocks)), nn.Conv2d(filters, filters, 3, padding=1)
        )
        self.joined = nn.Conv2d(filters, filters, 3, padding=1)
        self.last = nn.Conv2d(filters, out_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """As the class says."""
        first = self.first(image)
        return self.last(_leaky(self.joined(first + self.trunk(first))))
