"""Convolutional encoders whose output is a Gaussian, or a mixture of them, over a small latent space.

CIMD, appendix B (AMN and ACN); Probabilistic U-Net (Kohl et al., NeurIPS 2018), prior and posterior network, and its
generalisation to other covariances and mixtures (Bhat et al., UNSURE 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from AmbiguousSegLib.networks.initialisation import kaiming_normal
from AmbiguousSegLib.networks.limits import check_limits

COVARIANCES = ("diagonal", "full", "low_rank", "mixture")


@dataclass(frozen=True)
class GaussianEncoderConfig:
    """Shape of an encoder.

    Attributes:
        in_channels: channels read, image and mask together.
        filters: channels of the blocks; each block after the first starts with 2×2 average pooling.
        convolutions: 3×3 convolutions with ReLU per block.
        latent_dim: dimension N of the latent space.
        covariance: "diagonal" (axis-aligned), "full" (CIMD-FC, Eq. 25), "low_rank" (Σ = D + P·Pᵀ with a diagonal D) or
            "mixture" (several Gaussians, each diagonal, with weights).
        log_sigma_limit: bound on the absolute log standard deviation, or None for none (the published code); of D
            where the covariance is "low_rank".
        rank: columns of P; matters to "low_rank" alone.
        components: number of Gaussians; matters to "mixture" alone.
    """

    in_channels: int = 2
    filters: tuple[int, ...] = (32, 64, 128, 192)
    convolutions: int = 3
    latent_dim: int = 6
    covariance: str = "diagonal"
    log_sigma_limit: float | None = None
    rank: int = 2
    components: int = 4

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            known = ", ".join(COVARIANCES)
            raise ValueError(f"GaussianEncoderConfig.covariance must be one of {known}, got {self.covariance!r}.")
        sizes = (self.in_channels, self.latent_dim, self.rank, self.components, *(self.filters or (0,)))
        if min(self.convolutions, *sizes) < 1:
            raise ValueError(f"GaussianEncoderConfig takes positive integers and at least one filter, got {self}.")
        check_limits(self, max(sizes), max(self.convolutions, len(self.filters)))
        if self.log_sigma_limit is not None and not self.log_sigma_limit > 0:
            raise ValueError(f"GaussianEncoderConfig.log_sigma_limit must be positive, got {self.log_sigma_limit}.")

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers E that a draw of one Gaussian takes, see ``reparametrised``."""
        return self.latent_dim + (self.rank if self.covariance == "low_rank" else 0)

    @property
    def outputs(self) -> int:
        """How many numbers the distribution is made of."""
        n = self.latent_dim
        return {
            "diagonal": 2 * n,
            "full": 2 * n + n * (n - 1) // 2,
            "low_rank": (2 + self.rank) * n,
            "mixture": self.components * (2 * n + 1),
        }[self.covariance]

    @property
    def draws(self) -> int:
        """Standard normal numbers that a draw of a Gaussian takes, E of ``location_and_scale``."""
        return self.latent_dim + (self.rank if self.covariance == "low_rank" else 0)


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
        self.encoder = _Blocks(config)
        self.conv_layer = nn.Conv2d(config.filters[-1], config.outputs, 1)
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
        n = self.config.latent_dim * (self.config.components if self.config.covariance == "mixture" else 1)
        mean, log_sigma, rest = parameters[:, :n], parameters[:, n : 2 * n], parameters[:, 2 * n :]
        if self.config.log_sigma_limit is not None:
            log_sigma = log_sigma.clamp(-self.config.log_sigma_limit, self.config.log_sigma_limit)
        if self.config.covariance == "diagonal":
            return _diagonal(mean, log_sigma.exp())
        if self.config.covariance == "full":
            return MultivariateNormal(mean, scale_tril=cholesky_factor(log_sigma, rest), validate_args=False)
        if self.config.covariance == "low_rank":
            factor, variance = rest.reshape(-1, n, self.config.rank), (2 * log_sigma).exp()
            return LowRankMultivariateNormal(mean, factor, variance, validate_args=False)
        shape = (-1, self.config.components, self.config.latent_dim)
        components = _diagonal(mean.reshape(shape), log_sigma.exp().reshape(shape))
        return MixtureSameFamily(Categorical(logits=rest, validate_args=False), components, validate_args=False)


def _diagonal(mean: Tensor, sigma: Tensor) -> Independent:
    return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)


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


def divergence(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) ``(B,)`` in nats, in closed form.

    Raises:
        ValueError: mixtures, which have none (``gaussian_mixture.mixture_divergence`` estimates it).
    """
    if isinstance(q, MixtureSameFamily) or isinstance(p, MixtureSameFamily):
        raise ValueError(
            "The divergence of a mixture of Gaussians has no closed form, and one is needed here, got covariance "
            "'mixture'; choose 'diagonal', 'full' or 'low_rank'."
        )
    return kl_divergence(q, p)


def location_and_scale(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """What draws are made with: μ ``(B, N)``, and σ ``(B, N)``, or A ``(B, N, E)`` of Σ = A·Aᵀ.

    A is L for a full covariance (E = N), and the columns of D^½ and P side by side for one of low rank (E = N + rank).
    """
    if isinstance(distribution, MultivariateNormal):
        return distribution.loc, distribution.scale_tril
    if isinstance(distribution, LowRankMultivariateNormal):
        root = torch.diag_embed(distribution.cov_diag.sqrt())
        return distribution.loc, torch.cat([root, distribution.cov_factor], dim=2)
    return distribution.mean, distribution.stddev


def reparametrised(location: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """z = μ + A·ε (CIMD Eq. 26), or μ + σ·ε: ``(B, N)`` from standard normal ``noise`` ``(B, E)`` or ``(B, N)``."""
    if scale.dim() == 3:
        return location + (scale @ noise[:, :, None])[:, :, 0]
    return location + scale * noise
