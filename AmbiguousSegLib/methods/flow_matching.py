"""Flow matching over masks (Lipman et al. 2023), from normal noise or from the draw of an SSN.

A network learns the velocity that carries a start to a mask along straight lines; see ``diffusion.flow``. Either it
predicts the velocity, or where the line ends, the mask, from which the velocity follows: a mask is ±1, which bounds it.

With ``start: ssn`` a draw of a stochastic segmentation network is the start: it chooses the mode, the flow draws the
border, as in ATFM (Li et al., AAAI 2026, "Ambiguity-aware Truncated Flow Matching"). There as here the draw is paired
with any rater's mask, independent of it, and the softmax of its logits is the state at which the flow sets in. That
state stands for one at a time of truncation τ on the way from noise to mask: ``truncation`` mixes it with normal noise,
τ·draw + (1 − τ)·ε; in the published code there is no such noise, τ = 1. Time is counted from there: t = 0 is τ.

ATFM trains the SSN first and freezes it. Here both are trained at once, and the draw is cut off from the flow's loss:
each has the loss that it has by itself, and in the end the flow has learnt from an SSN that changes no more. Left out
are ATFM's semantic layers of the network, and its Dice loss, which in the published code has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import flow, samplers
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.settings import FLOW, SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.methods.ssn import SSN, SSNConfig
from AmbiguousSegLib.networks.logits import softmax
from AmbiguousSegLib.networks.low_rank_normal import LowRankNormal
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

PREDICTIONS = ("x1", "velocity")
STARTS = ("normal", "ssn")
_TIME_SCALE = 1000.0  # the network's embedding tells apart steps from 0 to about 1000


@dataclass(frozen=True)
class FlowMatchingConfig:
    """Settings of flow matching.

    Attributes:
        image_channels: channels of the image.
        unet: network; its input and output channels follow from the other settings.
        prediction: what the network predicts: the mask ("x1") or the "velocity" (Lipman et al.).
        start: of the flow: "normal" noise, or a draw of an "ssn".
        ssn: the SSN, where it is the start; its image channels and classes follow.
        truncation: share τ of the SSN's draw in the start, in (0, 1]; the rest is normal noise.
        classes: number of classes K, each with a mask channel of its own; set by the labels.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    prediction: str = "x1"
    start: str = "normal"
    ssn: SSNConfig = field(default_factory=SSNConfig)
    truncation: float = 1.0
    classes: int = 1

    def __post_init__(self) -> None:
        for name, known in (("prediction", PREDICTIONS), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"FlowMatchingConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        if min(self.image_channels, self.classes) < 1 or not 0 < self.truncation <= 1:
            raise ValueError(
                "FlowMatchingConfig needs image_channels ≥ 1, classes ≥ 1 and truncation in (0, 1], got "
                f"{self.image_channels}, {self.classes} and {self.truncation}."
            )


@METHODS.register("flow_matching")
class FlowMatching(Method):
    """See the module's text; states are ``(B, K, H, W)``, −1 "not this class" and 1 "this class" where they are masks.

    They are the last channels of the network's input.
    """

    Config = FlowMatchingConfig
    samples_by_steps = True
    sampler_family = FLOW

    def __init__(self, config: FlowMatchingConfig) -> None:
        super().__init__(config)
        channels, classes = config.image_channels, config.classes
        self.unet = UNet(replace(config.unet, in_channels=channels + classes, out_channels=classes))
        self.ssn = None
        if config.start == "ssn":
            self.ssn = SSN(replace(config.ssn, image_channels=channels, classes=classes))

    @property
    def size_multiple(self) -> int:
        """What the levels of the network ask for, and those of the SSN: both are powers of two."""
        own = self.unet.config.size_multiple
        return own if self.ssn is None else max(own, self.ssn.size_multiple)

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Draw 0 of ``noise`` picks the time; draw 1 is the normal noise of the start, draws 2 and 3 are the SSN's.

        The loss of the SSN, per pixel so that neither gradient outweighs the other, takes draws 0 and 1 for itself:
        nothing that is learnt depends on both.
        """
        drawn = () if self.ssn is None else self.ssn.prepare(batch.image)
        x0 = self.start(drawn, noise, 1, batch.mask).detach()
        per_item = self.losses(batch.image, x0, 2 * batch.mask - 1, noise.uniform(0).to(batch.mask.device))
        terms = {"flow": per_item.mean()}
        if self.ssn is not None:
            terms["ssn"] = self.ssn.training_loss(batch, noise)["loss"] / batch.mask[0, 0].numel()
        terms["loss"] = sum(terms.values(), start=torch.zeros_like(terms["flow"]))
        return terms

    def start(self, drawn: Prepared, noise: RowNoise, first: int, like: Tensor) -> Tensor:
        """States at t = 0, of the shape ``(B, K, H, W)`` of ``like``; takes the draws from ``first`` on.

        Args:
            drawn: of the SSN's ``prepare``; empty where there is no SSN.
        """
        normal = noise.normal(first, like.shape[1:]).to(like)
        if self.ssn is None:
            return normal
        chosen = 2 * softmax(self.ssn.draw(LowRankNormal(*drawn), noise, first + 1)) - 1
        return self.config.truncation * chosen + (1 - self.config.truncation) * normal

    def losses(self, image: Tensor, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Squared error of what is predicted at times ``(B,)`` on the paths from ``x0`` to ``x1``: ``(B,)``."""
        prediction = self._network(image, flow.on_path(x0, x1, t), t)
        wanted = x1 if self.config.prediction == "x1" else x1 - x0
        return ((prediction - wanted) ** 2).flatten(1).mean(1)

    def _network(self, image: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.unet(torch.cat([image.to(x_t.dtype), x_t], dim=1), _TIME_SCALE * t).float()

    def velocity(self, image: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """dx/dt at times ``(B,)`` below 1; a predicted mask is clipped to ±1, where all masks are."""
        prediction = self._network(image, x_t, t)
        return flow.velocity_to(prediction.clamp(-1, 1), x_t, t) if self.config.prediction == "x1" else prediction

    def prepare(self, image: Tensor) -> Prepared:
        """The image, and what the SSN says of it."""
        return (image, *(() if self.ssn is None else self.ssn.prepare(image)))

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the solver and its evaluations; draws 0 to 2 of ``noise`` are the start, there are no others."""
        image, *drawn = prepared
        shape = (self.classes, *image.shape[-2:])
        start = self.start(tuple(drawn), noise, 0, image.new_empty(len(image), *shape))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.velocity(image, x, t)

        x = samplers.run(settings, velocity, flow.Flow(start, settings.steps), noise, shape, on_step, FLOW)
        return (x + 1) / 2
