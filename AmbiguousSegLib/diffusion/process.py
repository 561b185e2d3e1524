"""Equations of the Gaussian diffusion process, forward and reverse.

Sources: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (learned range), Salimans & Ho 2022 (v). Tensors
are ``(B, C, H, W)``; ``index`` is int64 ``(B,)`` into the schedule's steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.schedule import Schedule

PREDICTIONS = ("epsilon", "x0", "v")


def at(values: np.ndarray, index: Tensor, like: Tensor) -> Tensor:
    """``values[index]`` as a ``(B, 1, 1, 1)`` tensor of the dtype and device of ``like``."""
    # Rounded to float32 whatever follows, as the published code does: parity at the likelihood of t = 0 needs it.
    if like.device.type == "cpu":
        table = torch.from_numpy(values).float()
    else:
        table = _copied(values.tobytes(), values.dtype.str, like.device)
    return table[index.to(like.device)].to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


@lru_cache(maxsize=64)
def _copied(values: bytes, dtype: str, device: torch.device) -> Tensor:
    """A table on a device, copied once: each copy would wait for the GPU."""
    with torch.inference_mode(False):  # training may use what sampling has made
        return torch.from_numpy(np.frombuffer(values, dtype).astype(np.float32)).to(device)


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
