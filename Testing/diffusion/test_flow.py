"""Solvers of flows against flows whose end is known in closed form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from AmbiguousSegLib.diffusion.flow import Flow, on_path, velocity_to
from AmbiguousSegLib.diffusion.noise import RowNoise
from AmbiguousSegLib.diffusion.samplers import names_of, run
from AmbiguousSegLib.diffusion.settings import SamplerSettings

SOLVERS = ("euler", "midpoint", "heun")
NOISE = RowNoise(0, [(0, 0)])


def solved(name: str, evaluations: int, velocity, start: torch.Tensor, on_step=None) -> torch.Tensor:
    flow = Flow(start, evaluations)
    return run(SamplerSettings(name, evaluations), velocity, flow, NOISE, start.shape[1:], on_step, "flow")


def gaussian(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Marginal velocity from N(0, 1) to N(0.7, 0.4²): E[x_1 − x_0 | x_t], by the rule for joint normals."""
    t, mean, spread = t.reshape(-1, 1, 1, 1).to(x), 0.7, 0.4
    variance = (1 - t) ** 2 + (t * spread) ** 2
    return mean + (t * spread**2 - (1 - t)) / variance * (x - t * mean)


def two_points(share: float):
    """Marginal velocity from N(0, 1) to a mask that is 1 with probability ``share``, else −1."""

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        at = t.reshape(-1, 1, 1, 1).to(x)
        log_odds = math.log(share / (1 - share)) + 2 * at * x / (1 - at) ** 2
        return velocity_to(torch.tanh(log_odds / 2), x, t)

    return velocity


def test_the_solvers_are_those_of_flows():
    assert names_of("flow") == list(SOLVERS)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_the_error(name, order):
    """dx/dt = t·x² has the solution x_0/(1 − x_0·t²/2)."""
    start = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(1, 1, 3, 3)

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return t.reshape(-1, 1, 1, 1) * x**2

    errors = [float((solved(name, n, velocity, start) - start / (1 - start / 2)).abs().max()) for n in (64, 128, 256)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize(("name", "most"), [("euler", 0.02), ("midpoint", 1e-4), ("heun", 3e-3)])
def test_the_flow_of_normal_distributions_carries_quantiles_to_quantiles(name, most):
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    assert float((solved(name, 100, gaussian, start) - (0.7 + 0.4 * start)).abs().max()) < most


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_evaluations_in_time_order_and_none_at_the_end(name):
    for evaluations in range(1, 10):
        times, seen = [], []

        def velocity(x: torch.Tensor, t: torch.Tensor, times=times) -> torch.Tensor:
            times.append(float(t[0]))
            return torch.ones_like(x)

        got = solved(name, evaluations, velocity, torch.zeros(2, 1, 1, 1), lambda *step, seen=seen: seen.append(step))
        torch.testing.assert_close(got, torch.ones(2, 1, 1, 1))  # equal steps that end at t = 1
        assert seen == [(i, evaluations) for i in range(1, evaluations + 1)] and len(times) == evaluations
        assert times == sorted(times) and times[0] == 0 and times[-1] < 1
    assert solved(name, 1, gaussian, torch.zeros(1, 1, 1, 1)).item() == pytest.approx(0.7)  # all the same in one


@pytest.mark.parametrize(("name", "evaluations"), [("euler", 400), ("midpoint", 400), ("heun", 400)])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_normal_noise_becomes_two_masks_in_their_proportion(name, evaluations, share):
    """In one dimension a flow keeps the order: what starts above the quantile 1 − share ends as 1, the rest as −1."""
    start = torch.tensor(norm.ppf((np.arange(2000) + 0.5) / 2000)).reshape(1, 1, 1, -1)
    end = solved(name, evaluations, two_points(share), start).flatten()
    exact = torch.where(start.flatten() > norm.ppf(1 - share), 1.0, -1.0).double()
    assert float(((end - exact).abs() < 0.05).float().mean()) > 0.99
    assert float((end > 0).float().mean()) == pytest.approx(share, abs=0.003)


def test_path_and_velocity():
    generator = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 4, 1, 2, 2, generator=generator)
    t = torch.tensor([0.0, 0.25, 0.5, 0.9])
    torch.testing.assert_close(velocity_to(x1, on_path(x0, x1, t), t), x1 - x0, rtol=1e-4, atol=1e-5)
    later = t + 0.05
    torch.testing.assert_close(on_path(x0, x1, later), on_path(x0, x1, t) + 0.05 * (x1 - x0))
