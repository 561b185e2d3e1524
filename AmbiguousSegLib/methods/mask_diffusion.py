"""What systems share that run a diffusion along a schedule, and those whose diffusion is a Gaussian one over masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.diffusion import losses, process, samplers
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import Denoised, Denoiser, OnStep
from AmbiguousSegLib.diffusion.schedule import Schedule
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import steps_of
from AmbiguousSegLib.methods.base import Method
from AmbiguousSegLib.networks.unet import UNet

MASK_LEVELS = ((-1.0, 1.0), (0.0, 1.0))


class Diffusion(Method):
    """A ``Method`` whose ``Config`` has a ``schedule``, and that sets ``unet``, the denoising network."""

    samples_by_steps = True
    unet: UNet

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.schedule: Schedule = config.schedule.build()

    @property
    def size_multiple(self) -> int:
        """What the U-Net's levels ask for."""
        return self.unet.config.size_multiple

    def random_index(self, noise: RowNoise, device: torch.device) -> Tensor:
        """A timestep for each row, uniform over the schedule, from draw 0 of ``noise``: int64 ``(B,)``."""
        steps = len(self.schedule)
        return (noise.uniform(0) * steps).long().clamp(max=steps - 1).to(device)

    def timesteps_at(self, index: Tensor) -> Tensor:
        """The integers that the network is told for places ``(B,)`` in the schedule: int64 ``(B,)``."""
        return torch.from_numpy(self.schedule.timesteps).to(index.device)[index]


class MaskDiffusion(Diffusion):
    """A Gaussian one, whose ``Config`` has ``mask_levels`` too: a mask channel for each class, all at one timestep."""

    def on_levels(self, mask: Tensor) -> Tensor:
        """Masks in [0, 1] as the process knows them: float of the same shape, on ``mask_levels``."""
        low, high = self.config.mask_levels
        return low + (high - low) * mask

    def bound(self, x0: Tensor, x_t: Tensor, index: Tensor, estimate: Tensor, v: Tensor) -> Tensor:
        """One term of the variational bound, ``(B,)`` in bits per pixel, for a learned variance.

        It trains the variance only: the mean is cut off from the gradient (Nichol & Dhariwal § 3.1).

        Args:
            x0, x_t: mask on its levels and its noisy state, ``(B, K, H, W)``.
            index: int64 ``(B,)``, place in the schedule.
            estimate: of the mask, not clipped.
            v: what the network says of the variance, see ``process.learned_range_log_variance``.
        """
        # In float32 the discretised likelihood cancels to about 4e-3; MPS has no float64.
        dtype = torch.float32 if x0.device.type == "mps" else torch.float64
        given = x0.dtype
        x0, x_t, estimate, v = (tensor.to(dtype) for tensor in (x0, x_t, estimate.detach(), v))
        mean = process.posterior_mean(self.schedule, estimate, x_t, index)
        log_variance = process.learned_range_log_variance(self.schedule, v, index)
        return losses.vlb_term(self.schedule, x0, x_t, index, mean, log_variance).to(given)

    def run_sampler(
        self,
        denoise: Denoiser,
        image: Tensor,
        noise: RowNoise,
        settings: SamplerSettings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Masks ``(B, K, H, W)`` on the scale of 0 and 1, by the sampler; the draws of ``noise`` are the sampler's.

        Args:
            denoise: maps x_t and the place in the whole schedule, int64 ``(B,)``, to the mask estimate and, where the
                variance is learned, its v ``(B, K, H, W)``.
            image: ``(B, C, H, W)``: its rows, size and device are those of the masks.
        """
        steps = steps_of(settings.grid, len(self.schedule), settings.steps)
        respaced = self.schedule.respaced(steps)
        chosen = torch.from_numpy(steps).to(image.device)

        def respaced_denoise(x: Tensor, index: Tensor) -> Denoised:
            x0, v = denoise(x, chosen[index])
            # The range of the learned variance is that of the steps taken, not of the steps trained.
            return Denoised(x0, None if v is None else process.learned_range_log_variance(respaced, v, index))

        x = samplers.run(settings, respaced_denoise, respaced, noise, (self.classes, *image.shape[-2:]), on_step)
        low, high = self.config.mask_levels
        return (x - low) / (high - low)


def snr_weight(schedule: Schedule, index: Tensor, like: Tensor) -> Tensor:
    """ā_t = SNR / (1 + SNR), in [0, 1]: how much of x_t is mask, ``(B,)``.

    A loss of a mask estimate that is made of predicted noise carries its error times √(1/ā − 1), up to 157; times
    ā_t its square stays below 1.
    """
    return process.at(np.asarray(schedule.alphas_cumprod), index, like).reshape(-1)


def check_mask_diffusion(config: Any) -> None:
    """ValueError for settings that no diffusion over masks can have; ``config`` as ``MaskDiffusion`` says."""
    name = type(config).__name__
    if config.prediction not in process.PREDICTIONS:
        raise ValueError(
            f"{name}.prediction must be one of {', '.join(process.PREDICTIONS)}, got {config.prediction!r}."
        )
    if config.mask_levels not in MASK_LEVELS:
        raise ValueError(f"{name}.mask_levels must be (-1, 1) or (0, 1), got {config.mask_levels}.")
