"""AMN and ACN, the two encoders of CIMD (Rahman et al., CVPR 2023, Eq. 12–14), and the likelihood that keeps z alive.

AMN reads image and rater mask, ACN image and what is predicted; each gives a Gaussian over a small latent space. As
printed, z is used nowhere but in the divergence between the two. With a likelihood, AMN is the encoder of a
conditional variational autoencoder of its own, whose small decoder draws the mask from z and the image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from AmbiguousSegLib.networks.gaussian_encoder import (
    GaussianEncoder,
    GaussianEncoderConfig,
    divergence,
    location_and_scale,
    reparametrised,
)
from AmbiguousSegLib.networks.logits import softmax_cross_entropy
from AmbiguousSegLib.networks.mask_decoder import MaskDecoder, MaskDecoderConfig


def encoder_pair(
    config: GaussianEncoderConfig, amn_channels: int, acn_channels: int
) -> tuple[GaussianEncoder, GaussianEncoder]:
    """AMN and ACN, of one architecture (appendix B), reading so many channels."""
    amn, acn = (GaussianEncoder(replace(config, in_channels=channels)) for channels in (amn_channels, acn_channels))
    return amn, acn


def standard_normal_like(q: Distribution) -> Distribution:
    """N(0, I) of the same shape as ``q``, of a kind to which the divergence has a closed form."""
    location, scale = location_and_scale(q)
    if scale.dim() == 3:
        size = location.shape[1]
        identity = torch.eye(size, dtype=scale.dtype, device=scale.device).expand(len(scale), -1, -1)
        return MultivariateNormal(torch.zeros_like(location), scale_tril=identity, validate_args=False)
    normal = Normal(torch.zeros_like(location), torch.ones_like(scale), validate_args=False)
    return Independent(normal, 1, validate_args=False)


def stopped(q: Distribution) -> Distribution:
    """The same distribution, cut off from the gradient."""
    if isinstance(q, LowRankMultivariateNormal):
        loc, factor, variance = (tensor.detach() for tensor in (q.loc, q.cov_factor, q.cov_diag))
        return LowRankMultivariateNormal(loc, factor, variance, validate_args=False)
    location, scale = (tensor.detach() for tensor in location_and_scale(q))
    if scale.dim() == 3:
        return MultivariateNormal(location, scale_tril=scale, validate_args=False)
    return Independent(Normal(location, scale, validate_args=False), 1, validate_args=False)


class MaskLikelihood(nn.Module):
    """−ELBO of a rater's mask with AMN as encoder: what makes Q(z | image, mask) tell the masks apart.

    Args:
        config: of the decoder.
        image_channels, latent_dim, classes: C, N and K.
    """

    def __init__(self, config: MaskDecoderConfig, image_channels: int, latent_dim: int, classes: int) -> None:
        super().__init__()
        self.decoder = MaskDecoder(config, image_channels, latent_dim, classes)

    def forward(self, image: Tensor, mask: Tensor, q: Distribution, latent: Tensor, beta: float) -> Tensor:
        """(−log p(mask | z, image) + β·KL(q ‖ N(0, I))) / pixels, z ~ q: ``(B,)`` in nats.

        At β = 1 it bounds the mask's negative log-likelihood, per pixel.

        Args:
            mask: ``(B, K, H, W)`` in [0, 1].
            latent: standard normal ``(B, E)``, as ``reparametrised`` takes it.
        """
        logits = self.decoder(image, reparametrised(*location_and_scale(q), latent))
        reconstruction = softmax_cross_entropy(logits, mask).flatten(1).sum(1)
        pixels = mask.shape[-2] * mask.shape[-1]
        return (reconstruction + beta * divergence(q, standard_normal_like(q))) / pixels
