"""SegNet (Badrinarayanan et al., TPAMI 2017): an encoder that remembers where each maximum was, and a decoder that puts
its features back there.

From the paper: stages of 3 × 3 convolutions as those of VGG16, each closed by max-pooling; a decoder that mirrors it,
whose stages open with unpooling, all other pixels being 0; no skips. Dropout as Kendall et al. (arXiv 1511.02680,
"central encoder-decoder") place it: after the pooling of the deepest encoder stages, and after the convolutions of the
decoder stages that mirror them.

What differs: channels are normalised in groups of each row by itself instead of over the batch, for the reasons that
``networks.block_unet`` gives, and the encoder starts from He's initialisation and not from weights learnt on ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.layers import GroupNorm
from AmbiguousSegLib.networks.limits import check_limits

Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SegNetConfig:
    """Shape of the network; as published by default.

    Attributes:
        filters: channels of the stages, each half the size of the one before.
        convolutions: 3×3 convolutions of each stage, in encoder and decoder alike; one number for each of ``filters``.
        norm_groups: groups of channels that are normalised together between a convolution and its ReLU; 0: none are.
    """

    filters: tuple[int, ...] = (64, 128, 256, 512, 512)
    convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)
    norm_groups: int = 32

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.convolutions) or min((*self.filters, *self.convolutions), default=0) < 1:
            raise ValueError(
                "SegNetConfig takes as many filters as numbers of convolutions, all positive integers, got "
                f"{self.filters} and {self.convolutions}."
            )
        check_limits(self, max(self.filters), max(len(self.filters), *self.convolutions))
        if self.norm_groups < 0 or any(width % self.norm_groups for width in self.filters if self.norm_groups):
            raise ValueError(
                f"SegNetConfig.norm_groups must be 0, or divide all filters, got {self.norm_groups} and {self.filters}."
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return 2 ** len(self.filters)


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of squares of 2 × 2 pixels, and where they were: ``(B, C, H, W)`` to two ``(B, C, H/2, W/2)``.

    Places are uint8: 0 top left, 1 top right, 2 bottom left, 3 bottom right; of equal pixels the first. So they hold on
    every device and take an eighth of torch's own, which are kept for all samples of a slice.
    """
    b, c, h, w = x.shape
    squares = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(4)
    value, place = squares.max(dim=-1)
    return value, place.to(torch.uint8)


def max_unpool(x: Tensor, place: Tensor) -> Tensor:
    """Way back of ``max_pool``: each value at its place in a square of zeros, ``(B, C, H, W)`` to twice the size."""
    b, c, h, w = x.shape
    there = place[..., None] == torch.arange(4, dtype=torch.uint8, device=x.device)
    squares = (x[..., None] * there).reshape(b, c, h, w, 2, 2)
    return squares.transpose(3, 4).reshape(b, c, 2 * h, 2 * w)


def _stage(widths: list[int], groups: int, last: bool = False) -> nn.Sequential:
    """Convolutions between these numbers of channels, each normalised and with ReLU; the ``last`` one is bare."""
    layers: list[nn.Module] = []
    for number, (channels, width) in enumerate(pairwise(widths), start=1):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if not (last and number == len(widths) - 1):
            layers += [*([GroupNorm(groups, width)] if groups else []), nn.ReLU()]
    return nn.Sequential(*layers)


class SegNet(nn.Module):
    """``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``.

    ``tail(head(x), drop)`` is the same: the head is what comes before the first dropout, of which all draws share it.

    Args:
        dropped: how many of the deepest stages have dropout, in encoder and decoder.
    """

    def __init__(self, config: SegNetConfig, in_channels: int, out_channels: int, dropped: int = 0) -> None:
        super().__init__()
        filters, counts, groups = config.filters, config.convolutions, config.norm_groups
        before = (in_channels, *filters)
        self.down = nn.ModuleList(
            _stage([channels, *[width] * count], groups) for channels, width, count in zip(before, filters, counts)
        )
        # The last convolution of a stage gives as many channels as the stage above it has; the very last, the answer.
        after = (out_channels, *filters)
        self.up = nn.ModuleList(
            _stage([*[width] * count, channels], groups, last=stage == 0)
            for stage, (channels, width, count) in enumerate(zip(after, filters, counts))
        )
        self.stages, self.dropped = len(filters), dropped
        kaiming_normal(self)

    def forward(self, x: Tensor, drop: Drop | None = None) -> Tensor:
        """As the class says."""
        return self.tail(self.head(x), drop)

    def head(self, x: Tensor) -> tuple[Tensor, ...]:
        """What is pooled where dropout comes first, or at the end of the encoder, and the places of all maxima."""
        places = []
        for stage in range(self._first + 1):
            x, place = max_pool(self.down[stage](x))
            places.append(place)
        return (x, *places)

    def tail(self, head: tuple[Tensor, ...], drop: Drop | None = None) -> Tensor:
        """The rest; ``drop`` is called once for each dropout, in the order in which they come. None: none is left out.

        There are 2 · ``dropped`` of them.
        """
        x, *places = head
        leave_out = drop if drop is not None and self.dropped else (lambda kept: kept)
        for stage in range(self._first, self.stages):
            if stage > self._first:
                x, place = max_pool(self.down[stage](x))
                places.append(place)
            x = leave_out(x)
        for stage in reversed(range(self.stages)):
            x = self.up[stage](max_unpool(x, places.pop()))
            x = leave_out(x) if stage >= self.stages - self.dropped else x
        return x

    @property
    def _first(self) -> int:
        """The first encoder stage with dropout; without any, the last one."""
        return self.stages - max(1, self.dropped)
