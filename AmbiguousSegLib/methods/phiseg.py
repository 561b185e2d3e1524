"""PHi-Seg (Baumgartner et al., MICCAI 2019): a variational autoencoder with latents at several resolutions.

A coarse latent says what is there, the finer ones how it is drawn; each depends on the one below it. The logits are the
sum of what every level adds, and the sum up to each level is held against the mask (deep supervision). One pass per
mask.

From the paper and its published code (github.com/baumgach/PHiSeg-code): the factorisation, the sum of logits, the
cross-entropy summed over the pixels with weight 1 at each level, and the divergence of level l weighted by 4^l,
l = 0 the finest: as a level has a quarter of the numbers of the one above it. Ours: normalisation by groups, a
background of logit 0 instead of a channel of its own, and what ``networks.latent_hierarchy`` says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.latent_hierarchy import LatentDecoder, LatentHierarchyConfig, LatentLadder
from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy

Gaussian = tuple[Tensor, Tensor]
"""Mean and standard deviation, ``(B, latent_channels, h, w)`` each."""


@dataclass(frozen=True)
class PHiSegConfig:
    """Settings of PHi-Seg.

    Attributes:
        image_channels: channels of the image.
        network: resolutions, latent levels and channels of prior, posterior and decoder.
        beta: weight of all divergences.
        level_factor: the divergence of level l, 0 the finest, is weighted by ``level_factor`` to the power l; 1 is the
            bound on the likelihood of the finest level.
        classes: number of classes K, each with a logit of its own; set by the labels.
    """

    image_channels: int = 1
    network: LatentHierarchyConfig = field(default_factory=LatentHierarchyConfig)
    beta: float = 1.0
    level_factor: float = 4.0
    classes: int = 1

    def __post_init__(self) -> None:
        if min(self.image_channels, self.classes) < 1 or self.beta < 0 or not self.level_factor > 0:
            raise ValueError(
                "PHiSegConfig needs image_channels ≥ 1, classes ≥ 1, beta ≥ 0 and level_factor > 0, got "
                f"{self.image_channels}, {self.classes}, {self.beta} and {self.level_factor}."
            )


@METHODS.register("phiseg")
class PHiSeg(Method):
    """See the module's text; lists over levels begin with the finest."""

    Config = PHiSegConfig

    def __init__(self, config: PHiSegConfig) -> None:
        super().__init__(config)
        self.prior = LatentLadder(config.network, config.image_channels)
        self.posterior = LatentLadder(config.network, config.image_channels + config.classes)
        self.decoder = LatentDecoder(config.network, config.classes)

    @property
    def size_multiple(self) -> int:
        """What the resolutions ask for."""
        return self.config.network.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Baumgartner et al., Eq. 3 and section 2.2; draw l of ``noise`` is the latent of level l.

        ``cross_entropy`` is the sum over the levels, ``divergence`` the weighted one.
        """
        # Background as −½ and not 0, as published.
        seen = torch.cat([batch.image, batch.mask - 0.5], dim=1)
        read, image = self.posterior.features(seen), self.prior.features(batch.image)
        latents: list[Tensor] = []
        divergences: list[Tensor] = []
        below = None
        for level in reversed(range(self.config.network.latent_levels)):
            q = self.posterior.level(level, read[level], below)
            p = self.prior.level(level, image[level], below)
            divergences.insert(0, divergence(q, p))
            below = drawn(q, level, noise)
            latents.insert(0, below)
        cross_entropy = torch.stack(
            [
                softmax_cross_entropy(logits, batch.mask).flatten(1).sum(1)
                for logits in partial_sums(self.decode(latents))
            ]
        ).sum(0)
        weights = [self.config.beta * self.config.level_factor**level for level in range(len(latents))]
        excess = torch.stack([weight * value for weight, value in zip(weights, divergences, strict=True)]).sum(0)
        return {
            "cross_entropy": cross_entropy.mean(),
            "divergence": excess.mean(),
            "loss": (cross_entropy + excess).mean(),
        }

    def decode(self, latents: list[Tensor]) -> list[Tensor]:
        """What each level adds to the logits, float ``(B, K, H, W)`` each."""
        wide = torch.promote_types(latents[0].dtype, torch.float32)
        return [logits.to(wide) for logits in self.decoder(latents)]

    def prepare(self, image: Tensor) -> Prepared:
        """What the prior reads of the image at each latent level."""
        return self.prior.features(image)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """In one pass, from the coarsest level to the finest; draw l of ``noise`` is the latent of level l."""
        latents: list[Tensor] = []
        below = None
        for level in reversed(range(self.config.network.latent_levels)):
            below = drawn(self.prior.level(level, prepared[level], below), level, noise)
            latents.insert(0, below)
        out = softmax(partial_sums(self.decode(latents))[0])
        if on_step is not None:
            on_step(1, 1)
        return out


def drawn(gaussian: Gaussian, level: int, noise: RowNoise) -> Tensor:
    """z = μ + σ·ε with the draw ``level`` of ``noise``."""
    mean, sigma = gaussian
    return mean + sigma * noise.normal(level, mean.shape[1:]).to(mean.dtype)


def divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) ``(B,)`` in nats, summed over all numbers of a level."""
    (q_mean, q_sigma), (p_mean, p_sigma) = q, p
    ratio = q_sigma / p_sigma
    terms = 0.5 * (ratio**2 + ((q_mean - p_mean) / p_sigma) ** 2 - 1) - ratio.log()
    return terms.flatten(1).sum(1)


def partial_sums(logits: list[Tensor]) -> list[Tensor]:
    """Of what each level adds: the sum from the coarsest up to each level; the first is that of all."""
    return list(reversed(torch.stack(logits[::-1]).cumsum(0)))
