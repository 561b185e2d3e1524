"""SegDiff: a diffusion model over masks whose image has an encoder of its own (Amit et al. 2021, arXiv 2112.00390).

ε_θ(x_t, I, t) = D(E(F(x_t) + G(I), t), t): F is one convolution of the noisy mask, G convolutions and
residual-in-residual dense blocks over the image, E and D are the way down and up of a U-Net. As in the published code
F is the U-Net's own first convolution, and the sum is what its first block reads, and its last one by the skip
connection. G knows neither x_t nor t, so that it is computed once for all masks and steps of an image.

As in the published code: T = 100 steps of the linear schedule, ε-prediction, a variance that is not learned but β, the
upper bound, and a mask estimate that is not clipped. The published mask is the mean of several samples, cut at one
half: the consensus of the samples here.

Several classes are a reading of ours: F reads one noisy mask channel for each, all at the same timestep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Prepared
from AmbiguousSegLib.methods.mask_diffusion import MaskDiffusion, check_mask_diffusion
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.rrdb import RRDBConfig, RRDBEncoder
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

VARIANCES = ("beta", "posterior", "learned_range")


@dataclass(frozen=True)
class SegDiffConfig:
    """Settings of SegDiff; numbers of the paper and its code are in the presets.

    Attributes:
        image_channels: channels of the image.
        unet: F, E and D; its input and output channels follow from the other settings.
        encoder: G, which ends in as many channels as the U-Net has at full resolution.
        schedule: noise schedule.
        prediction: what the network predicts: "epsilon" (published), "x0" or "v".
        variance: of a step of the sampler ddpm: "beta" (published code), "posterior" (β̃) or "learned_range"
            (predicted beside the mask, from β̃ to β).
        clip: whether the mask estimate is clipped to the mask levels in sampling; not in the published code.
        mask_levels: values that stand for "not this class" and "this class": (−1, 1), published, or (0, 1).
        lambda_vlb: weight of the variational bound, which trains a learned variance.
        classes: number of classes K, each with a mask channel of its own; set by the labels.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    encoder: RRDBConfig = field(default_factory=RRDBConfig)
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(steps=100))
    prediction: str = "epsilon"
    variance: str = "beta"
    clip: bool = False
    mask_levels: tuple[float, float] = (-1.0, 1.0)
    lambda_vlb: float = 0.001
    classes: int = 1

    def __post_init__(self) -> None:
        check_mask_diffusion(self)
        if self.variance not in VARIANCES:
            raise ValueError(f"SegDiffConfig.variance must be one of {', '.join(VARIANCES)}, got {self.variance!r}.")
        if min(self.image_channels, self.classes) < 1 or not 0 <= self.lambda_vlb < math.inf:
            raise ValueError(
                "SegDiffConfig needs image_channels ≥ 1, classes ≥ 1 and lambda_vlb ≥ 0 (finite), got "
                f"{self.image_channels}, {self.classes} and {self.lambda_vlb}."
            )
        check_limits(self, max(self.image_channels, 2 * self.classes), 1)


@METHODS.register("segdiff")
class SegDiff(MaskDiffusion):
    """See the module's text; tensors are ``(B, C, H, W)``, the U-Net reads the K noisy mask channels alone."""

    Config = SegDiffConfig
    not_of_the_network = frozenset({"clip", "lambda_vlb"})

    def __init__(self, config: SegDiffConfig) -> None:
        super().__init__(config)
        classes = config.classes
        predicted = 2 * classes if config.variance == "learned_range" else classes
        self.unet = UNet(replace(config.unet, in_channels=classes, out_channels=predicted))
        self.encoder = RRDBEncoder(config.encoder, config.image_channels, config.unet.model_channels)

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Draw 0 of ``noise`` picks the timestep, draw 1 is ε."""
        x0 = self.on_levels(batch.mask)
        index, epsilon = self.random_index(noise, x0.device), noise.normal(1, x0.shape[1:])
        return {name: value.mean() for name, value in self.losses(batch.image, x0, index, epsilon).items()}

    def losses(self, image: Tensor, x0: Tensor, index: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """Terms of the loss for given timesteps and noise, each ``(B,)``; ``x0`` is on the mask levels.

        ``simple`` is the squared error of what is predicted (course report, Eq. 3), ``vlb`` λ·T times one term of the
        bound, of a learned variance alone; ``loss`` is their sum.
        """
        x_t = process.q_sample(self.schedule, x0, index, epsilon)
        prediction, v = self._network(self.encoder(image), x_t, index)
        wanted = process.target(self.config.prediction, self.schedule, x0, index, epsilon)
        simple = ((prediction - wanted) ** 2).flatten(1).mean(1)
        if v is None or self.config.lambda_vlb == 0:
            return {"simple": simple, "loss": simple}
        estimate = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index)
        vlb = self.config.lambda_vlb * len(self.schedule) * self.bound(x0, x_t, index, estimate, v)
        return {"simple": simple, "vlb": vlb, "loss": simple + vlb}

    def _network(self, features: Tensor, x_t: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
        out, classes = self.unet(x_t, self.timesteps_at(index), None, features), self.config.classes
        return (out[:, :classes], out[:, classes:]) if out.shape[1] == 2 * classes else (out, None)

    def denoise(self, features: Tensor, x_t: Tensor, index: Tensor) -> Denoised:
        """Mask estimate and v of the variance, given G(I) ``(B, N, H, W)``."""
        prediction, v = self._network(features, x_t, index)
        x0 = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index)
        if self.config.clip:
            x0 = x0.clamp(*self.config.mask_levels)
        return Denoised(x0, torch.ones_like(x0) if self.config.variance == "beta" else v)  # v = 1 is β

    def prepare(self, image: Tensor) -> Prepared:
        """G(I), float ``(S, N, H, W)`` with as many channels N as the U-Net has at full resolution."""
        return (self.encoder(image),)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the sampler and its steps; the draws of ``noise`` are the sampler's."""
        (features,) = prepared
        return self.run_sampler(lambda x, index: self.denoise(features, x, index), features, noise, settings, on_step)
