"""Probabilistic U-Net (Kohl et al., NeurIPS 2018): a conditional variational autoencoder, one pass per mask.

The baseline that diffusion results are printed next to. The Generalized Probabilistic U-Net (Bhat et al., UNSURE 2022)
is the same with another ``covariance`` of its encoders: full, of low rank, or a mixture of Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig
from AmbiguousSegLib.networks.gaussian_encoder import (
    GaussianEncoder,
    GaussianEncoderConfig,
    divergence,
    location_and_scale,
    reparametrised,
)
from AmbiguousSegLib.networks.gaussian_mixture import (
    Mixture,
    chosen,
    component_draws,
    mixture_divergence,
    mixture_of,
)
from AmbiguousSegLib.networks.initialisation import orthogonal
from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy


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
        classes: number of classes K, each with a logit of its own; set by the labels.
        mixture_draws: latents drawn from each component of a mixture to estimate its divergence; matters to the
            covariance "mixture" alone.
    """

    image_channels: int = 1
    unet: ConvUNetConfig = field(default_factory=ConvUNetConfig)
    encoder: GaussianEncoderConfig = field(default_factory=lambda: GaussianEncoderConfig(log_sigma_limit=5.0))
    combination_layers: int = 3
    beta: float = 10.0
    classes: int = 1
    mixture_draws: int = 8

    def __post_init__(self) -> None:
        counts = (self.image_channels, self.combination_layers, self.classes, self.mixture_draws)
        if min(counts) < 1 or self.beta < 0:
            raise ValueError(
                "ProbabilisticUNetConfig needs image_channels ≥ 1, combination_layers ≥ 1, classes ≥ 1, "
                f"mixture_draws ≥ 1 and beta ≥ 0, got {', '.join(map(str, counts))} and {self.beta}."
            )


@METHODS.register("probabilistic_unet")
class ProbabilisticUNet(Method):
    """Latent z from the prior, broadcast over the image and joined with the U-Net's features: K logits.

    Background has the logit 0, and the probabilities are the softmax over all K + 1: with one class its sigmoid.
    """

    Config = ProbabilisticUNetConfig

    def __init__(self, config: ProbabilisticUNetConfig) -> None:
        super().__init__(config)
        channels, width = config.image_channels, config.unet.filters[0]
        self.unet = ConvUNet(replace(config.unet, in_channels=channels))
        self.prior = GaussianEncoder(replace(config.encoder, in_channels=channels))
        self.posterior = GaussianEncoder(replace(config.encoder, in_channels=channels + config.classes))
        layers: list[nn.Module] = []
        inputs = width + config.encoder.latent_dim
        for _ in range(config.combination_layers - 1):
            layers += [nn.Conv2d(inputs, width, 1), nn.ReLU()]
            inputs = width
        self.combine = nn.Sequential(*layers, nn.Conv2d(inputs, config.classes, 1))
        orthogonal(self.combine)

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.config.unet.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Kohl et al. Eq. 4; draw 0 of ``noise`` is the latent.

        The cross-entropy is summed over the pixels: its mean would let the divergence win and the samples collapse.
        """
        posterior, prior = self.posterior(torch.cat([batch.image, batch.mask], dim=1)), self.prior(batch.image)
        terms = self._mixture_terms if self.config.encoder.covariance == "mixture" else self._gaussian_terms
        cross_entropy, excess = terms(posterior, prior, self.unet(batch.image), batch.mask, noise)
        excess = self.config.beta * excess
        return {
            "cross_entropy": cross_entropy.mean(),
            "divergence": excess.mean(),
            "loss": (cross_entropy + excess).mean(),
        }

    def _gaussian_terms(
        self, posterior: Distribution, prior: Distribution, features: Tensor, mask: Tensor, noise: RowNoise
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy with one latent of the posterior, and the divergence: ``(B,)`` each."""
        location, scale = location_and_scale(posterior)
        z = reparametrised(location, scale, noise.normal(0, (self.config.encoder.draws,)))
        cross_entropy = softmax_cross_entropy(self._decode(features, z), mask).flatten(1).sum(1)
        return cross_entropy, divergence(posterior, prior)

    def _mixture_terms(
        self, posterior: Distribution, prior: Distribution, features: Tensor, mask: Tensor, noise: RowNoise
    ) -> tuple[Tensor, Tensor]:
        """The same, with one latent of each component for the first, weighted as the components are."""
        mixture, components = mixture_of(posterior), self.config.encoder.components
        shape = (self.config.mixture_draws, components, self.config.encoder.latent_dim)
        draws = component_draws(mixture, noise.normal(0, shape))
        features, mask = (tensor.repeat_interleave(components, 0) for tensor in (features, mask))
        logits = self._decode(features, draws[:, 0].flatten(0, 1))
        each = softmax_cross_entropy(logits, mask).flatten(1).sum(1).unflatten(0, (-1, components))
        return (mixture.weights * each).sum(1), mixture_divergence(posterior, prior, draws)

    def _decode(self, features: Tensor, z: Tensor) -> Tensor:
        latent = z.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[-2:])
        return self.combine(torch.cat([features, latent], dim=1)).float()

    def prepare(self, image: Tensor) -> Prepared:
        """Features ``(S, width, H, W)``, and the prior: location and scale, or the parts of a mixture."""
        features, prior = self.unet(image), self.prior(image)
        if self.config.encoder.covariance == "mixture":
            return features, *mixture_of(prior)
        return features, *location_and_scale(prior)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """In one pass; draw 0 of ``noise`` is the latent, draw 1 the component of a mixture."""
        features, *prior = prepared
        if self.config.encoder.covariance == "mixture":
            mixture = Mixture(*prior)
            location, scale = chosen(mixture, noise.categorical(1, mixture.weights))
        else:
            location, scale = prior
        z = reparametrised(location, scale, noise.normal(0, (self.config.encoder.draws,)))
        out = softmax(self._decode(features, z))
        if on_step is not None:
            on_step(1, 1)
        return out
