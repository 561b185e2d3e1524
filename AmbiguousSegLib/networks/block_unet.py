"""The U-Net (Ronneberger et al., MICCAI 2015) with blocks of several kinds, and with gates on its skips.

Of Ronneberger et al.: max-pooling on the way down, an up-convolution (2 × 2, stride 2) on the way up, two 3 × 3
convolutions in a block, skips joined by concatenation. What there is in place of their blocks and skips:

- ``residual``: y = P x + F(x), with F the plain block and P a 1 × 1 convolution (He et al., CVPR 2016).
- ``recurrent``: every convolution is a recurrent one (Alom et al., arXiv 1802.06955, Eq. 1 and 2; RU-Net there), and
  ``recurrent_residual``: both (R2U-Net, their Eq. 3 and 4).
- ``dense``: every convolution reads what the block read and what all its convolutions before gave (Huang et al., CVPR
  2017, Eq. 2); a 1 × 1 convolution of all of that is what the block gives (their transition layer).
- ``attention``: additive gates on the skips (Oktay et al., MIDL 2018, Eq. 1 and 2).

What differs. Convolutions are padded, and channels normalised in groups of each row by itself: over a batch, as in the
published codes, the mean of the weights that is kept would need statistics of its own, and parts of a batch would not
be the batch. The gate's signal is the one that comes up on the skip's own grid, where Oktay et al. take the skip to the
grid below and the gate back up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.layers import GroupNorm
from AmbiguousSegLib.networks.limits import check_limits

BLOCKS = ("plain", "residual", "recurrent", "recurrent_residual", "dense")


@dataclass(frozen=True)
class BlockUNetConfig:
    """Shape of the network.

    Attributes:
        in_channels: channels read.
        filters: channels of the levels, each half the size of the one before.
        convolutions: 3×3 convolutions with ReLU per block.
        block: one of ``BLOCKS``.
        attention: whether gates lie on the skips.
        recurrences: t, how often a recurrent convolution comes back to itself; matters to recurrent blocks alone.
        growth: channels of a convolution in a dense block; matters to dense blocks alone.
        norm_groups: groups of channels that are normalised together between a convolution and its ReLU; 0: none are.
    """

    in_channels: int = 1
    filters: tuple[int, ...] = (64, 128, 256, 512, 1024)
    convolutions: int = 2
    block: str = "plain"
    attention: bool = False
    recurrences: int = 2
    growth: int = 32
    norm_groups: int = 8

    def __post_init__(self) -> None:
        if min(self.in_channels, self.convolutions, self.growth, *(self.filters or (0,))) < 1 or self.recurrences < 0:
            raise ValueError(
                "BlockUNetConfig takes positive integers, at least one filter, and recurrences of 0 or more, got "
                f"{self}."
            )
        if self.block not in BLOCKS:
            raise ValueError(f"BlockUNetConfig.block must be one of {', '.join(BLOCKS)}, got {self.block!r}.")
        check_limits(
            self,
            max(self.in_channels, *self.filters) + self.convolutions * self.growth,
            max(self.convolutions, len(self.filters), self.recurrences),
        )
        normed = (self.growth, *self.filters) if self.block == "dense" else self.filters
        if self.norm_groups < 0 or any(width % self.norm_groups for width in normed if self.norm_groups):
            raise ValueError(
                "BlockUNetConfig.norm_groups must be 0, or divide all filters and the growth of a dense block, got "
                f"{self.norm_groups} and {normed}."
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return 2 ** (len(self.filters) - 1)


class RecurrentConvolution(nn.Module):
    """h₀ = ReLU(norm(W x + b)), hₖ = ReLU(norm(W x + b + V hₖ₋₁)): ``(B, channels, H, W)`` to h_t ``(B, width, H, W)``.

    Alom et al., Eq. 1 and 2; with t = 0 a plain convolution, which has no V.
    """

    def __init__(self, channels: int, width: int, recurrences: int, norm_groups: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, width, 3, padding=1)
        self.again = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1, bias=False)] if recurrences else [])
        self.norm = GroupNorm(norm_groups, width) if norm_groups else nn.Identity()
        self.recurrences = recurrences

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        read = self.read(x)
        state = F.relu(self.norm(read))
        for _ in range(self.recurrences):
            state = F.relu(self.norm(read + self.again[0](state)))
        return state


class Block(nn.Module):
    """``(B, channels, H, W)`` to ``(B, width, H, W)``, by the block that a configuration names."""

    def __init__(self, channels: int, width: int, config: BlockUNetConfig) -> None:
        super().__init__()
        self.dense = config.block == "dense"
        count, times = config.convolutions, config.recurrences if config.block.startswith("recurrent") else 0
        ins = [channels + i * config.growth if self.dense else (width if i else channels) for i in range(count)]
        out = config.growth if self.dense else width
        self.layers = nn.ModuleList(RecurrentConvolution(c, out, times, config.norm_groups) for c in ins)
        if self.dense:
            self.last = nn.Conv2d(channels + count * config.growth, width, 1)
        self.beside = nn.Conv2d(channels, width, 1) if config.block.endswith("residual") else None

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        y = x
        for layer in self.layers:
            y = torch.cat([y, layer(y)], dim=1) if self.dense else layer(y)
        y = self.last(y) if self.dense else y
        return y if self.beside is None else self.beside(x) + y


class AttentionGate(nn.Module):
    """α·x with α = σ(ψ ReLU(W_x x + W_g g + b) + b_ψ) in (0, 1), one for each pixel (Oktay et al., Eq. 1 and 2).

    Both are ``(B, channels, H, W)``: x the skip, g the signal that comes up; in between are half as many channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(1, channels // 2)
        self.skip = nn.Conv2d(channels, between, 1, bias=False)
        self.signal = nn.Conv2d(channels, between, 1)
        self.alpha = nn.Conv2d(between, 1, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """As the class says."""
        return torch.sigmoid(self.alpha(F.relu(self.skip(x) + self.signal(g)))) * x


class BlockUNet(nn.Module):
    """``(B, in_channels, H, W)`` to features ``(B, filters[0], H, W)``."""

    def __init__(self, config: BlockUNetConfig) -> None:
        super().__init__()
        widths = config.filters
        self.down = nn.ModuleList(Block(c, w, config) for c, w in zip((config.in_channels, *widths), widths))
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for below, width in pairs)
        self.gates = nn.ModuleList(AttentionGate(width) for _, width in pairs) if config.attention else None
        self.up = nn.ModuleList(Block(2 * width, width, config) for _, width in pairs)
        kaiming_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for level, (grow, block) in enumerate(zip(self.grow, self.up)):
            x, skip = grow(x), skips.pop()
            skip = skip if self.gates is None else self.gates[level](skip, x)
            x = block(torch.cat([skip, x], dim=1))
        return x
