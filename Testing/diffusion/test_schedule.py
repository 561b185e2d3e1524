"""Schedules against the published arrays, bit for bit but for logarithms, and against the equations they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from make_expected import check
from shared_data import shared_path

from AmbiguousSegLib.diffusion.schedule import ScheduleConfig, cosine_betas, linear_betas
from AmbiguousSegLib.diffusion.step_grids import both_ends, integer_stride

LINEAR, COSINE = ScheduleConfig("linear", 1000).build(), ScheduleConfig("cosine", 1000).build()
STORED = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(shared_path(f"golden/{name}.npz")) as data:
        return dict(data)


@pytest.mark.parametrize(("name", "count"), [("linear1000", 1000), ("linear1000_respaced50", 50)])
def test_golden_arrays_are_equal_bit_for_bit(name, count):
    """The published arrays went through respacing, with all steps or with 50, and carry its rounding.

    A logarithm is good to one unit in the last place, which one hangs on numpy's vector unit: two may differ by two.
    """
    expected = golden(f"schedule_{name}")
    schedule = LINEAR.respaced(both_ends(1000, count))
    for array in STORED:
        np.testing.assert_array_max_ulp(getattr(schedule, array), expected[array], 2 if "log" in array else 0)
    if "timestep_map" in expected:
        np.testing.assert_array_equal(schedule.timesteps, expected["timestep_map"])
    # what the equations of process.py take from ā on the spot
    abar = schedule.alphas_cumprod
    np.testing.assert_array_equal(np.append(abar[1:], 0.0), expected["alphas_cumprod_next"])
    np.testing.assert_array_equal(np.sqrt(abar), expected["sqrt_alphas_cumprod"])
    np.testing.assert_array_equal(np.sqrt(1 - abar), expected["sqrt_one_minus_alphas_cumprod"])
    np.testing.assert_array_max_ulp(np.log(1 - abar), expected["log_one_minus_alphas_cumprod"], 2)
    np.testing.assert_array_equal(np.sqrt(1 / abar), expected["sqrt_recip_alphas_cumprod"])
    np.testing.assert_array_equal(np.sqrt(1 / abar - 1), expected["sqrt_recipm1_alphas_cumprod"])


def test_golden_cosine_and_ddim_maps():
    expected = golden("schedule_extra")
    np.testing.assert_array_equal(COSINE.respaced(np.arange(1000)).betas, expected["cosine1000_betas"])
    np.testing.assert_array_equal(integer_stride(1000, 50), expected["ddim50_timestep_map"])
    np.testing.assert_array_equal(LINEAR.respaced(integer_stride(1000, 50)).betas, expected["ddim50_betas"])


def test_stored_arrays():
    check("diffusion/expected/schedule.npz", 0)


# Equations


def test_linear_betas_by_hand():
    betas = linear_betas(1000)
    assert betas[0] == 1e-4 and betas[-1] == 0.02
    assert betas[500] == pytest.approx(1e-4 + 0.0199 * 500 / 999, rel=1e-14)
    np.testing.assert_allclose(linear_betas(250)[[0, -1]], [4e-4, 0.08], rtol=1e-15)


@pytest.mark.parametrize("steps", [10, 1000])
def test_cosine_alphas_are_a_squared_cosine(steps):
    t = np.arange(1, steps) / steps  # the last step is where beta is cut at 0.999
    f = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    expected = f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(np.cumprod(1 - cosine_betas(steps))[:-1], expected, rtol=1e-9)
    assert cosine_betas(steps)[-1] == 0.999


@pytest.mark.parametrize("schedule", [LINEAR, COSINE, LINEAR.respaced(both_ends(1000, 10))])
def test_posterior_is_the_product_of_two_gaussians(schedule):
    """q(x_{t−1}|x_0)·q(x_t|x_{t−1}) as a function of x_{t−1}: precisions add, means are weighted by them."""
    before, beta = schedule.alphas_cumprod_prev[1:], schedule.betas[1:]
    prior, likelihood = 1 / (1 - before), (1 - beta) / beta
    variance = 1 / (prior + likelihood)
    np.testing.assert_allclose(schedule.posterior_variance[1:], variance, rtol=1e-9)
    np.testing.assert_allclose(schedule.posterior_mean_coef1[1:], variance * prior * np.sqrt(before), rtol=1e-9)
    np.testing.assert_allclose(schedule.posterior_mean_coef2[1:], variance * likelihood / np.sqrt(1 - beta), rtol=1e-9)
    # at the first step x_0 itself is what is drawn
    first = (schedule.posterior_variance[0], schedule.posterior_mean_coef1[0], schedule.posterior_mean_coef2[0])
    assert first == pytest.approx((0, 1, 0), abs=1e-12)
    log_variance = schedule.posterior_log_variance_clipped
    np.testing.assert_allclose(log_variance[1:], np.log(variance), rtol=1e-9)
    assert log_variance[0] == log_variance[1]


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
@pytest.mark.parametrize("count", [1, 2, 10, 50, 999])
def test_respacing_keeps_the_process(schedule, count):
    steps = both_ends(1000, count)
    respaced = schedule.respaced(steps)
    # 1 − β' is a ratio that a difference from 1 has rounded: absolute errors of 1e-16 a step
    np.testing.assert_allclose(respaced.alphas_cumprod, schedule.alphas_cumprod[steps], rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(respaced.timesteps, steps)


def test_respacing_twice_is_respacing_once():
    once = LINEAR.respaced(np.array([0, 20, 999]))
    twice = LINEAR.respaced(np.arange(0, 1000, 1)).respaced(np.array([0, 20, 500, 999])).respaced(np.array([0, 1, 3]))
    np.testing.assert_array_equal(twice.timesteps, once.timesteps)
    np.testing.assert_allclose(twice.betas, once.betas, rtol=1e-9)


def test_a_single_step_has_a_finite_variance():
    single = LINEAR.respaced(both_ends(1000, 1))
    assert single.posterior_log_variance_clipped == pytest.approx(np.log(1 - LINEAR.alphas_cumprod[-1:]))


def test_errors():
    for steps in ([], [3, 3], [5, 2], [-1, 4], [0, 1000]):
        with pytest.raises(ValueError, match=r"lie in \[0, 999\]"):
            LINEAR.respaced(np.array(steps, int))
    with pytest.raises(ValueError, match=r"kind must be.*'sigmoid'"):
        ScheduleConfig("sigmoid")
    for kind, steps in (("linear", 20), ("cosine", 0)):
        with pytest.raises(ValueError, match=f"steps must be at least 21.*got {steps}"):
            ScheduleConfig(kind, steps)
    assert ScheduleConfig("linear", 21).build().betas.max() < 1
