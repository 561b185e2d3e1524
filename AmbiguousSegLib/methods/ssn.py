"""Stochastic segmentation networks (Monteiro et al., NeurIPS 2020): a normal distribution over the logits of all
pixels at once, with a covariance of low rank, from one deterministic pass; a mask is the classes of one draw.

As published: 1×1 convolutions on a network's features give mean, log-diagonal and factor; the loss is
the logarithm of a Monte Carlo mean of likelihoods; the diagonal is an exponential plus 1e-5; draws of
the loss come in pairs of opposite sign, as in the published code.

What differs. The best of M draws carries the whole loss, and half of them wrong everywhere costs no more than log 2: at
the start the covariance can thus grow at the mean's expense, until draws of all lesion and of none take turns. The
paper sees brains in volumes: there it sets the covariance to zero outside a region of interest, the brain, and lets the
mean learn alone at first. A small image around a lesion has no such region, and a loss does not know how far a training
is. Here a small share λ of the loss is the draws' own mean cross-entropy, which is the same loss for M = 1: both bound
−log p from above in expectation, and so does what lies between them. Also, log D is bounded from above and the factor
starts small beside the mean. The network is a U-Net instead of DeepMedic. Background has the logit 0 and takes no part
in the distribution, where the paper draws its logit as well: with two classes in all, the difference of two normal
logits is the one logit drawn here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.methods.energy import energy, independent_pairs
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy
from AmbiguousSegLib.networks.low_rank_normal import LowRankNormal, LowRankNormalHead

LOSSES = ("likelihood", "energy")


@dataclass(frozen=True)
class SSNConfig:
    """Settings of a stochastic segmentation network.

    Attributes:
        image_channels: channels of the image.
        unet: feature extractor; its input channels follow from ``image_channels``.
        rank: R of the covariance.
        loss_samples: M, draws of the loss; even, half of them mirror the other half.
        log_variance_limit: bound on log D from above.
        diagonal: whether there is a D; without it pixels vary only together, and borders are as smooth as the factor.
        loss: ``likelihood``, as published; ``energy`` (ours): the generalized energy distance of the draws to the
            raters' masks, of which a batch should hold several (``DataConfig.raters``), see ``methods.energy``.
        strict_empty: whether spread is no merit to ``energy`` where no rater marked anything, see there.
        single_weight: λ, share of the draws' own cross-entropy in the loss ``likelihood``; 0 as published.
        temperature: factor of all deviations from the mean when sampling; 1: as learned.
        classes: number of classes K, each with a logit of its own; set by the labels.
    """

    image_channels: int = 1
    unet: ConvUNetConfig = field(default_factory=ConvUNetConfig)
    rank: int = 10
    loss_samples: int = 20
    log_variance_limit: float = 5.0
    diagonal: bool = True
    loss: str = "likelihood"
    strict_empty: bool = False
    single_weight: float = 0.01
    temperature: float = 1.0
    classes: int = 1

    def __post_init__(self) -> None:
        if min(self.image_channels, self.rank, self.classes) < 1:
            raise ValueError(
                f"SSNConfig needs image_channels ≥ 1, rank ≥ 1 and classes ≥ 1, got {self.image_channels}, {self.rank} "
                f"and {self.classes}."
            )
        if self.loss_samples < 2 or self.loss_samples % 2:
            raise ValueError(f"SSNConfig.loss_samples must be even and 2 or more, got {self.loss_samples}.")
        if self.loss not in LOSSES:
            raise ValueError(f"SSNConfig.loss must be one of {', '.join(LOSSES)}, got {self.loss!r}.")
        if self.loss == "energy" and self.loss_samples < 4:
            raise ValueError(
                f"SSNConfig.loss_samples must be 4 or more for the loss energy, got {self.loss_samples}: half of the "
                "draws mirror the others, and the spread needs draws that are independent."
            )
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"SSNConfig.temperature must be 0 or more and finite, got {self.temperature}.")
        if not math.isfinite(self.log_variance_limit):
            raise ValueError(f"SSNConfig.log_variance_limit must be a finite number, got {self.log_variance_limit}.")
        if not 0 <= self.single_weight < 1:
            raise ValueError(f"SSNConfig.single_weight must lie in [0, 1), got {self.single_weight}.")
        check_limits(self, max(self.image_channels, self.rank * self.classes, self.loss_samples), 1)


@METHODS.register("ssn")
class SSN(Method):
    """Image to a ``LowRankNormal`` over K logits a pixel.

    Background has the logit 0; a draw of the logits is turned into values from 0 to 1 by the softmax over all K + 1, so
    that the largest value is where the largest logit is. To another network, ``logits`` and ``draw`` offer the same.
    """

    Config = SSNConfig
    not_of_the_network = frozenset({"loss", "loss_samples", "strict_empty", "single_weight", "temperature"})

    def __init__(self, config: SSNConfig) -> None:
        super().__init__(config)
        self.unet = ConvUNet(replace(config.unet, in_channels=config.image_channels))
        self.head = LowRankNormalHead(config.unet.filters[0], config.classes, config.rank, config.log_variance_limit)
        self.head.log_variance.requires_grad_(config.diagonal)  # what no loss reaches would stop distributed training

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.config.unet.size_multiple

    def logits(self, image: Tensor) -> LowRankNormal:
        """Distribution of the logits ``(B, K, H, W)`` given images ``(B, C, H, W)``."""
        found = self.head(self.unet(image))
        return found if self.config.diagonal else found._replace(variance=torch.zeros_like(found.variance))

    def draw(self, logits: LowRankNormal, noise: RowNoise, first: int = 0) -> Tensor:
        """Logits ``(B, K, H, W)``, a draw per row; draws ``first`` and ``first`` + 1 of ``noise`` are ε₁ and ε₂."""
        return logits.sample(*self._standard(noise, 1, logits.mean, first))[:, 0]

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """``likelihood``: −log of the mean likelihood of M draws of whole masks; ``single``: their mean cross-entropy.
        Or ``energy``: 2 E d(S, Y) − E d(S, S') of the M draws S and the raters' masks Y.

        Draws 0 and 1 of ``noise`` are ε₁ and ε₂ of half the draws.
        """
        logits, half = self.logits(batch.image), self.config.loss_samples // 2
        directions, pixels = self._standard(noise, half, logits.mean)
        draws = logits.sample(torch.cat([directions, -directions], dim=1), torch.cat([pixels, -pixels], dim=1))
        if self.config.loss == "energy":
            raters = batch.mask[:, None] if batch.raters is None else batch.raters
            shape, pairs = draws.shape, independent_pairs(draws.shape[1])
            masks = softmax(draws.flatten(0, 1)).view(shape)
            return {"loss": energy(masks, raters, pairs.to(draws.device), self.config.strict_empty).mean()}
        surprise = cross_entropies(draws, batch.mask)
        single, several, share = surprise.mean(), marginal(surprise).mean(), self.config.single_weight
        return {"single": single, "likelihood": several, "loss": (1 - share) * several + share * single}

    def _standard(self, noise: RowNoise, draws: int, mean: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """ε₁ and ε₂ of so many draws a row, which are draws ``first`` and ``first`` + 1 of ``noise``."""
        directions = noise.normal(first, (draws, self.config.rank))
        if not self.config.diagonal:
            return directions, torch.zeros(1, 1, 1, 1, 1, device=mean.device).expand(len(mean), draws, *mean.shape[1:])
        return directions, noise.normal(first + 1, (draws, *mean.shape[1:]))

    def prepare(self, image: Tensor) -> Prepared:
        """Mean, factor and variance of the logits."""
        return self.logits(image)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """In one pass; draw 0 of ``noise`` is ε₁, draw 1 ε₂."""
        mean, factor, variance = prepared
        t = self.config.temperature
        out = softmax(self.draw(LowRankNormal(mean, t * factor, t**2 * variance), noise))
        if on_step is not None:
            on_step(1, 1)
        return out


def cross_entropies(logits: Tensor, mask: Tensor) -> Tensor:
    """−log p(mask | logits) of M draws a row, summed over the pixels: ``(B, M)`` in nats.

    Args:
        logits: float ``(B, M, K, H, W)``.
        mask: float ``(B, K, H, W)`` in [0, 1].
    """
    target = mask[:, None].expand_as(logits)
    return softmax_cross_entropy(logits.flatten(0, 1), target.flatten(0, 1)).flatten(1).sum(1).view(logits.shape[:2])


def marginal(surprise: Tensor) -> Tensor:
    """−log of the mean over M draws of exp(−surprise): ``(B, M)`` to ``(B,)``."""
    return math.log(surprise.shape[1]) - torch.logsumexp(-surprise, dim=1)
