"""Images without their lesion, made with its mask: what a system learns from that is shown healthy images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SWEEPS = 8  # at each size; those at smaller sizes have settled what is far from the border
_WINDOW = 5  # pixels along a side over which texture is told from what is below it


def grown(mask: Tensor, pixels: int) -> Tensor:
    """A bool mask ``(B, 1, H, W)`` and all pixels at most this far from it along both axes."""
    return F.max_pool2d(mask.float(), 2 * pixels + 1, 1, pixels) > 0 if pixels else mask


def filled(image: Tensor, hole: Tensor, normal: Tensor) -> Tensor:
    """Images whose hole shows what is around it: a smooth surface from border to border, with the border's texture.

    The surface is that of a stretched membrane (Laplace's equation with the border's values), nearly: from coarse
    to fine, with a few sweeps at each size. The texture is white noise as strong, in each channel, as what a mean of
    5 × 5 pixels leaves in the ring around the hole, an eighth of the image wide. An image that is all hole becomes 0.

    Args:
        image: float ``(B, C, H, W)`` in [0, 1].
        hole: bool ``(B, 1, H, W)``.
        normal: standard normal numbers ``(B, C, H, W)``.

    Returns:
        float ``(B, C, H, W)`` in [0, 1]; outside the hole the image.
    """
    known = (~hole).to(image)
    around = [F.avg_pool2d(x, _WINDOW, 1, _WINDOW // 2) for x in (image * known, known)]
    rest = image - around[0] / around[1].clamp(min=1e-6)
    ring = (grown(hole, max(1, min(image.shape[-2:]) // 8)) & ~hole).to(image)
    count = ring.sum((2, 3), keepdim=True).clamp(min=1)
    deviation = ((rest**2 * ring).sum((2, 3), keepdim=True) / count).sqrt()
    # A pixel is itself among the 25 whose mean is taken away from it.
    deviation = deviation * (1 - 1 / _WINDOW**2) ** -0.5
    surface = _membrane(image * known, known)
    return torch.where(hole, (surface + deviation * normal).clamp(0, 1), image)


def _membrane(values: Tensor, known: Tensor) -> Tensor:
    """``values`` where ``known`` (0 or 1) is 1, elsewhere the surface: ``(B, C, H, W)``."""
    if max(values.shape[-2:]) > 1:
        weight = F.avg_pool2d(known, 2, ceil_mode=True)
        coarse = F.avg_pool2d(values, 2, ceil_mode=True) / weight.clamp(min=1e-6)
        coarse = _membrane(coarse, (weight > 0).to(values))
        start = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
        values = torch.where(known > 0, values, start)
    for _ in range(_SWEEPS):
        padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
        sides = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
        values = torch.where(known > 0, values, sides / 4)
    return values
