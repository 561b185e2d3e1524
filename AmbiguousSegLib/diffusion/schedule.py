"""Noise schedules in float64, and their restriction to fewer steps.

Notation of Ho et al. 2020 and Nichol & Dhariwal 2021: q(x_t | x_0) = N(√ā_t·x_0, (1 − ā_t)·I). CIMD writes γ for ā
(Eq. 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_STEPS = 100_000  # of a schedule that is no mistake


@dataclass(frozen=True)
class ScheduleConfig:
    """Which schedule: ``kind`` "linear" or "cosine", over ``steps`` timesteps."""

    kind: str = "linear"
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "cosine"):
            raise ValueError(f"ScheduleConfig.kind must be 'linear' or 'cosine', got {self.kind!r}.")
        # Below 21 steps the scaled linear schedule would pass beta = 1.
        if self.steps < (21 if self.kind == "linear" else 1):
            raise ValueError(f"ScheduleConfig.steps must be at least 21 (cosine: 1), got {self.steps}.")
        if self.steps > MOST_STEPS:
            raise ValueError(f"ScheduleConfig.steps must be at most {MOST_STEPS:,}, got {self.steps:,}.")

    def build(self) -> Schedule:
        """The schedule of all steps."""
        betas = linear_betas(self.steps) if self.kind == "linear" else cosine_betas(self.steps)
        return Schedule(betas, np.arange(self.steps))


def linear_betas(steps: int) -> np.ndarray:
    """β from 1e-4 to 0.02 over 1000 steps, scaled by 1000/steps otherwise: float64 ``(steps,)``."""
    scale = 1000 / steps
    return np.linspace(scale * 1e-4, scale * 0.02, steps, dtype=np.float64)


def cosine_betas(steps: int) -> np.ndarray:
    """Nichol & Dhariwal 2021, Eq. 17, with β at most 0.999: float64 ``(steps,)``."""

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)])


@dataclass(frozen=True, eq=False)
class Schedule:
    """A diffusion process of T steps; every array is float64 ``(T,)``.

    Attributes:
        betas: β_t in (0, 1].
        timesteps: the integer that the network receives at each step: 0 … T−1, or a subset after respacing.
    """

    betas: np.ndarray
    timesteps: np.ndarray

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """ā_t, the product of 1 − β up to and with t."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def alphas_cumprod_prev(self) -> np.ndarray:
        """ā_{t−1}, with ā_{−1} = 1."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """β̃_t, variance of q(x_{t−1} | x_t, x_0) (CIMD Eq. 3)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_log_variance_clipped(self) -> np.ndarray:
        """log β̃_t, with the value at t = 1 used at t = 0, where β̃ is zero."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1] if len(self) > 1 else self.betas[0], variance[1:]))

    @cached_property
    def posterior_mean_coef1(self) -> np.ndarray:
        """Weight of x_0 in the mean of q(x_{t−1} | x_t, x_0) (CIMD Eq. 3)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef2(self) -> np.ndarray:
        """Weight of x_t in the mean of q(x_{t−1} | x_t, x_0) (CIMD Eq. 3)."""
        return (1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alphas_cumprod)

    def respaced(self, steps: np.ndarray) -> Schedule:
        """The same process seen at a subset of its steps only: β' = 1 − ā_t / ā_previous (Nichol & Dhariwal, § 4)."""
        steps = np.asarray(steps)
        if len(steps) == 0 or np.any(np.diff(steps) <= 0) or steps[0] < 0 or steps[-1] >= len(self):
            raise ValueError(f"Steps must be increasing and lie in [0, {len(self) - 1}], got {steps.tolist()}.")
        kept = self.alphas_cumprod[steps]
        return Schedule(1.0 - kept / np.append(1.0, kept[:-1]), self.timesteps[steps])
