"""A normal distribution over all pixels and classes of a map at once, whose covariance is P·Pᵀ + D (Monteiro et al.,
"Stochastic Segmentation Networks", NeurIPS 2020), and the layers that give one from features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from AmbiguousSegLib.networks.initialisation import orthogonal

VARIANCE_FLOOR = 1e-5  # of D, as in the published code: no variance is zero
_START = 0.1  # the factor's weights at the start, beside those of the mean


class LowRankNormal(NamedTuple):
    """N(μ, P·Pᵀ + D) over maps of K channels, one distribution per row; each field has a row for each.

    Attributes:
        mean: μ, ``(B, K, H, W)``.
        factor: P, ``(B, R, K, H, W)``: R directions in which whole maps vary.
        variance: the diagonal of D, ``(B, K, H, W)``, above 0.
    """

    mean: Tensor
    factor: Tensor
    variance: Tensor

    def sample(self, directions: Tensor, pixels: Tensor) -> Tensor:
        """μ + P·ε₁ + √D·ε₂ of M pairs of standard normal numbers for each row: ``(B, M, K, H, W)``.

        Args:
            directions: ε₁, ``(B, M, R)``.
            pixels: ε₂, ``(B, M, K, H, W)``.
        """
        # Not in half precision: a shift that all pixels share adds up in a likelihood over them.
        with torch.autocast(self.mean.device.type, enabled=False):
            shift = torch.bmm(directions.to(self.factor), self.factor.flatten(2)).unflatten(2, self.mean.shape[1:])
            return self.mean[:, None] + shift + self.variance.sqrt()[:, None] * pixels.to(self.mean)


class LowRankNormalHead(nn.Module):
    """Features ``(B, channels, H, W)`` to a ``LowRankNormal`` over ``classes`` logits a pixel, by 1×1 convolutions.

    Args:
        channels: of the features.
        classes: K.
        rank: R.
        log_variance_limit: bound on the logarithm of D from above.
    """

    def __init__(self, channels: int, classes: int, rank: int, log_variance_limit: float) -> None:
        super().__init__()
        self.classes, self.rank, self.log_variance_limit = classes, rank, log_variance_limit
        self.mean = nn.Conv2d(channels, classes, 1)
        self.log_variance = nn.Conv2d(channels, classes, 1)
        self.factor = nn.Conv2d(channels, rank * classes, 1)
        orthogonal(self)
        with torch.no_grad():
            self.factor.weight.mul_(_START)

    def forward(self, features: Tensor) -> LowRankNormal:
        """As the class says; at least float32 whatever the features are."""
        mean, log_variance, factor = (
            out.float() if out.dtype in (torch.float16, torch.bfloat16) else out
            for out in (self.mean(features), self.log_variance(features), self.factor(features))
        )
        variance = log_variance.clamp(max=self.log_variance_limit).exp() + VARIANCE_FLOOR
        return LowRankNormal(mean, factor.unflatten(1, (self.rank, self.classes)), variance)
