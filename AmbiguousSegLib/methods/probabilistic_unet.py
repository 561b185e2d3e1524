"""Probabilistic U-Net (Kohl et al., NeurIPS 2018): a conditional variational autoencoder, one pass per mask.

The baseline that diffusion results are printed next to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep, SamplerSettings
from AmbiguousSegLib.methods.base import Batch, Method
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder, GaussianEncoderConfig, reparametrised


@dataclass(frozen=True)
class ProbabilisticUNetConfig:
    """Settings of the Probabilistic U-Net.

    Attributes:
        image_channels: channels of the image.
        unet: feature extractor; its input channels follow from ``image_channels``.
        encoder: prior (reads the image) and posterior (reads image and mask). Its ``log_sigma_limit`` keeps a
            collapsing posterior from overflowing.
        combination_layers: 1×1 convolutions that join features and latent.
        beta: weight of the divergence between posterior and prior.
    """

    image_channels: int = 1
    unet: ConvUNetConfig = field(default_factory=ConvUNetConfig)
    encoder: GaussianEncoderConfig = field(default_factory=lambda: GaussianEncoderConfig(log_sigma_limit=5.0))
    combination_layers: int = 3
    beta: float = 10.0

    def __post_init__(self) -> None:
        if self.image_channels < 1 or self.combination_layers < 1 or self.beta < 0:
            raise ValueError(
                "ProbabilisticUNetConfig needs image_channels ≥ 1, combination_layers ≥ 1 and beta ≥ 0, got "
                f"{self.image_channels}, {self.combination_layers} and {self.beta}."
            )


class ProbabilisticUNet(Method):
    """Latent z from the prior, broadcast over the image and joined with the U-Net's features."""

    name = "probabilistic_unet"
    Config = ProbabilisticUNetConfig

    def __init__(self, config: ProbabilisticUNetConfig) -> None:
        super().__init__(config)
        channels, width = config.image_channels, config.unet.filters[0]
        self.unet = ConvUNet(replace(config.unet, in_channels=channels))
        self.prior = GaussianEncoder(replace(config.encoder, in_channels=channels))
        self.posterior = GaussianEncoder(replace(config.encoder, in_channels=channels + 1))
        layers: list[nn.Module] = []
        inputs = width + config.encoder.latent_dim
        for _ in range(config.combination_layers - 1):
            layers += [nn.Conv2d(inputs, width, 1), nn.ReLU()]
            inputs = width
        self.combine = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))

    @property
    def image_channels(self) -> int:
        return self.config.image_channels

    @property
    def size_multiple(self) -> int:
        return self.config.unet.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Kohl et al. Eq. 4; draw 0 of ``noise`` is the latent.

        The cross-entropy is summed over the pixels: its mean would let the divergence win and the samples collapse.
        """
        posterior = self.posterior(torch.cat([batch.image, batch.mask], dim=1))
        z = reparametrised(posterior, noise.normal(0, (self.config.encoder.latent_dim,)))
        logits = self._decode(self.unet(batch.image), z)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, batch.mask, reduction="none").flatten(1).sum(1)
        divergence = self.config.beta * kl_divergence(posterior, self.prior(batch.image))
        return {
            "cross_entropy": cross_entropy.mean(),
            "divergence": divergence.mean(),
            "loss": (cross_entropy + divergence).mean(),
        }

    def _decode(self, features: Tensor, z: Tensor) -> Tensor:
        latent = z.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[-2:])
        return self.combine(torch.cat([features, latent], dim=1)).float()

    def sample(
        self, image: Tensor, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        z = reparametrised(self.prior(image), noise.normal(0, (self.config.encoder.latent_dim,)))
        out = torch.sigmoid(self._decode(self.unet(image), z))
        if on_step is not None:
            on_step(1, 1)
        return out
