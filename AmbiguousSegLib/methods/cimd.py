"""CIMD: collectively intelligent medical diffusion (Rahman et al., CVPR 2023), as its paper describes it.

A diffusion model over masks, given the image as extra input channels. Two encoders see the training only: the
ambiguity modelling network (AMN, Eq. 12) reads image and rater mask, the ambiguity controlling network (ACN, Eq. 13)
reads image and what the diffusion model predicts; the divergence between their Gaussians (Eq. 14) is the third term of
the loss (Eq. 15). The paper can be read in four ways, which are settings:

- **literal** (``acn_input="noise"``): Eq. 13 has x̂_b = f_θ(x̃_b, t), and by Eq. 9 f_θ predicts ε. So ACN sees the
  predicted noise.
- **the prose's** (``acn_input="mask"``): section 3.2 and appendix B say "predicted masks". ACN sees the mask estimate.
- **frozen** (``acn_input="noise", train_encoders=False``): the published code hands the U-Net alone to the optimiser;
  both encoders keep their random start.
- **likelihood** (``ambiguity="likelihood"``): "AMN models the distribution of ground truth masks" (section 3.2), which
  by Eq. 12–15 it does not: z occurs in no term but the divergence, for which a constant Q = P is optimal. Here AMN is
  trained by a likelihood of its own, and ACN is fitted to the Q that follows, cut off from the gradient.

With ε-prediction the mask estimate carries the network's error times √(1/ā − 1), up to 157: ``ambiguity_weight`` and
``ambiguity_t_max`` weaken or leave out the steps where it says nothing; the paper has neither. Eq. 11 and 16 print
"+ γ_t z", with γ the signal's share of Eq. 2: a misprint for σ_t of Eq. 3, which the samplers use.
Appendix B may be read as four convolutions in an encoder; the published code has three in each of four blocks, and so
have the presets of the paper's experiments.

The ablations of the paper are settings: DDPM-Prob-Seg is ``beta_ambiguity=0``; DDPM-det-Seg is that, trained on the
mean of the raters' masks (``target: mean`` in the training configuration); CIMD-FC has encoders of full covariance
(appendix E).

Several classes are a reading of ours: the process runs over one mask channel for each, all at the same timestep.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import process
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, OnStep
from AmbiguousSegLib.diffusion.schedule import ScheduleConfig
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.methods import METHODS
from AmbiguousSegLib.methods.ambiguity import MaskLikelihood, encoder_pair, stopped
from AmbiguousSegLib.methods.base import Batch, Prepared
from AmbiguousSegLib.methods.mask_diffusion import MaskDiffusion, check_mask_diffusion, snr_weight
from AmbiguousSegLib.networks.gaussian_encoder import GaussianEncoderConfig, divergence
from AmbiguousSegLib.networks.mask_decoder import MaskDecoderConfig
from AmbiguousSegLib.networks.unet import UNet, UNetConfig

VARIANCES = ("learned_range", "posterior")
ACN_INPUTS = ("mask", "noise")
AMBIGUITIES = ("divergence", "likelihood")
WEIGHTS = ("uniform", "snr")


@dataclass(frozen=True)
class CIMDConfig:
    """Settings of CIMD; numbers of the paper are in the presets.

    Attributes:
        image_channels: channels of the image.
        unet: denoising network; its input and output channels follow from the other settings.
        schedule: noise schedule.
        prediction: what the network predicts: "epsilon" (Eq. 9), "x0" or "v".
        variance: "learned_range" (predicted beside it) or "posterior" (β̃, not learned).
        mask_levels: values that stand for "not this class" and "this class": (−1, 1), or (0, 1) as in the published
            code.
        lambda_vlb: λ of Eq. 10, weight of the variational bound (only with a learned variance).
        beta_ambiguity: β of Eq. 15, weight of the divergence between AMN and ACN; 0 leaves both out.
        encoder: AMN and ACN; covariance "full" is CIMD-FC (appendix E).
        acn_input: what ACN reads beside the image: the "mask" estimate (the prose) or the predicted "noise" (Eq. 13
            with Eq. 9, and the published code).
        train_encoders: false keeps AMN and ACN at their random start, as the published code does.
        ambiguity: "divergence" (Eq. 14 trains all three networks) or "likelihood" (AMN has a mask decoder of its own,
            and the divergence trains ACN and the diffusion model alone).
        decoder: of the likelihood.
        beta_prior: weight of the divergence of Q from N(0, I) in AMN's likelihood; 1 is the evidence bound.
        ambiguity_weight: of the divergence over t: "uniform" (the paper) or "snr", ā_t = SNR/(1 + SNR): what the
            presets in ``systems/`` have wherever ACN reads a mask estimate.
        ambiguity_t_max: last timestep at which the divergence counts; None: all of them (the paper).
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
    ambiguity: str = "divergence"
    decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    beta_prior: float = 1.0
    ambiguity_weight: str = "uniform"
    ambiguity_t_max: int | None = None
    classes: int = 1

    def __post_init__(self) -> None:
        check_mask_diffusion(self)
        for name, known in (
            ("variance", VARIANCES),
            ("acn_input", ACN_INPUTS),
            ("ambiguity", AMBIGUITIES),
            ("ambiguity_weight", WEIGHTS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"CIMDConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if min(self.image_channels, self.classes) < 1 or min(self.lambda_vlb, self.beta_ambiguity, self.beta_prior) < 0:
            raise ValueError(
                "CIMDConfig needs image_channels ≥ 1, classes ≥ 1, lambda_vlb ≥ 0, beta_ambiguity ≥ 0 and beta_prior "
                f"≥ 0, got {self.image_channels}, {self.classes}, {self.lambda_vlb}, {self.beta_ambiguity} and "
                f"{self.beta_prior}."
            )
        if self.ambiguity_t_max is not None and self.ambiguity_t_max < 0:
            raise ValueError(f"CIMDConfig.ambiguity_t_max must be 0 or more, or null, got {self.ambiguity_t_max}.")
        if self.ambiguity == "likelihood" and not self.train_encoders:
            raise ValueError("CIMDConfig.ambiguity 'likelihood' trains the encoders: set train_encoders to true.")


@METHODS.register("cimd")
class CIMD(MaskDiffusion):
    """See the module's text; tensors are ``(B, C, H, W)``, the K noisy mask channels are the last of the input."""

    Config = CIMDConfig

    def __init__(self, config: CIMDConfig) -> None:
        super().__init__(config)
        read, classes = config.image_channels + config.classes, config.classes
        predicted = 2 * classes if config.variance == "learned_range" else classes
        self.unet = UNet(replace(config.unet, in_channels=read, out_channels=predicted))
        self.amn = self.acn = self.likelihood = None
        if config.beta_ambiguity > 0:
            self.amn, self.acn = encoder_pair(config.encoder, read, read)
            for parameter in (*self.amn.parameters(), *self.acn.parameters()):
                parameter.requires_grad_(config.train_encoders)
            if config.ambiguity == "likelihood":
                latent = config.encoder.latent_dim
                self.likelihood = MaskLikelihood(config.decoder, config.image_channels, latent, classes)

    def training_loss(self, batch: Batch, noise: RowNoise) -> dict[str, Tensor]:
        """Draw 0 of ``noise`` picks the timestep, draw 1 is ε, draw 2 the latent of AMN's likelihood."""
        x0 = self.on_levels(batch.mask)
        index, epsilon = self.random_index(noise, x0.device), noise.normal(1, x0.shape[1:])
        per_item = self.losses(batch.image, x0, index, epsilon)
        if self.likelihood is not None and self.amn is not None:
            latent = noise.normal(2, (self.config.encoder.draws,))
            q = self.amn(torch.cat([batch.image, x0], dim=1))
            per_item["likelihood"] = self.likelihood(batch.image, batch.mask, q, latent, self.config.beta_prior)
            per_item["loss"] = per_item["loss"] + per_item["likelihood"]
        return {name: value.mean() for name, value in per_item.items()}

    def losses(self, image: Tensor, x0: Tensor, index: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """Terms of Eq. 15 for given timesteps and noise, each ``(B,)``; ``x0`` is on the mask levels.

        ``simple`` is the squared error, ``vlb`` λ·T times one term of the bound (an unbiased estimate of λ·L_vlb),
        ``ambiguity`` β times the divergence of AMN from ACN, weighted over t, ``loss`` their sum.
        """
        x_t = process.q_sample(self.schedule, x0, index, epsilon)
        prediction, v = self._network(image, x_t, index)
        wanted = process.target(self.config.prediction, self.schedule, x0, index, epsilon)
        terms = {"simple": ((prediction - wanted) ** 2).flatten(1).mean(1)}
        estimate = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index)
        if v is not None and self.config.lambda_vlb > 0:
            terms["vlb"] = self.config.lambda_vlb * len(self.schedule) * self.bound(x0, x_t, index, estimate, v)
        if self.amn is not None and self.acn is not None:
            q, p = self.amn(torch.cat([image, x0], dim=1)), self.acn(self._seen_by_acn(image, x_t, index, estimate))
            nats = divergence(q if self.likelihood is None else stopped(q), p)  # Eq. 14, in nats
            terms["ambiguity"] = self.config.beta_ambiguity * self._over_time(index, nats) * nats
        terms["loss"] = sum(terms.values(), start=torch.zeros_like(terms["simple"]))
        return terms

    def _over_time(self, index: Tensor, like: Tensor) -> Tensor:
        """Weight of the divergence at these timesteps, ``(B,)``."""
        snr = self.config.ambiguity_weight == "snr"
        weight = snr_weight(self.schedule, index, like) if snr else torch.ones_like(like)
        last = self.config.ambiguity_t_max
        return weight if last is None else weight * (self.timesteps_at(index) <= last)

    def _network(self, image: Tensor, x_t: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.unet(torch.cat([image.to(x_t.dtype), x_t], dim=1), self.timesteps_at(index))
        classes = self.config.classes
        return (out[:, :classes], out[:, classes:]) if out.shape[1] == 2 * classes else (out, None)

    def _seen_by_acn(self, image: Tensor, x_t: Tensor, index: Tensor, estimate: Tensor) -> Tensor:
        if self.config.acn_input == "noise":
            seen = process.epsilon_from_x0(self.schedule, estimate, x_t, index)
        else:
            seen = estimate.clamp(*self.config.mask_levels)
        return torch.cat([image, seen], dim=1)

    def denoise(self, image: Tensor, x_t: Tensor, index: Tensor) -> Denoised:
        """Mask estimate, clipped to ±1 as published, and the learned v for the full schedule."""
        prediction, v = self._network(image, x_t, index)
        x0 = process.x0_from(self.config.prediction, self.schedule, prediction, x_t, index).clamp(-1, 1)
        return Denoised(x0, v)

    def sample(
        self, prepared: Prepared, noise: RowNoise, settings: SamplerSettings, on_step: OnStep | None = None
    ) -> Tensor:
        """By the sampler and its steps; the draws of ``noise`` are the sampler's."""
        (image,) = prepared
        return self.run_sampler(lambda x, index: self.denoise(image, x, index), image, noise, settings, on_step)
