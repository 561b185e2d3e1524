"""Convolutional encoders whose output is a Gaussian over a small latent space.

CIMD, appendix B (AMN and ACN); Probabilistic U-Net (Kohl et al., NeurIPS 2018), prior and posterior network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.limits import check_limits


@dataclass(frozen=True)
class GaussianEncoderConfig:
    """Shape of an encoder.

    Attributes:
        in_channels: channels read, image and mask together.
        filters: channels of the blocks; each block after the first starts with 2×2 average pooling.
        convolutions: 3×3 convolutions with ReLU per block.
        latent_dim: dimension N of the latent space.
        covariance: "diagonal" (axis-aligned) or "full" (CIMD-FC, Eq. 25).
        log_sigma_limit: bound on the absolute log standard deviation, or None for none (the published code).
    """

    in_channels: int = 2
    filters: tuple[int, ...] = (32, 64, 128, 192)
    convolutions: int = 3
    latent_dim: int = 6
    covariance: str = "diagonal"
    log_sigma_limit: float | None = None

    def __post_init__(self) -> None:
        if self.covariance not in ("diagonal", "full"):
            raise ValueError(f"GaussianEncoderConfig.covariance must be 'diagonal' or 'full', got {self.covariance!r}.")
        if min(self.in_channels, self.convolutions, self.latent_dim, *(self.filters or (0,))) < 1:
            raise ValueError(f"GaussianEncoderConfig takes positive integers and at least one filter, got {self}.")
        check_limits(
            self, max(self.in_channels, self.latent_dim, *self.filters), max(self.convolutions, len(self.filters))
        )
        if self.log_sigma_limit is not None and not self.log_sigma_limit > 0:
            raise ValueError(f"GaussianEncoderConfig.log_sigma_limit must be positive, got {self.log_sigma_limit}.")


class _Blocks(nn.Module):
    """The convolutional part, under the published name ``encoder.layers.<n>``."""

    def __init__(self, config: GaussianEncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = config.in_channels
        for block, width in enumerate(config.filters):
            if block:
                layers.append(nn.AvgPool2d(2, stride=2, ceil_mode=True))
            for _ in range(config.convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return self.layers(x)


class GaussianEncoder(nn.Module):
    """``(B, in_channels, H, W)`` to a Gaussian over ``(B, latent_dim)``, one distribution per batch row."""

    def __init__(self, config: GaussianEncoderConfig) -> None:
        super().__init__()
        self.config = config
        n = config.latent_dim
        outputs = 2 * n if config.covariance == "diagonal" else 2 * n + n * (n - 1) // 2
        self.encoder = _Blocks(config)
        self.conv_layer = nn.Conv2d(config.filters[-1], outputs, 1)
        kaiming_normal(self)
        # As published: means and log σ start anywhere about 0.
        nn.init.normal_(self.conv_layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Distribution:
        """As the class says."""
        features = self.encoder(x).mean(dim=(2, 3), keepdim=True)
        # The distribution is kept in at least float32: exp and KL lose too much below. Its arguments are not validated:
        # that would wait for the GPU at each step, and a training loop reports NaN better.
        parameters = self.conv_layer(features)[:, :, 0, 0]
        parameters = parameters.float() if parameters.dtype in (torch.float16, torch.bfloat16) else parameters
        n = self.config.latent_dim
        mean, log_sigma, lower = parameters[:, :n], parameters[:, n : 2 * n], parameters[:, 2 * n :]
        if self.config.log_sigma_limit is not None:
            log_sigma = log_sigma.clamp(-self.config.log_sigma_limit, self.config.log_sigma_limit)
        if self.config.covariance == "diagonal":
            return Independent(Normal(mean, log_sigma.exp(), validate_args=False), 1, validate_args=False)
        return MultivariateNormal(mean, scale_tril=cholesky_factor(log_sigma, lower), validate_args=False)


def cholesky_factor(log_diagonal: Tensor, below: Tensor) -> Tensor:
    """L of Σ = L·Lᵀ (CIMD Eq. 25): ``(B, N, N)``, lower triangular with a positive diagonal.

    Args:
        log_diagonal: ``(B, N)``, logarithm of the diagonal.
        below: ``(B, N·(N−1)/2)``, entries below the diagonal, row by row.
    """
    n = log_diagonal.shape[1]
    rows, columns = torch.tril_indices(n, n, offset=-1)
    factor = torch.diag_embed(log_diagonal.exp())
    return factor.index_put((torch.arange(len(factor))[:, None], rows[None], columns[None]), below)


def location_and_scale(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """What an encoder's distribution is made of: μ ``(B, N)``, and σ ``(B, N)`` or L ``(B, N, N)``."""
    if isinstance(distribution, MultivariateNormal):
        return distribution.loc, distribution.scale_tril
    return distribution.mean, distribution.stddev


def reparametrised(location: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """z = μ + L·ε (CIMD Eq. 26), or μ + σ·ε: ``(B, N)`` from standard normal ``noise`` ``(B, N)``."""
    if scale.dim() == 3:
        return location + (scale @ noise[:, :, None])[:, :, 0]
    return location + scale * noise
