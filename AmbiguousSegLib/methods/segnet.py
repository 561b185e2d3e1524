"""SegNet and the two ways of Kendall and others to say how sure it is, the comparators of implicit segmentation
ensembles (Wolleb et al., MIDL 2022, Appendix B).

- ``none``: SegNet (Badrinarayanan et al., TPAMI 2017), trained by the cross-entropy of the pixels. One mask.
- ``dropout``: Bayesian SegNet (Kendall et al., arXiv 1511.02680). Dropout stays at work when sampling: each mask is of
  one draw of what is left out, and the spread of many says what the weights do not know.
- ``aleatoric``: for each logit also a log-variance (Kendall and Gal, NeurIPS 2017, section 3.1; so the output has twice
  the channels). The loss is the cross-entropy with the mean of the softmax over draws of the logits (their Eq. 12, as
  Jungo and Reyes, MICCAI 2019, take it). The deviations are independent from pixel to pixel: draws of them would be
  speckle and no segmentations, and nobody proposed them as such. So the mask is that of the logits' means, one for an
  image, and what is predicted beside it is its own map, ``logit_deviation``.

``networks.segnet`` says in what the network is not the published one. Background has the logit 0 and no variance, where
the papers give it an output of its own; with one class that is the binary cross-entropy, as Wolleb et al. take it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.logits import softmax, softmax_cross_entropy
from AmbiguousSegLib.networks.segnet import SegNet, SegNetConfig

UNCERTAINTIES = NONE, DROPOUT, ALEATORIC = ("none", "dropout", "aleatoric")
LOGIT_DEVIATION = "logit_deviation"
MOST_LOSS_SAMPLES = 10_000
MOST_LOG_VARIANCE = 80.0  # of which the deviation is finite in float32


@dataclass(frozen=True)
class SegNetMethodConfig:
    """Settings of a SegNet.

    Attributes:
        image_channels: channels of the image.
        network: encoder and decoder.
        uncertainty: one of ``UNCERTAINTIES``.
        dropout: share of the features that is left out, in [0, 1); matters to ``dropout`` alone, as the next one does.
        dropout_stages: how many of the deepest stages have it, in encoder and decoder; fewer than there are stages.
        loss_samples: T, draws of the logits in the loss; matters to ``aleatoric`` alone, as the next one does.
        log_variance_limit: bound on the log-variance of the logits from above.
        classes: number of classes K, each with a logit of its own; set by the labels.
    """

    image_channels: int = 1
    network: SegNetConfig = field(default_factory=SegNetConfig)
    uncertainty: str = NONE
    dropout: float = 0.5
    dropout_stages: int = 3
    loss_samples: int = 10
    log_variance_limit: float = 10.0
    classes: int = 1

    def __post_init__(self) -> None:
        if min(self.image_channels, self.loss_samples, self.classes) < 1 or self.loss_samples > MOST_LOSS_SAMPLES:
            raise ValueError(
                f"SegNetMethodConfig needs image_channels ≥ 1, loss_samples ≥ 1 (at most {MOST_LOSS_SAMPLES:,}) and "
                "classes ≥ 1, got "
                f"{self.image_channels}, {self.loss_samples} and {self.classes}."
            )
        if self.uncertainty not in UNCERTAINTIES:
            raise ValueError(
                f"SegNetMethodConfig.uncertainty must be one of {', '.join(UNCERTAINTIES)}, got {self.uncertainty!r}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"SegNetMethodConfig.dropout must lie in [0, 1), got {self.dropout}.")
        stages = len(self.network.filters)
        if self.uncertainty == DROPOUT and not 1 <= self.dropout_stages < stages:
            raise ValueError(
                f"SegNetMethodConfig.dropout_stages must be 1 to {stages - 1}, as the network has {stages} stages, got "
                f"{self.dropout_stages}."
            )
        check_limits(self, max(self.image_channels, 2 * self.classes), 1)
        if not -MOST_LOG_VARIANCE <= self.log_variance_limit <= MOST_LOG_VARIANCE:
            raise ValueError(
                f"SegNetMethodConfig.log_variance_limit must be a finite number, from -{MOST_LOG_VARIANCE:g} to "
                f"{MOST_LOG_VARIANCE:g}, got {self.log_variance_limit}."
            )


@METHODS.register("segnet")
class SegNetMethod(Method):
    """Image to K logits a pixel, beside a background of logit 0; see the module's text."""

    Config = SegNetMethodConfig
    not_of_the_network = frozenset({"dropout", "loss_samples", "log_variance_limit"})

    def __init__(self, config: SegNetMethodConfig) -> None:
        super().__init__(config)
        outputs = config.classes * (2 if config.uncertainty == ALEATORIC else 1)
        dropped = config.dropout_stages if config.uncertainty == DROPOUT else 0
        self.network = SegNet(config.network, config.image_channels, outputs, dropped)

    @property
    def size_multiple(self) -> int:
        """What the stages ask for."""
        return self.config.network.size_multiple

    @property
    def deterministic(self) -> bool:
        """It draws nothing, unless features are left out."""
        return self.config.uncertainty != DROPOUT or self.config.dropout == 0

    @property
    def own_map_names(self) -> tuple[str, ...]:
        """``logit_deviation``, where it is predicted."""
        return (LOGIT_DEVIATION,) if self.config.uncertainty == ALEATORIC else ()

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Cross-entropy, its mean over the pixels.

        ``dropout``: draws 0, 1, … of ``noise`` say what is left out; ``aleatoric``: draw 0 are the T draws of a row.
        """
        found = _wide(self.network(batch.image, self._drop(noise)))
        if self.config.uncertainty != ALEATORIC:
            return {"loss": softmax_cross_entropy(found, batch.mask).mean()}
        mean, deviation = self._distribution(found)
        standard = noise.normal(0, (self.config.loss_samples, *mean.shape[1:])).to(mean.dtype)
        draws = mean[:, None] + deviation[:, None] * standard
        return {"loss": expected_cross_entropy(draws, batch.mask).mean()}

    def prepare(self, image: Tensor) -> Prepared:
        """All that the samples of a slice share: what comes before the first dropout, or the whole network's answer.

        Which is the probabilities of the classes and, ``aleatoric``, the deviations of the logits.
        """
        if self.config.uncertainty == DROPOUT:
            return self.network.head(image)
        found = _wide(self.network(image))
        if self.config.uncertainty != ALEATORIC:
            return (softmax(found),)
        mean, deviation = self._distribution(found)
        return softmax(mean), deviation

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """``dropout``: of one draw of what is left out, draws 0, 1, … of ``noise``; else the same in every row."""
        if self.config.uncertainty == DROPOUT:
            out = softmax(_wide(self.network.tail(prepared, self._drop(noise))))
        else:
            out = prepared[0]
        if on_step is not None:
            on_step(1, 1)
        return out

    def own_maps(self, prepared: Prepared) -> dict[str, Tensor]:
        """The standard deviation that is predicted for the logit; of several classes the root of their mean variance.

        Kendall and Gal, section 3.1; on the scale of logits, so that what it means depends on how far they are from 0.
        """
        if self.config.uncertainty != ALEATORIC:
            return {}
        return {LOGIT_DEVIATION: prepared[1].square().mean(1).sqrt()}

    def _distribution(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the logits, ``(B, K, H, W)`` each."""
        mean, log_variance = found.chunk(2, dim=1)
        return mean, (log_variance.clamp(max=self.config.log_variance_limit) / 2).exp()

    def _drop(self, noise: RowNoise) -> Callable[[Tensor], Tensor]:
        """Leaves out what each next draw of ``noise`` says, and makes up for it in what stays (inverted dropout)."""
        share, draw = self.config.dropout, 0

        def drop(x: Tensor) -> Tensor:
            nonlocal draw
            kept = noise.uniform(draw, x.shape[1:]) >= share
            draw += 1
            return x * kept.to(x.dtype) / (1 - share)

        return drop


def expected_cross_entropy(draws: Tensor, mask: Tensor) -> Tensor:
    """−Σ y·log of the mean over T draws of the softmax, background among the classes: ``(B, H, W)`` in nats.

    Args:
        draws: logits, float ``(B, T, K, H, W)``.
        mask: float ``(B, K, H, W)`` in [0, 1], with a sum over the classes of at most 1: y.
    """
    whole = F.pad(draws, (0, 0, 0, 0, 1, 0)).log_softmax(2)  # background before the classes
    log_mean = whole.logsumexp(1) - math.log(draws.shape[1])
    target = torch.cat([1 - mask.sum(1, keepdim=True), mask], dim=1)
    return -(target * log_mean).sum(1)


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
