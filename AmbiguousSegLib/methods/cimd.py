"""CIMD: collectively intelligent medical diffusion (Rahman et al., CVPR 2023), as its paper describes it.

A diffusion model over masks, given the image as extra input channels. Two encoders see the training only: the
ambiguity modelling network (AMN) reads image and rater mask, the ambiguity controlling network (ACN) reads image and
what the diffusion model predicts; the divergence between their Gaussians is the third term of the loss. All three
networks are trained together. (The published code leaves both encoders at their random start:
``train_encoders=False``.)

The ablations of the paper are settings: DDPM-Prob-Seg is ``beta_ambiguity=0``; DDPM-det-Seg is that, trained on the
mean of the raters' masks (``target: mean`` in the training configuration).

Several classes are a reading of ours: the process runs over one mask channel for each, all at the same timestep.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import losses, process, samplers
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import steps_of
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.base import Batch, Method, Prepared
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoder, GaussianEncoderConfig, divergence
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

VARIANCES = ("learned_range", "posterior")
ACN_INPUTS = ("mask", "noise")


@dataclass(frozen=True)
class CIMDConfig:
    """Settings of CIMD; numbers of the paper are in the presets.

    Attributes:
        image_channels: channels of the image.
        unet: denoising network; its input and output channels follow from the other settings.
        schedule: noise schedule.
        prediction: what the network predicts: "epsilon" (the paper), "x0" or "v".
        variance: "learned_range" (predicted beside it) or "posterior" (β̃, not learned).
        mask_levels: values that stand for "not this class" and "this class": (−1, 1), or (0, 1) as in the published
            code.
        lambda_vlb: λ of Eq. 10, weight of the variational bound (only with a learned variance).
        beta_ambiguity: β of Eq. 15, weight of the divergence between AMN and ACN; 0 leaves both out.
        encoder: AMN and ACN; covariance "full" is CIMD-FC (appendix E).
        acn_input: what ACN reads beside the image: the "mask" estimate (the paper) or the predicted "noise" (the
            published code).
        train_encoders: false keeps AMN and ACN at their random start, as the published code does.
        classes: number of classes K, each with a mask channel of its own; set by the labels.
    """

    image_channels: int = 1
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction: str = "epsilon"
    variance: str = "learned_range"
    mask_levels: tuple[float, float] = (-1.0, 1.0)
    lambda_vlb: float = 0.001
    beta_ambiguity: float = 0.001
    encoder: GaussianEncoderConfig = field(default_factory=GaussianEncoderConfig)
    acn_input: str = "mask"
    train_encoders: bool = True
    classes: int = 1

    def __post_init__(self) -> None:
        for name, known in (
            ("prediction", process.PREDICTIONS),
            ("variance", VARIANCES),
            ("acn_input", ACN_INPUTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"CIMDConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.mask_levels not in ((-1.0, 1.0), (0.0, 1.0)):
            raise ValueError(f"CIMDConfig.mask_levels must be (-1, 1) or (0, 1), got {self.mask_levels}.")
        if min(self.image_channels, self.classes) < 1 or self.lambda_vlb < 0 or self.beta_ambiguity < 0:
            raise ValueError(
                "CIMDConfig needs image_channels ≥ 1, classes ≥ 1, lambda_vlb ≥ 0 and beta_ambiguity ≥ 0, got "
                f"{self.image_channels}, {self.classes}, {self.lambda_vlb} and {self.beta_ambiguity}."
            )


@METHODS.register("cimd")
class CIMD(Method):
    """See the module's text; tensors are ``(B, C, H, W)``, the K noisy mask channels are the last of the input."""

    Config = CIMDConfig
    samples_by_steps = True

    def __init__(self, config: CIMDConfig) -> None:
        super().__init__(config)
        read, classes = config.image_channels + config.classes, config.classes
        predicted = 2 * classes if config.variance == "learned_range" else classes
        self.unet = UNet(replace(config.unet, in_channels=read, out_channels=predicted))
        self.schedule = config.schedule.build()
        self.amn = self.acn = None
        if config.beta_ambiguity > 0:
            encoder = replace(config.encoder, in_channels=read)
            self.amn, self.acn = GaussianEncoder(encoder), GaussianEncoder(encoder)
            for parameter in (*self.amn.parameters(), *self.acn.parameters()):
                parameter.requires_grad_(config.train_encoders)

    @property
    def image_channels(self) -> int:
        """Channels C of the images."""
        return self.config.image_channels

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.unet.config.size_multiple

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Draw 0 of ``noise`` picks the timestep, draw 1 is ε."""
        low, high = self.config.mask_levels
        x0 = low + (high - low) * batch.mask
        steps = len(self.schedule)
        index = (noise.uniform(0) * steps).long().clamp(max=steps - 1).to(x0.device)
        per_item = self.losses(batch.image, x0, index, noise.normal(1, x0.shape[1:]))
        return {name: value.mean() for name, value in per_item.items()}

    def losses(self, image: Tensor, x0: Tensor, index: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """Terms of Eq. 15 for given timesteps and noise, each ``(B,)``; ``x0`` is on the mask levels.

        ``simple`` is the squared error, ``vlb`` λ·T times one term of the bound (an unbiased estimate of λ·L_vlb),
        ``ambiguity`` β times the divergence of AMN from ACN, ``loss`` their sum.
        """
        x_t = process.q_sample(self.schedule, x0, index, epsilon)
        prediction, v = self._network(image, x_t, index)
        wanted = process.target(self.config.prediction, self.schedule, x0, index, epsilon)
        terms = {"simple": ((prediction - wanted) ** 2).flatten(1).mean(1)}
        estimate = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index)
        if v is not None and self.config.lambda_vlb > 0:
            terms["vlb"] = self.config.lambda_vlb * len(self.schedule) * self._vlb(x0, x_t, index, estimate, v)
        if self.amn is not None and self.acn is not None:
            seen = self._seen_by_acn(x_t, index, estimate)
            q, p = self.amn(torch.cat([image, x0], dim=1)), self.acn(torch.cat([image, seen], dim=1))
            terms["ambiguity"] = self.config.beta_ambiguity * divergence(q, p)  # Eq. 14, in nats
        terms["loss"] = sum(terms.values(), start=torch.zeros_like(terms["simple"]))
        return terms

    def _network(self, image: Tensor, x_t: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
        timesteps = torch.from_numpy(self.schedule.timesteps).to(index.device)[index]
        out = self.unet(torch.cat([image.to(x_t.dtype), x_t], dim=1), timesteps)
        classes = self.config.classes
        return (out[:, :classes], out[:, classes:]) if out.shape[1] == 2 * classes else (out, None)

    def _vlb(self, x0: Tensor, x_t: Tensor, index: Tensor, estimate: Tensor, v: Tensor) -> Tensor:
        """The bound trains the variance only: the mean is cut off from the gradient (Nichol & Dhariwal § 3.1)."""
        # In float32 the discretised likelihood cancels to about 4e-3; MPS has no float64.
        dtype = torch.float32 if x0.device.type == "mps" else torch.float64
        given = x0.dtype
        x0, x_t, estimate, v = (tensor.to(dtype) for tensor in (x0, x_t, estimate.detach(), v))
        mean = process.posterior_mean(self.schedule, estimate, x_t, index)
        log_variance = process.learned_range_log_variance(self.schedule, v, index)
        return losses.vlb_term(self.schedule, x0, x_t, index, mean, log_variance).to(given)

    def _seen_by_acn(self, x_t: Tensor, index: Tensor, estimate: Tensor) -> Tensor:
        if self.config.acn_input == "noise":
            return process.epsilon_from_x0(self.schedule, estimate, x_t, index)
        return estimate.clamp(*self.config.mask_levels)

    def denoise(self, image: Tensor, x_t: Tensor, index: Tensor) -> Denoised:
        """Mask estimate, clipped to ±1 as published, and the learned log-variance for the full schedule."""
        prediction, v = self._network(image, x_t, index)
        x0 = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index).clamp(-1, 1)
        return Denoised(x0, v)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the sampler and its steps; the draws of ``noise`` are the sampler's."""
        (image,) = prepared
        steps = steps_of(settings.grid, len(self.schedule), settings.steps)
        respaced = self.schedule.respaced(steps)
        chosen = torch.from_numpy(steps).to(image.device)

        def denoise(x: Tensor, index: Tensor) -> Denoised:
            x0, v = self.denoise(image, x, chosen[index])
            # The range of the learned variance is that of the steps taken, not of the steps trained.
            return Denoised(x0, None if v is None else process.learned_range_log_variance(respaced, v, index))

        x = samplers.run(settings, denoise, respaced, noise, (self.classes, *image.shape[-2:]), on_step)
        low, high = self.config.mask_levels
        return (x - low) / (high - low)
