"""Likelihoods and divergences that the variational bound of a diffusion model is made of.

Sources: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (hybrid loss). Tensors are ``(B, C, H, W)``; ``index`` is int64
``(B,)`` into the schedule's steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.process import at, posterior_mean
from AmbiguousSegLib.diffusion.schedule import Schedule

_BIN_HALF_WIDTH = 1.0 / 255.0  # 8-bit images scaled to [−1, 1]; kept for masks, as published


def gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N₁ ‖ N₂) of scalar Gaussians, elementwise, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability (nats) of ``x`` in [−1, 1] under a Gaussian integrated over bins of ±1/255, open at the ends.

    Ho et al. Eq. 13, with the published tanh approximation of the normal distribution function.
    """

    def cdf(z: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    centred, inverse = x - mean, torch.exp(-log_scale)
    upper = cdf(inverse * (centred + _BIN_HALF_WIDTH))
    lower = cdf(inverse * (centred - _BIN_HALF_WIDTH))
    tiny = 1e-12
    return torch.where(
        x < -0.999,
        torch.log(upper.clamp(min=tiny)),
        torch.where(x > 0.999, torch.log((1 - lower).clamp(min=tiny)), torch.log((upper - lower).clamp(min=tiny))),
    )


def vlb_term(schedule: Schedule, x0: Tensor, x_t: Tensor, index: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """One term of the variational bound (CIMD Eq. 6–7): ``(B,)`` in bits per pixel.

    KL of the true posterior from the model's, and at index 0 the negative log-likelihood of the mask.
    """
    true_mean = posterior_mean(schedule, x0, x_t, index)
    true_log_variance = at(schedule.posterior_log_variance_clipped, index, x_t)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance).flatten(1).mean(1)
    nll = -discretised_log_likelihood(x0, mean, 0.5 * log_variance).flatten(1).mean(1)
    return torch.where(index == 0, nll, kl) / math.log(2)
