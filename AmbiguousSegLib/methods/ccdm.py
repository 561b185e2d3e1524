"""CCDM: conditional categorical diffusion model (Zbinden et al., ICCV 2023).

A diffusion over label maps rather than over numbers: noise exchanges labels, and the network, which sees the image and
the noisy label map, says with which probability each label is the true one. What is sampled is a label map at every
step; nothing is rounded.

The published code computes ā by a formula of its own, one step behind the product of its α; here ā is the product.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import categorical, samplers
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import CATEGORICAL, SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import steps_of
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Prepared
from AmbiguousSegLib.methods.mask_diffusion import Diffusion
from AmbiguousSegLib.networks.unet import UNet, UNetConfig


@dataclass(frozen=True)
class CCDMConfig:
    """Settings of CCDM.

    Attributes:
        image_channels: channels of the image.
        unet: denoising network; its input and output channels follow from the other settings.
        schedule: of β, the probability that a step draws the label anew; cosine over 250 steps in the paper.
        classes: number of classes K, background not counted; set by the labels.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig("cosine", 250))
    classes: int = 1

    def __post_init__(self) -> None:
        if min(self.image_channels, self.classes) < 1:
            raise ValueError(
                f"CCDMConfig needs image_channels ≥ 1 and classes ≥ 1, got {self.image_channels} and {self.classes}."
            )


@METHODS.register("ccdm")
class CCDM(Diffusion):
    """See the module's text. States are one-hot ``(B, K + 1, H, W)``, background first: the last of the input."""

    Config = CCDMConfig
    sampler_family = CATEGORICAL

    def __init__(self, config: CCDMConfig) -> None:
        super().__init__(config)
        labels = config.classes + 1
        self.unet = UNet(replace(config.unet, in_channels=config.image_channels + labels, out_channels=labels))

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Mean over the pixels of one term of the bound (CCDM Eq. 10), its step drawn evenly.

        Draw 0 of ``noise`` picks the timestep, draw 1 are the labels of x_t, draw 2 those of x_0: a mean of several
        raters is no label map, so that each of its pixels is drawn by itself. One rater's mask is what it is.
        """
        labels = self.classes + 1
        background = (1 - batch.mask.sum(1, keepdim=True)).clamp(min=0)
        x0 = categorical.one_hot(noise.categorical(2, torch.cat([background, batch.mask], dim=1)), labels)
        index = self.random_index(noise, x0.device)
        x_t = categorical.one_hot(noise.categorical(1, categorical.marginal(self.schedule, x0, index)), labels)
        return {"loss": self.losses(batch.image, x0, x_t, index).mean()}

    def losses(self, image: Tensor, x0: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """Divergence of the network's reverse step from the true one, in nats per pixel: ``(B, H, W)``."""
        return categorical.divergence(self.schedule, x0, x_t, self._log_x0(image, x_t, index), index)

    def _log_x0(self, image: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        out = self.unet(torch.cat([image.to(x_t.dtype), x_t], dim=1), self.timesteps_at(index))
        return out.float().log_softmax(1)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the sampler and its steps; the draws of ``noise`` are the sampler's."""
        (image,) = prepared
        steps = steps_of(settings.grid, len(self.schedule), settings.steps)
        chosen = torch.from_numpy(steps).to(image.device)

        def denoise(x: Tensor, index: Tensor) -> Denoised:
            return Denoised(self._log_x0(image, x, chosen[index]))

        shape = (self.classes + 1, *image.shape[-2:])
        x = samplers.run(settings, denoise, self.schedule.respaced(steps), noise, shape, on_step, CATEGORICAL)
        return x[:, 1:]
