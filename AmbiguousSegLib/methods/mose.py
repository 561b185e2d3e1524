"""Mixture of stochastic experts (Gao et al., ICLR 2023): a gate chooses an expert by the image, a code of that expert's
own normal distribution, the same for all images, is injected into the features, and one mask comes of it.

Trained by optimal transport between the weighted masks of all experts and those of the raters, at the cost 1 − soft
IoU. Each rater's mass goes to the masks that it costs least to carry it to, of which none takes more than a given
share; the masks are drawn to what they were given (the plan is held fixed), and the gate to how much each of its
experts was given, by a Kullback-Leibler divergence. A training item thus needs the masks of several raters together:
``dataset.raters`` in the training configuration. With a single one this is the paper's training with one label an
image: the mask that is nearest learns it, and the gate how often.

What differs. The plan is the exact one, by the Hungarian method, where the published code takes a greedy one; the share
is constant, where that code gives it up when the validation stands still; and masks are draws (an expert by its
probability, then a code), where the paper also evaluates its fixed number of masks with their weights. The features
are normalised by groups of channels, where the published code normalises over the batch, as a mask must not depend on
its batch. Without either (``unet.norm_groups`` 0) the logits drift away, by thousands, until every mask is empty: there
the soft IoU of a lesion has no gradient left, and an empty mask costs nothing wherever a rater marked nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.conv_unet import ConvUNet, ConvUNetConfig
from AmbiguousSegLib.networks.experts import CodeInjection, ExpertCodes, Gate
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.logits import softmax


@dataclass(frozen=True)
class MoSEConfig:
    """Settings of a mixture of stochastic experts.

    Attributes:
        image_channels: channels of the image.
        unet: feature extractor; its input channels follow from ``image_channels``, its coarsest level feeds the gate.
        experts: how many there are, E.
        latent_dim: dimension L of a code.
        expert_samples: masks of each expert in the loss, S.
        combination_layers: 1×1 convolutions behind the injected code.
        shares: a mask takes at most 1/shares of the raters' mass (γ of the paper).
        gate_weight: β, of the gate's divergence.
        classes: number of classes K, each with a logit of its own; set by the labels.
    """

    image_channels: int = 1
    unet: ConvUNetConfig = field(default_factory=lambda: ConvUNetConfig(norm_groups=4))
    experts: int = 4
    latent_dim: int = 1
    expert_samples: int = 4
    combination_layers: int = 3
    shares: int = 2
    gate_weight: float = 1.0
    classes: int = 1

    def __post_init__(self) -> None:
        counts = (
            "image_channels",
            "experts",
            "latent_dim",
            "expert_samples",
            "combination_layers",
            "shares",
            "classes",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"MoSEConfig.{name} must be 1 or more, got {getattr(self, name)}.")
        if not 0 <= self.gate_weight < math.inf:
            raise ValueError(f"MoSEConfig.gate_weight must be 0 or more, got {self.gate_weight}.")
        masks = self.experts * self.expert_samples
        if self.shares > masks:
            raise ValueError(
                f"MoSEConfig.shares must be at most experts × expert_samples, {masks}, so that the masks can take "
                f"all of the raters' mass, got {self.shares}."
            )
        check_limits(self, max(self.image_channels, masks, self.latent_dim, self.classes), self.combination_layers)


@METHODS.register("mose")
class MoSE(Method):
    """See the module's text. Background has the logit 0; the values of a mask are the softmax over all K + 1."""

    Config = MoSEConfig

    def __init__(self, config: MoSEConfig) -> None:
        super().__init__(config)
        filters = config.unet.filters
        self.unet = ConvUNet(replace(config.unet, in_channels=config.image_channels))
        self.gate = Gate(filters[-1], config.experts)
        self.codes = ExpertCodes(config.experts, config.latent_dim)
        self.inject = CodeInjection(filters[0], config.latent_dim, config.classes, config.combination_layers)

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.config.unet.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """``transport``: the plan's cost; ``gate``: β times the gate's divergence from what the plan gives its experts.

        As in the published code the divergence is a mean over the masks, not a sum. Draw 0 of ``noise`` is the codes of
        all experts.
        """
        experts, each = self.config.experts, self.config.expert_samples
        raters = batch.mask[:, None] if batch.raters is None else batch.raters
        log_gate, features = self._read(batch.image)
        who = torch.arange(experts, device=features.device).repeat_interleave(each).expand(len(features), -1)
        codes = self.codes(who, noise.normal(0, (experts * each, self.config.latent_dim)))
        logits = self.inject(features, codes)
        cost = soft_iou_costs(softmax(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]), raters)
        plan = transport_plans(cost.detach(), self.config.shares)
        transport = (plan * cost).sum((1, 2)).mean()
        log_weights = log_gate.repeat_interleave(each, dim=1) - math.log(each)
        gate = self.config.gate_weight * F.kl_div(log_weights, plan.sum(2), reduction="none").mean()
        return {"transport": transport, "gate": gate, "loss": transport + gate}

    def _read(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the experts' probabilities ``(B, E)``, and features ``(B, width, H, W)``."""
        levels = self.unet.encode(image)
        return self.gate(levels[-1]), self.unet.decode(levels)

    def prepare(self, image: Tensor) -> Prepared:
        """The experts' probabilities ``(S, E)``, and features ``(S, width, H, W)``."""
        log_gate, features = self._read(image)
        return log_gate.exp(), features

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """In one pass; draw 0 of ``noise`` picks the expert, draw 1 is its code."""
        probabilities, features = prepared
        expert = noise.categorical(0, probabilities)
        codes = self.codes(expert, noise.normal(1, (self.config.latent_dim,)))
        out = softmax(self.inject(features, codes[:, None])[:, 0])
        if on_step is not None:
            on_step(1, 1)
        return out


def soft_iou_costs(values: Tensor, raters: Tensor) -> Tensor:
    """1 − (Σ v·y + 1) / (Σ v + Σ y − Σ v·y + 1), in the mean over the classes: ``(B, N, M)``, in [0, 1).

    Args:
        values: ``(B, N, K, H, W)`` in [0, 1], v.
        raters: ``(B, M, K, H, W)`` in [0, 1], y.
    """
    v, y = values.flatten(3).transpose(1, 2), raters.flatten(3).transpose(1, 2).to(values)
    with torch.autocast(values.device.type, enabled=False):
        both = v @ y.transpose(2, 3)
    either = v.sum(3)[..., None] + y.sum(3)[:, :, None] - both
    return (1 - (both + 1) / (either + 1)).mean(1)


def transport_plans(costs: Tensor, shares: int) -> Tensor:
    """The plan P ≥ 0 of the least Σ P·cost in which each rater gives 1/M and no mask takes more than 1/shares.

    Exact: in units of 1/lcm(M, shares) every rater gives, and every mask takes up to, a whole number of units, so that
    the linear program has a solution in whole units, which is an assignment.

    Args:
        costs: ``(B, N, M)``, finite, with N ≥ shares.

    Returns:
        ``(B, N, M)`` without gradient, each column summing to 1/M.
    """
    raters = costs.shape[2]
    units = math.lcm(raters, shares)
    given, taken = units // raters, units // shares
    plans = np.zeros(costs.shape)
    for plan, cost in zip(plans, costs.detach().double().cpu().numpy()):
        rows, columns = linear_sum_assignment(cost.repeat(taken, axis=0).repeat(given, axis=1))
        np.add.at(plan, (rows // taken, columns // given), 1 / units)
    return torch.from_numpy(plans).to(costs)
