"""CIMD-L: CIMD whose latent is fed to the denoiser (ours, after Rahman et al., CVPR 2023).

In CIMD's Eq. 12–15 the latent z occurs in no term but the divergence: a constant Q = P is optimal, and nothing of the
mask is in z. Here the denoiser reads z. In training it comes from AMN, Q(z | image, mask) (Eq. 12); when sampling from
ACN as its prior, P(z | image), or P(z | image, x_t, t), drawn anew at each step (after Eq. 13). The loss is

    E ‖f_θ(x_t, t, image, z) − x_0‖² + β·KL(Q ‖ P),  z ~ Q,

a conditional variational autoencoder (Sohn et al. 2015) whose decoder is the diffusion. The latent carries which shape
is marked, the diffusion where its border runs; so one to four evaluations suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.ambiguity import encoder_pair
from AmbiguousSegLib.methods.base import Batch, Prepared
from AmbiguousSegLib.methods.mask_diffusion import MaskDiffusion, check_mask_diffusion
from AmbiguousSegLib.networks.gaussian_encoder import (
    GaussianEncoderConfig,
    divergence,
    location_and_scale,
    reparametrised,
)
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

PRIORS = ("image", "step")
FEEDS = ("embedding", "channels", "both")
LATENT_DRAW = 2**40
"""Draw of z when sampling, plus the number of the step where it is drawn anew: samplers count theirs from 0, one for
each step, and a schedule has 100,000 at most."""


@dataclass(frozen=True)
class CIMDLConfig:
    """Settings of CIMD-L.

    Attributes:
        image_channels: channels of the image.
        unet: denoising network; its channels and what conditions it follow from the other settings.
        schedule: noise schedule.
        prediction: what the network predicts: "x0", "epsilon" or "v", and what the squared error is taken of. Few
            steps ask for "x0", whose error at pure noise is the one that the latent can explain.
        mask_levels: values that stand for "not this class" and "this class": (−1, 1) or (0, 1).
        encoder: AMN and ACN; covariance "full" as in CIMD-FC (appendix E).
        beta: weight of KL(Q ‖ P) in nats against the squared error, a mean over pixels.
        free_nats: what of the divergence costs nothing: β·max(KL, free_nats), the mean over the batch taken first.
        prior: what ACN reads: the "image", or at each "step" also x_t and √ā_t.
        feed: how the denoiser reads z: with the timestep's "embedding", as constant "channels" beside the image, or
            "both".
        classes: number of classes K, each with a mask channel of its own; set by the labels.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction: str = "x0"
    mask_levels: tuple[float, float] = (-1.0, 1.0)
    encoder: GaussianEncoderConfig = field(default_factory=lambda: GaussianEncoderConfig(log_sigma_limit=5.0))
    beta: float = 0.001
    free_nats: float = 0.0
    prior: str = "image"
    feed: str = "both"
    classes: int = 1

    def __post_init__(self) -> None:
        check_mask_diffusion(self)
        for name, known in (("prior", PRIORS), ("feed", FEEDS)):
            if getattr(self, name) not in known:
                raise ValueError(f"CIMDLConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if min(self.image_channels, self.classes) < 1 or self.beta < 0 or self.free_nats < 0:
            raise ValueError(
                "CIMDLConfig needs image_channels ≥ 1, classes ≥ 1, beta ≥ 0 and free_nats ≥ 0, got "
                f"{self.image_channels}, {self.classes}, {self.beta} and {self.free_nats}."
            )


@METHODS.register("cimd_l")
class CIMDL(MaskDiffusion):
    """See the module's text; the network reads image, z where it is fed as channels, and the K noisy mask channels."""

    Config = CIMDLConfig

    def __init__(self, config: CIMDLConfig) -> None:
        super().__init__(config)
        channels, classes, latent = config.image_channels, config.classes, config.encoder.latent_dim
        self.unet = UNet(
            replace(
                config.unet,
                in_channels=channels + classes + (0 if config.feed == "embedding" else latent),
                out_channels=classes,
                condition_dim=0 if config.feed == "channels" else latent,
            )
        )
        read = channels if config.prior == "image" else channels + classes + 1
        self.amn, self.acn = encoder_pair(config.encoder, channels + classes, read)

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Draw 0 of ``noise`` picks the timestep, draw 1 is ε, draw 2 the latent."""
        x0 = self.on_levels(batch.mask)
        index, epsilon = self.random_index(noise, x0.device), noise.normal(1, x0.shape[1:])
        return self.losses(batch.image, x0, index, epsilon, noise.normal(2, (self.config.encoder.noise_dim,)))

    def losses(self, image: Tensor, x0: Tensor, index: Tensor, epsilon: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Terms of the loss for given timesteps and noise, scalars; ``latent`` is standard normal ``(B, E)``."""
        x_t = process.q_sample(self.schedule, x0, index, epsilon)
        q, p = self.amn(torch.cat([image, x0], dim=1)), self.prior(image, x_t, index)
        prediction = self._network(image, x_t, index, reparametrised(*location_and_scale(q), latent))
        wanted = process.target(self.config.prediction, self.schedule, x0, index, epsilon)
        simple = ((prediction - wanted) ** 2).mean()
        nats = divergence(q, p).mean()
        costs = self.config.beta * nats.clamp(min=self.config.free_nats)
        return {"simple": simple, "divergence": costs, "nats": nats.detach(), "loss": simple + costs}

    def prior(self, image: Tensor, x_t: Tensor, index: Tensor) -> Distribution:
        """P(z | image), or where the prior is that of a step P(z | image, x_t, t); x_t ``(B, K, H, W)``."""
        if self.config.prior == "image":
            return self.acn(image)
        signal = process.at(self.schedule.alphas_cumprod**0.5, index, x_t).expand_as(x_t[:, :1])
        return self.acn(torch.cat([image.to(x_t.dtype), x_t, signal], dim=1))

    def _network(self, image: Tensor, x_t: Tensor, index: Tensor, z: Tensor) -> Tensor:
        read, z = [image.to(x_t.dtype), x_t], z.to(x_t.dtype)
        if self.config.feed != "embedding":
            read.insert(1, z[:, :, None, None].expand(-1, -1, *x_t.shape[-2:]))
        condition = None if self.config.feed == "channels" else z
        return self.unet(torch.cat(read, dim=1), self.timesteps_at(index), condition)

    def denoise(self, image: Tensor, x_t: Tensor, index: Tensor, z: Tensor) -> Tensor:
        """Mask estimate ``(B, K, H, W)`` given the latent ``(B, N)``, clipped to ±1."""
        prediction = self._network(image, x_t, index, z)
        return process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index).clamp(-1, 1)

    def prepare(self, image: Tensor) -> Prepared:
        """The image, and location and scale of the prior where the image alone tells them."""
        return (image, *location_and_scale(self.acn(image))) if self.config.prior == "image" else (image,)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the sampler and its steps; draws from ``LATENT_DRAW`` on are the latent's, the others the sampler's."""
        image, *gaussian = prepared
        drawn = 0

        def latent(location: Tensor, scale: Tensor) -> Tensor:
            return reparametrised(location, scale, noise.normal(LATENT_DRAW + drawn, scale.shape[-1:]))

        z = latent(*gaussian) if gaussian else None

        def denoise(x: Tensor, index: Tensor) -> Denoised:
            nonlocal drawn
            now = z
            if now is None:
                now = latent(*location_and_scale(self.prior(image, x, index)))
                drawn += 1
            return Denoised(self.denoise(image, x, index, now))

        return self.run_sampler(denoise, image, noise, settings, on_step)
