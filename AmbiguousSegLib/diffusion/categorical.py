"""Diffusion over labels: its equations, and the sampler "categorical".

At each step a label is kept with probability α_t = 1 − β_t, and else drawn anew among all L (multinomial diffusion,
Hoogeboom et al. 2021, section 4). A state is one-hot, ``(B, L, H, W)``; every pixel goes its own way. A ``Schedule``
says all there is of β and of ā, its cumulative product; one that was respaced is the exact process between the steps
that are left, because steps of this kind multiply like numbers.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from AmbiguousSegLib.diffusion.process import at
from AmbiguousSegLib.diffusion.samplers import SAMPLERS, Denoiser, of_family
from AmbiguousSegLib.diffusion.schedule import Schedule
from AmbiguousSegLib.diffusion.settings import CATEGORICAL


class LabelNoise(Protocol):
    """Numbered draws of labels; ``diffusion.noise.RowNoise`` is one."""

    def uniform(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1), ``(B, *shape)``, of the draw with this number."""
        ...

    def categorical(self, draw: int, probabilities: Tensor) -> Tensor:
        """A label of probabilities ``(B, L, H, W)`` for every pixel: int64 ``(B, H, W)``."""
        ...


def one_hot(labels: Tensor, count: int) -> Tensor:
    """Labels int64 ``(B, H, W)`` as float32 ``(B, count, H, W)``."""
    return F.one_hot(labels, count).movedim(-1, 1).float()


def marginal(schedule: Schedule, x0: Tensor, index: Tensor) -> Tensor:
    """Probabilities of q(x_t | x_0), ā·x_0 + (1 − ā)/L (Hoogeboom et al. Eq. 12): like ``x0``, ``(B, L, H, W)``."""
    return _mixed(schedule.alphas_cumprod, x0, index)


def _mixed(kept: np.ndarray, x: Tensor, index: Tensor) -> Tensor:
    """Probabilities of a label that is ``x`` with probability ``kept``, and else drawn anew."""
    return at(kept, index, x) * x + at((1 - kept) / x.shape[1], index, x)


def log_posterior(schedule: Schedule, x_t: Tensor, log_x0: Tensor, index: Tensor) -> Tensor:
    """Log-probabilities of Σ_{x_0} q(x_{t−1} | x_t, x_0)·p(x_0): ``(B, L, H, W)``.

    The posterior of the process (Hoogeboom et al. Eq. 13) where ``log_x0`` is sure of one label, and the reverse step
    of a network that is not (CCDM, Eq. 8 and 9). With A_c the probability of x_t given x_{t−1} = c, and Z_d that of
    x_t given x_0 = d, it is A_c·(ā_{t−1}·p_c/Z_c + (1 − ā_{t−1})/L·Σ_d p_d/Z_d); at the first step it is p itself.

    Args:
        x_t: one-hot, float ``(B, L, H, W)``.
        log_x0: log p(x_0), like ``x_t``; −inf for a label of probability 0.
        index: int64 ``(B,)`` into the schedule: t.
    """
    before = schedule.alphas_cumprod_prev
    scaled = log_x0 - torch.log(_mixed(schedule.alphas_cumprod, x_t, index))
    kept = scaled + torch.log(at(before, index, log_x0))
    anew = scaled.logsumexp(1, keepdim=True) + torch.log(at((1 - before) / x_t.shape[1], index, log_x0))
    return torch.log(_mixed(1 - schedule.betas, x_t, index)) + torch.logaddexp(kept, anew)


def divergence(schedule: Schedule, x0: Tensor, x_t: Tensor, log_x0: Tensor, index: Tensor) -> Tensor:
    """KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)) in nats per pixel, ``(B, H, W)``; at the first step −log p(x_0).

    Args:
        x0, x_t: one-hot, float ``(B, L, H, W)``.
        log_x0: what a network says of x_0: log-probabilities, like ``x0``.
        index: int64 ``(B,)`` into the schedule: t.
    """
    true, said = (log_posterior(schedule, x_t, log_p, index) for log_p in (torch.log(x0), log_x0))
    q = true.exp()
    return (torch.xlogy(q, q) - q * said).sum(1)


@SAMPLERS.register("categorical")
@of_family(CATEGORICAL)
def categorical(
    denoise: Denoiser, schedule: Schedule, noise: LabelNoise, shape: tuple[int, ...], *, draw_last: bool = False
) -> Tensor:
    """Ancestral sampling of labels: one-hot, float32 ``(B, L, H, W)`` for ``shape`` ``(L, H, W)``.

    The denoiser's ``x0`` are the log-probabilities of x_0, its input is one-hot.

    Args:
        draw_last: at the last step draw a label, as the process has it, rather than take the most probable one, as
            the published code of CCDM does.
    """
    count = shape[0]
    start = (noise.uniform(0, shape[1:]) * count).long().clamp(max=count - 1)
    x = one_hot(start, count)
    for i in reversed(range(len(schedule))):
        index = torch.full((len(x),), i, dtype=torch.int64, device=x.device)
        log_p = log_posterior(schedule, x, denoise(x, index).x0, index)
        if i == 0 and not draw_last:
            return one_hot(log_p.argmax(1), count)
        x = one_hot(noise.categorical(len(schedule) - i, log_p.exp()), count)
    return x
