"""A small decoder that draws a mask from an image and a latent: the likelihood that keeps a latent alive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.limits import check_limits

_SHRINK = 4


@dataclass(frozen=True)
class MaskDecoderConfig:
    """``width`` channels of its four 3×3 convolutions, which run at a quarter of the image's height and width."""

    width: int = 16

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"MaskDecoderConfig.width must be at least 1, got {self.width}.")
        check_limits(self, self.width, 1)


class MaskDecoder(nn.Module):
    """Image ``(B, C, H, W)`` and latent ``(B, N)`` to ``classes`` logits, float ``(B, K, H, W)``.

    The image's features are joined with the latent as the Probabilistic U-Net joins them, as constant channels, at a
    quarter of the size: enough for which shape is marked, which is what the latent is to tell.
    """

    def __init__(self, config: MaskDecoderConfig, image_channels: int, latent_dim: int, classes: int) -> None:
        super().__init__()
        width = config.width
        self.read = nn.Sequential(
            nn.Conv2d(image_channels * _SHRINK**2, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.draw = nn.Sequential(
            nn.Conv2d(width + latent_dim, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, classes, 3, padding=1),
        )
        kaiming_normal(self)

    def forward(self, image: Tensor, z: Tensor) -> Tensor:
        """As the class says; any height and width."""
        size = image.shape[-2:]
        missing = [-side % _SHRINK for side in size]
        features = self.read(F.pixel_unshuffle(F.pad(image, (0, missing[1], 0, missing[0])), _SHRINK))
        latent = z.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[-2:])
        logits = self.draw(torch.cat([features, latent], dim=1)).float()
        whole = F.interpolate(logits, scale_factor=_SHRINK, mode="bilinear", align_corners=False)
        return whole[..., : size[0], : size[1]]
