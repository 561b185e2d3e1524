"""Equations of the Gaussian diffusion process and its training objective.

Sources: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (learned range, hybrid loss), Salimans & Ho 2022 (v). Tensors
are ``(B, C, H, W)``; ``index`` is int64 ``(B,)`` into the schedule's steps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.schedule import Schedule

PREDICTIONS = ("epsilon", "x0", "v")
_BIN_HALF_WIDTH = 1.0 / 255.0  # 8-bit images scaled to [−1, 1]; kept for masks, as published


def at(values: np.ndarray, index: Tensor, like: Tensor) -> Tensor:
    """``values[index]`` as a ``(B, 1, 1, 1)`` tensor of the dtype and device of ``like``."""
    # Rounded to float32 whatever follows, as the published code does: parity at the likelihood of t = 0 needs it.
    table = torch.from_numpy(values).float().to(like.device)
    return table[index.to(like.device)].to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def q_sample(schedule: Schedule, x0: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    """x_t = √ā·x_0 + √(1 − ā)·ε (CIMD Eq. 4)."""
    signal, sigma = at(np.sqrt(schedule.alphas_cumprod), index, x0), at(np.sqrt(1 - schedule.alphas_cumprod), index, x0)
    return signal * x0 + sigma * noise


def target(prediction: str, schedule: Schedule, x0: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    """What the network is asked for: ε, x_0, or v = √ā·ε − √(1 − ā)·x_0 (Salimans & Ho, appendix D)."""
    if prediction == "epsilon":
        return noise
    if prediction == "x0":
        return x0
    signal, sigma = at(np.sqrt(schedule.alphas_cumprod), index, x0), at(np.sqrt(1 - schedule.alphas_cumprod), index, x0)
    return signal * noise - sigma * x0


def x0_from(prediction: str, schedule: Schedule, output: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """The mask estimate that a network output stands for, not clipped."""
    if prediction == "x0":
        return output
    abar = schedule.alphas_cumprod
    if prediction == "epsilon":
        return at(np.sqrt(1 / abar), index, x_t) * x_t - at(np.sqrt(1 / abar - 1), index, x_t) * output
    return at(np.sqrt(abar), index, x_t) * x_t - at(np.sqrt(1 - abar), index, x_t) * output


def epsilon_from_x0(schedule: Schedule, x0: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """The noise that ties ``x_t`` to ``x0``; inverse of ``q_sample``."""
    abar = schedule.alphas_cumprod
    return (at(np.sqrt(1 / abar), index, x_t) * x_t - x0) / at(np.sqrt(1 / abar - 1), index, x_t)


def posterior_mean(schedule: Schedule, x0: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
    """Mean of q(x_{t−1} | x_t, x_0) (CIMD Eq. 3)."""
    c1, c2 = schedule.posterior_mean_coef1, schedule.posterior_mean_coef2
    return at(c1, index, x_t) * x0 + at(c2, index, x_t) * x_t


def learned_range_log_variance(schedule: Schedule, v: Tensor, index: Tensor) -> Tensor:
    """log σ² = f·log β + (1 − f)·log β̃ with f = (v + 1)/2, not clamped (Nichol & Dhariwal Eq. 15)."""
    fraction = (v + 1) / 2
    upper, lower = at(np.log(schedule.betas), index, v), at(schedule.posterior_log_variance_clipped, index, v)
    return fraction * upper + (1 - fraction) * lower


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


def vlb_term(
    schedule: Schedule, x0: Tensor, x_t: Tensor, index: Tensor, mean: Tensor, log_variance: Tensor
) -> Tensor:
    """One term of the variational bound (CIMD Eq. 6–7): ``(B,)`` in bits per pixel.

    KL of the true posterior from the model's, and at index 0 the negative log-likelihood of the mask.
    """
    true_mean = posterior_mean(schedule, x0, x_t, index)
    true_log_variance = at(schedule.posterior_log_variance_clipped, index, x_t)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance).flatten(1).mean(1)
    nll = -discretised_log_likelihood(x0, mean, 0.5 * log_variance).flatten(1).mean(1)
    return torch.where(index == 0, nll, kl) / math.log(2)
