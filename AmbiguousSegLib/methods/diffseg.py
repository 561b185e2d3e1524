"""DiffSeg: segmentation by the difference of two predicted noises (Shuai et al., arXiv 2404.16474).

A diffusion model of images rather than of masks. It learns to predict the noise in images of two classes, healthy c₀
and with a lesion c₁ (Eq. 1). An image to be segmented is made noisy, and its noise predicted as if it were of each
class: where the predictions differ, there is the lesion (Eq. 2). Each noise level gives a mask, and the ten masks of
ten levels are the set whose mean and variance are the consistent and the ambiguous areas (Eq. 3 and 4).

Masks tell the class, and are used to remove the lesion, so that there are healthy images to learn from (section 4.1).
What fills the place, the paper does not say: "constant" paints it black, the plain reading; "surround" (ours) continues
the skin around it, see ``methods.removal``.

What else is open or ours:

- T. Section 4.1 has "a noise addition count t = 100" but samples at 60, 70, … 150, so that T is not 100.
- The two models that the paper trains, "with a total of 13.8M parameters": Eq. 1 and 2 have one, told the class; so
  has this.
- Eq. 1 prints a norm; here it is squared, as in Ho et al. 2020, which it is taken from.
- |·| of several channels is the mean of their absolute differences.
- δ: Otsu's threshold of each difference, among the classic methods of section 2; or ``threshold``.
- One noise for each mask, as in the paper, leaves speckle: ``draws`` takes the mean difference of several noises of one
  level, ``smoothing`` a Gaussian mean over pixels.

Of the best predictor the difference is √(ā/(1 − ā))·|E(x₀ | x_t, c₀) − E(x₀ | x_t, c₁)|: what the classes would make of
the image, in standard deviations of the noise. Where there is no lesion nothing bounds it from below, and Otsu's
threshold parts any image into two: some of a healthy one is marked as well. ``least_threshold`` (ours) leaves empty
what differs by less; all images of the paper show a lesion. DenseCRF (section 3.3) is no part of this method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.methods.otsu import otsu_threshold
from AmbiguousSegLib.methods.removal import filled, grown
from AmbiguousSegLib.networks.limits import check_limits
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

REMOVALS = ("surround", "constant")
LEVEL_ORDERS = ("turn", "drawn")
HEALTHY, LESION = 0, 1  # c₀ and c₁
MOST_DRAWS = 1000
MOST_SMOOTHING = 100.0  # pixels
MOST_MARGIN = 1000  # pixels


@dataclass(frozen=True)
class DiffSegConfig:
    """Settings of DiffSeg; it segments one class.

    Attributes:
        image_channels: channels of the image.
        unet: network that predicts the noise; its channels and the length of its condition follow.
        schedule: noise schedule over T steps.
        removal: what a healthy image has in the lesion's place: "surround" or "constant", see the module's text.
        margin: pixels by which the place reaches beyond the mask; 0 in the paper.
        levels: numbers t of times that noise is added, 1 to T, at which masks are made.
        level_order: "turn": sample n has the level n of the list, and after the last the first again, so that as many
            samples as there are levels have each once, as in the paper; "drawn": each sample draws its level, so that
            samples are independent draws of one distribution.
        draws: noises at a sample's level of whose differences the mean is taken; 1 in the paper.
        smoothing: standard deviation in pixels of the Gaussian mean of the difference; 0 in the paper.
        threshold: δ of Eq. 2, in standard deviations of the noise; None: Otsu's.
        least_threshold: what a threshold is at least; 0 in the paper.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    removal: str = "surround"
    margin: int = 0
    levels: tuple[int, ...] = (60, 70, 80, 90, 100, 110, 120, 130, 140, 150)
    level_order: str = "turn"
    draws: int = 1
    smoothing: float = 0.0
    threshold: float | None = None
    least_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("removal", REMOVALS), ("level_order", LEVEL_ORDERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"DiffSegConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        if self.image_channels < 1 or not 0 <= self.margin <= MOST_MARGIN or not 1 <= self.draws <= MOST_DRAWS:
            raise ValueError(
                f"DiffSegConfig needs image_channels ≥ 1, margin from 0 to {MOST_MARGIN} and draws from 1 to "
                f"{MOST_DRAWS}, got {self.image_channels}, {self.margin} and {self.draws}."
            )
        check_limits(self, self.image_channels, 1)
        if not self.levels or not 1 <= min(self.levels) <= max(self.levels) <= self.schedule.steps:
            raise ValueError(
                f"DiffSegConfig.levels must be numbers from 1 to {self.schedule.steps}, the steps of the schedule, got "
                f"{list(self.levels)}."
            )
        for name, most in (("smoothing", MOST_SMOOTHING), ("threshold", math.inf), ("least_threshold", math.inf)):
            value = getattr(self, name)
            if value is not None and not (0 <= value <= most and math.isfinite(value)):
                limit = f"at most {most:g}" if math.isfinite(most) else "finite"
                raise ValueError(f"DiffSegConfig.{name} must be 0 or more and {limit}, got {value}.")


@METHODS.register("diffseg")
class DiffSeg(Method):
    """See the module's text; images are ``(B, C, H, W)`` in [0, 1], from −1 to 1 in the diffusion."""

    Config = DiffSegConfig
    not_of_the_network = frozenset(
        {"removal", "margin", "levels", "level_order", "draws", "smoothing", "threshold", "least_threshold"}
    )

    def __init__(self, config: DiffSegConfig) -> None:
        super().__init__(config)
        channels = config.image_channels
        self.schedule = config.schedule.build()
        # A linear layer of a one-hot class is the class's embedding.
        self.unet = UNet(replace(config.unet, in_channels=channels, out_channels=channels, condition_dim=2))

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.unet.config.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Mean over items; one with a lesion is seen twice, as it is and without, with one timestep and one noise.

        A lesion is whatever the mask marks in any share. An image that is marked all over has nothing healthy to show.
        Draw 0 of ``noise`` picks the timestep, draw 1 is ε, draw 2 the texture of what is filled in.
        """
        image, steps = batch.image, len(self.schedule)
        index = (noise.uniform(0) * steps).long().clamp(max=steps - 1).to(image.device)
        epsilon, texture = (noise.normal(draw, image.shape[1:]).to(image) for draw in (1, 2))
        place = grown((batch.mask > 0).any(1, keepdim=True), self.config.margin)
        lesion = place.flatten(1).any(1)
        twice = lesion & ~place.flatten(1).all(1)
        own = self.losses(image, lesion.long(), index, epsilon)
        healthy = torch.full_like(index, HEALTHY)
        without = self.losses(self.without(image, place, texture), healthy, index, epsilon)
        return {"loss": torch.where(twice, (own + without) / 2, own).mean()}

    def without(self, image: Tensor, place: Tensor, normal: Tensor) -> Tensor:
        """Images whose lesions are removed from their ``place``, bool ``(B, 1, H, W)`` (section 4.1)."""
        return image.masked_fill(place, 0.0) if self.config.removal == "constant" else filled(image, place, normal)

    def losses(self, image: Tensor, kind: Tensor, index: Tensor, epsilon: Tensor) -> Tensor:
        """Mean squared error of the predicted noise (Eq. 1): ``(B,)``; ``kind`` int64 ``(B,)``, the class."""
        x_t = process.q_sample(self.schedule, 2 * image - 1, index, epsilon)
        return ((self.predicted_noise(x_t, kind, index) - epsilon) ** 2).flatten(1).mean(1)

    def predicted_noise(self, x_t: Tensor, kind: Tensor, index: Tensor) -> Tensor:
        """f_θ(x_t, c, ā_t) of classes ``(B,)`` at places ``(B,)`` in the schedule: ``(B, C, H, W)``."""
        timesteps = torch.from_numpy(self.schedule.timesteps).to(index.device)[index]
        return self.unet(x_t, timesteps, F.one_hot(kind, 2).to(x_t.dtype)).float()

    def levels_of(self, noise: RowNoise) -> Tensor:
        """The level t of each row, by its sample's number or by draw 0: int64 ``(B,)``."""
        levels = torch.tensor(self.config.levels, device=noise.device)
        if self.config.level_order == "turn":
            place = torch.tensor([sample for _, sample in noise.rows], device=noise.device) % len(levels)
        else:
            place = (noise.uniform(0) * len(levels)).long().clamp(max=len(levels) - 1)
        return levels[place]

    def difference(self, image: Tensor, noise: RowNoise) -> Tensor:
        """|f_θ(x_t, c₀, ā_t) − f_θ(x_t, c₁, ā_t)| (Eq. 2): ``(B, 1, H, W)``, in standard deviations of the noise.

        Noise has been added t times at place t − 1 of the schedule. Draws 1, 2 … are ε.
        """
        index = self.levels_of(noise).to(image.device) - 1
        total = torch.zeros_like(image[:, :1], dtype=torch.float32)
        for draw in range(1, self.config.draws + 1):
            epsilon = noise.normal(draw, image.shape[1:]).to(image)
            x_t = process.q_sample(self.schedule, 2 * image - 1, index, epsilon)
            healthy, lesion = (
                self.predicted_noise(x_t, torch.full_like(index, kind), index) for kind in (HEALTHY, LESION)
            )
            total = total + (healthy - lesion).abs().mean(1, keepdim=True)
        return smoothed(total / self.config.draws, self.config.smoothing)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """The difference d as ½ + ½(d − δ)/(d + δ): 0 where there is none, ½ at the threshold δ, towards 1 beyond.

        A pixel is marked where d is above δ (Bin of Eq. 2). Draws of ``noise``: as ``levels_of`` and ``difference``.
        """
        (image,) = prepared
        difference = self.difference(image, noise)
        if self.config.threshold is None:
            threshold = otsu_threshold(difference)
        else:
            threshold = torch.full_like(difference[:, 0, 0, 0], self.config.threshold)
        threshold = threshold.clamp(min=self.config.least_threshold).reshape(-1, 1, 1, 1)
        total = difference + threshold
        values = 0.5 + 0.5 * (difference - threshold) / torch.where(total > 0, total, 1)
        if on_step is not None:
            on_step(1, 1)
        return torch.where(total > 0, values, 0)


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """Gaussian mean of ``(B, 1, H, W)`` over pixels up to 4 σ away, the border repeated; σ = 0: unchanged."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return values
    away = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    weights = torch.exp(-0.5 * (away / sigma) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(values, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
