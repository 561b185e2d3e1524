"""Samplers: from pure noise to x_0 along a schedule, given a denoiser; here those of a Gaussian diffusion.

Every sampler is a pure function of the denoiser, the schedule (already restricted to the wanted steps) and the noise.
A denoiser maps ``(x_t, index)`` to ``Denoised``; it never sees the sampler. What a sampler can sample is its family:
that of a Gaussian diffusion, unless ``of_family`` says another; a method says of which family its samplers are.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sized
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.process import at, epsilon_from_x0, posterior_mean
from AmbiguousSegLib.diffusion.schedule import Schedule
from AmbiguousSegLib.diffusion.settings import FAMILIES, GAUSSIAN, SamplerSettings
from AmbiguousSegLib.diffusion.step_grids import STEP_GRIDS
from AmbiguousSegLib.registry import Registry


class Denoised(NamedTuple):
    """Estimate of x_0 ``(B, C, H, W)`` and, from networks that learn it, the log-variance of the reverse step."""

    x0: Tensor
    log_variance: Tensor | None = None


class Noise(Protocol):
    """Numbered draws of standard normal numbers; ``diffusion.noise.RowNoise`` is one."""

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers ``(B, *shape)`` of the draw with this number."""
        ...


Denoiser = Callable[[Tensor, Tensor], Denoised]
OnStep = Callable[[int, int], None]


class Sampler(Protocol):
    """Samples ``(B, *shape)``, evaluating once at every step of the schedule; keyword arguments are its own options.

    What it is handed as denoiser and schedule is what its family has: a ``Denoiser`` and a ``Schedule`` where the
    family is that of a diffusion; see ``diffusion.flow`` for flows.
    """

    def __call__(self, denoise: Any, schedule: Any, noise: Any, shape: tuple[int, ...], **options: Any) -> Tensor:
        """As the class says; draw 0 of the noise is the start, draw k the noise of step k."""
        ...


SAMPLERS: Registry[Sampler] = Registry("sampler", room="AmbiguousSegLib.diffusion")
_Sampler = TypeVar("_Sampler", bound=Callable[..., Tensor])


def of_family(family: str) -> Callable[[_Sampler], _Sampler]:
    """Decorator that says what a sampler can sample: one of ``settings.FAMILIES``.

    Raises:
        ValueError: there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"The family of a sampler must be one of {', '.join(FAMILIES)}, got {family!r}.")

    def marked(sampler: _Sampler) -> _Sampler:
        sampler.family = family  # type: ignore[attr-defined]
        return sampler

    return marked


def family_of(name: str) -> str:
    """Family of a sampler. ValueError for an unknown sampler."""
    return getattr(SAMPLERS[name], "family", GAUSSIAN)


def names_of(family: str) -> list[str]:
    """Samplers of a family; the first is what a method of this family is sampled with where nothing else is said."""
    return [name for name in SAMPLERS if family_of(name) == family]


def options_of(name: str) -> dict[str, Any]:
    """Options of a sampler with their defaults: its keyword arguments. ValueError for an unknown sampler."""
    parameters = inspect.signature(SAMPLERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check(settings: SamplerSettings, family: str | None = None) -> None:
    """ValueError for an unknown sampler, step grid or option, or an option that is no number where one is needed.

    Also for a sampler that is not of the ``family``, where one is asked for.
    """
    known = options_of(settings.name)
    if family not in (None, family_of(settings.name)):
        raise ValueError(
            f"The sampler {settings.name} is of the family {family_of(settings.name)}, but the method needs one of the "
            f"family {family}; choose {' or '.join(names_of(str(family)))}."
        )
    for option, value in settings.options.items():
        if option not in known:
            raise ValueError(
                f"The sampler {settings.name} has no option {option!r}; its options: {', '.join(known) or 'none'}."
            )
        if isinstance(known[option], (int, float)) and not _alike(value, known[option]):
            expected = "true or false" if isinstance(known[option], bool) else "a finite number"
            raise ValueError(f"The option {option} of the sampler {settings.name} must be {expected}, got {value!r}.")
    STEP_GRIDS[settings.grid]


def _alike(value: Any, default: float) -> bool:
    """Whether a value can stand in for a default that is a number, or true or false."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, (int, float)) and -math.inf < value < math.inf


def run(
    settings: SamplerSettings,
    denoise: Callable[[Tensor, Tensor], Any],
    schedule: Sized,
    noise: Noise,
    shape: tuple[int, ...],
    on_step: OnStep | None = None,
    family: str = GAUSSIAN,
) -> Tensor:
    """Samples ``(B, *shape)`` by the sampler named in ``settings``, at every step of ``schedule``.

    The types of ``denoise`` and ``schedule`` are those of the ``family``, see ``Sampler``.

    ``on_step(step, total)`` is called after each evaluation of the denoiser, from 1 to total; it may raise to cancel.
    """

    steps = itertools.count(1)  # counted here: reading the index would wait for the GPU

    def observed(x: Tensor, index: Tensor) -> Any:
        out = denoise(x, index)
        if on_step is not None:
            on_step(next(steps), len(schedule))
        return out

    check(settings, family)
    return SAMPLERS[settings.name](observed, schedule, noise, shape, **settings.options)


@SAMPLERS.register("ddpm")
def ddpm(denoise: Denoiser, schedule: Schedule, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2; CIMD Eq. 16), with β̃ or the learned variance."""
    x = noise.normal(0, shape)
    for i in reversed(range(len(schedule))):
        index = _index(x, i)
        out = denoise(x, index)
        if i == 0:
            return posterior_mean(schedule, out.x0, x, index)
        log_variance = out.log_variance
        if log_variance is None:
            log_variance = at(schedule.posterior_log_variance_clipped, index, x)
        z = noise.normal(len(schedule) - i, shape)
        x = posterior_mean(schedule, out.x0, x, index) + torch.exp(0.5 * log_variance) * z
    return x


@SAMPLERS.register("ddim")
def ddim(
    denoise: Denoiser,
    schedule: Schedule,
    noise: Noise,
    shape: tuple[int, ...],
    *,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, Eq. 12 and 16); ``eta`` 0 is deterministic after the first noise, 1 as noisy as DDPM."""
    if not 0 <= eta <= 1:
        raise ValueError(f"DDIM's eta must lie in [0, 1], got {eta}.")
    abar, previous = schedule.alphas_cumprod, schedule.alphas_cumprod_prev
    x = noise.normal(0, shape)
    for i in reversed(range(len(schedule))):
        x0 = denoise(x, _index(x, i)).x0
        epsilon = epsilon_from_x0(schedule, x0, x, _index(x, i))
        sigma = eta * math.sqrt((1 - previous[i]) / (1 - abar[i]) * (1 - abar[i] / previous[i]))
        x = math.sqrt(previous[i]) * x0 + math.sqrt(1 - previous[i] - sigma**2) * epsilon
        if sigma > 0 and i > 0:
            x = x + sigma * noise.normal(len(schedule) - i, shape)
    return x


@SAMPLERS.register("dpm++2m")
def dpm_solver_pp_2m(denoise: Denoiser, schedule: Schedule, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """DPM-Solver++(2M), deterministic (Lu et al. 2022, algorithm 2); the last two steps are of first order."""
    return _dpm_solver_pp_2m(denoise, schedule, noise, shape, stochastic=False)


@SAMPLERS.register("dpm++2m-sde")
def dpm_solver_pp_2m_sde(denoise: Denoiser, schedule: Schedule, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """SDE-DPM-Solver++(2M), with fresh noise at each step (Lu et al. 2022, Eq. 18 and appendix)."""
    return _dpm_solver_pp_2m(denoise, schedule, noise, shape, stochastic=True)


def _dpm_solver_pp_2m(
    denoise: Denoiser,
    schedule: Schedule,
    noise: Noise,
    shape: tuple[int, ...],
    stochastic: bool,
) -> Tensor:
    alpha, sigma = np.sqrt(schedule.alphas_cumprod), np.sqrt(1 - schedule.alphas_cumprod)
    lam = np.log(alpha / sigma)  # half the log signal-to-noise ratio
    x = noise.normal(0, shape)
    last_x0, last_h = None, 0.0
    for i in reversed(range(len(schedule))):
        x0 = denoise(x, _index(x, i)).x0
        if i == 0:
            return x0  # to zero noise: the estimate itself
        h = float(lam[i - 1] - lam[i])
        # The last two steps are of first order: where the grid holds t = 0, the one into it is by far the longest in
        # log signal-to-noise, and the second-order rule would extrapolate over it and overstate the spread.
        estimate = x0 if last_x0 is None or i == 1 else x0 + (x0 - last_x0) * (h / (2 * last_h))
        decay = math.exp(-2 * h) if stochastic else math.exp(-h)
        carried = sigma[i - 1] / sigma[i] * (math.exp(-h) if stochastic else 1.0)
        x = float(carried) * x + float(alpha[i - 1]) * (1 - decay) * estimate
        if stochastic:
            x = x + float(sigma[i - 1]) * math.sqrt(1 - decay) * noise.normal(len(schedule) - i, shape)
        last_x0, last_h = x0, h
    return x


def _index(x: Tensor, i: int) -> Tensor:
    return torch.full((len(x),), i, dtype=torch.int64, device=x.device)
