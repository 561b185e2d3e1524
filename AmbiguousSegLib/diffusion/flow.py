"""Flows: straight paths from a start to a mask, and solvers of the differential equation that follows them.

A path is x_t = (1 − t)·x_0 + t·x_1 with t from 0, the start, to 1, the mask: the path of optimal transport in
conditional flow matching (Lipman et al. 2023, Eq. 20 to 23) with σ_min = 0. Its velocity is x_1 − x_0. The mean
velocity of all paths through a point carries the distribution of the starts into that of the masks, however starts and
masks are paired. A flow has no training steps: a solver's steps are equal, and ``steps`` of the settings are
evaluations of the velocity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from AmbiguousSegLib.diffusion.samplers import SAMPLERS, Noise, of_family
from AmbiguousSegLib.diffusion.settings import FLOW

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Called with a state ``(B, C, H, W)`` and times ``(B,)`` in [0, 1); gives dx/dt."""


@dataclass(frozen=True, eq=False)
class Flow:
    """What a solver starts from, ``(B, C, H, W)`` at t = 0, and how many evaluations it has; its length is that."""

    start: Tensor
    evaluations: int

    def __len__(self) -> int:
        return self.evaluations


def on_path(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """x_t ``(B, C, H, W)`` at times ``(B,)``."""
    t = _over(t, x0)
    return (1 - t) * x0 + t * x1


def velocity_to(x1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Velocity of the path through ``x_t`` at times ``(B,)`` below 1 that ends in ``x1``: (x_1 − x_t)/(1 − t)."""
    return (x1 - x_t) / (1 - _over(t, x_t))


def _over(t: Tensor, x: Tensor) -> Tensor:
    return t.to(x).reshape(-1, *[1] * (x.dim() - 1))


@SAMPLERS.register("euler")
@of_family(FLOW)
def euler(velocity: Velocity, flow: Flow, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """Euler's method, of first order: a step for each evaluation."""
    return _solved(velocity, flow, 0, 0.0)


@SAMPLERS.register("midpoint")
@of_family(FLOW)
def midpoint(velocity: Velocity, flow: Flow, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """The midpoint method, of second order: two evaluations a step; an odd last one is a step of Euler's."""
    return _solved(velocity, flow, len(flow) // 2, 0.5)


@SAMPLERS.register("heun")
@of_family(FLOW)
def heun(velocity: Velocity, flow: Flow, noise: Noise, shape: tuple[int, ...]) -> Tensor:
    """Heun's method, of second order: two evaluations a step, but for one or two steps of Euler's at the end.

    A full step there would ask for the velocity at t = 1, which is not defined where a mask is predicted.
    """
    return _solved(velocity, flow, (len(flow) - 1) // 2, 1.0)


def _solved(velocity: Velocity, flow: Flow, doubled: int, ahead: float) -> Tensor:
    """Equal steps, of which the first ``doubled`` are of second order: evaluated again, a share ``ahead`` further on.

    Both rules are those of Runge and Kutta with the weights 1 − 1/(2·ahead) and 1/(2·ahead).
    """
    steps, x = len(flow) - doubled, flow.start

    def at(state: Tensor, place: float) -> Tensor:
        return velocity(state, torch.full((len(state),), place / steps, device=state.device))

    for i in range(steps):
        slope = at(x, i)
        if i < doubled:
            again = at(x + ahead / steps * slope, i + ahead)
            slope = slope + (again - slope) / (2 * ahead)
        x = x + slope / steps
    return x
