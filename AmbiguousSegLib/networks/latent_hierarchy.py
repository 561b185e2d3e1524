"""Networks of PHi-Seg (Baumgartner et al., MICCAI 2019): maps of latents at several resolutions.

Levels are numbered from the finest, 0, to the coarsest, L − 1. The resolutions of the images' features may go on above
the finest latent: latent level l stands at the resolution number l + (resolutions − L).

Against the published code: normalised is by groups of the channels of one image (there over the batch, so that a mask
would depend on its neighbours); the decoder has as many channels at a level as ``filters`` says there (there more); and
a deviation has a least value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.limits import check_limits

LEAST_SIGMA = 1e-3
"""Added to each deviation, which softplus alone lets come so near to 0 that the divergence overflows."""


@dataclass(frozen=True)
class LatentHierarchyConfig:
    """Shape of the three networks.

    Attributes:
        filters: channels of the features, by resolution; each half the size of the one before.
        convolutions: 3×3 convolutions at each resolution of an encoder.
        latent_levels: L, at most as many as there are resolutions.
        latent_channels: maps of each latent.
        norm_groups: groups of channels that are normalised together.
    """

    filters: tuple[int, ...] = (16, 32, 48, 64, 64)
    convolutions: int = 3
    latent_levels: int = 4
    latent_channels: int = 2
    norm_groups: int = 4

    def __post_init__(self) -> None:
        if min(self.convolutions, self.latent_levels, self.latent_channels, self.norm_groups, *self.filters, 1) < 1:
            raise ValueError(f"LatentHierarchyConfig takes positive integers, got {self}.")
        check_limits(self, max(self.latent_channels, *self.filters, 1), max(self.convolutions, len(self.filters)))
        if self.latent_levels > len(self.filters):
            raise ValueError(
                f"LatentHierarchyConfig has latent_levels {self.latent_levels} for {len(self.filters)} filters; "
                "give at least as many filters as levels."
            )
        if any(width % self.norm_groups for width in self.filters):
            raise ValueError(
                f"LatentHierarchyConfig.filters must be multiples of norm_groups, got {self.filters} and "
                f"{self.norm_groups}."
            )

    @property
    def size_multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return 2 ** (len(self.filters) - 1)

    @property
    def above(self) -> int:
        """Resolutions above the finest latent."""
        return len(self.filters) - self.latent_levels


def _convolutions(channels: int, width: int, count: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        # No bias: the normalisation has one.
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


class _Doubled(nn.Upsample):
    """Twice the size, bilinear."""

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="bilinear", align_corners=False)


class LatentLadder(nn.Module):
    """The prior p(z_l | z_{l+1}, x), or the posterior q(z_l | z_{l+1}, s, x): Gaussians with diagonal covariance."""

    def __init__(self, config: LatentHierarchyConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.filters, config.norm_groups
        latent, top = config.latent_channels, config.latent_levels - 1
        self.doubled = _Doubled()
        self.down = nn.ModuleList(
            _convolutions(c, w, config.convolutions, groups) for c, w in zip((in_channels, *widths), widths)
        )
        own = widths[config.above :]
        self.below = nn.ModuleList(_convolutions(latent, w, 2, groups) for w in own[:top])
        self.join = nn.ModuleList(_convolutions(2 * w, w, 2, groups) for w in own[:top])
        self.mean = nn.ModuleList(nn.Conv2d(w, latent, 1) for w in own)
        self.sigma = nn.ModuleList(nn.Conv2d(w, latent, 1) for w in own)
        kaiming_normal(self)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of ``(B, in_channels, H, W)``, what each latent level reads, the finest first: ``(B, filters, h, w)``."""
        found = []
        for resolution, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if resolution else x)
            found.append(x)
        return tuple(found[self.config.above :])

    def level(self, level: int, features: Tensor, z_below: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of z_l, ``(B, latent_channels, h, w)`` each, at least float32.

        Args:
            features: of this level.
            z_below: the latent of the coarser level l + 1; None at the coarsest.
        """
        if z_below is not None:
            below = self.below[level](self.doubled(z_below.to(features.dtype)))
            features = self.join[level](torch.cat([features, below], dim=1))
        mean, raw = self.mean[level](features), self.sigma[level](features)
        wide = torch.promote_types(mean.dtype, torch.float32)
        return mean.to(wide), F.softplus(raw.to(wide)) + LEAST_SIGMA


class LatentDecoder(nn.Module):
    """The likelihood p(s | z): logits of every level at the size of the image, to be added up."""

    def __init__(self, config: LatentHierarchyConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.filters[: config.latent_levels], config.norm_groups
        self.doubled = _Doubled()
        self.read = nn.ModuleList(_convolutions(config.latent_channels, w, 2, groups) for w in widths)
        self.rise = nn.ModuleList(
            nn.Sequential(*(nn.Sequential(_Doubled(), _convolutions(w, w, 1, groups)) for _ in range(config.above)))
            for w in widths
        )
        self.below = nn.ModuleList(_convolutions(b, w, 1, groups) for w, b in pairwise(widths))
        self.join = nn.ModuleList(_convolutions(2 * w, w, 2, groups) for w in widths[:-1])
        self.logits = nn.ModuleList(nn.Conv2d(w, classes, 1) for w in widths)
        kaiming_normal(self)

    def forward(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """``(B, latent_channels, h, w)`` of each level, the finest first, to logits ``(B, classes, H, W)`` of each.

        A coarser level is brought to the size of the image by repeating its pixels, as published.
        """
        size = [side << self.config.above for side in latents[0].shape[-2:]]
        found: list[Tensor] = []
        below = None
        for level in reversed(range(self.config.latent_levels)):
            x = self.rise[level](self.read[level](latents[level]))
            if below is not None:
                x = self.join[level](torch.cat([x, self.below[level](self.doubled(below))], dim=1))
            below = x
            found.insert(0, F.interpolate(self.logits[level](x), size=size, mode="nearest"))
        return found
