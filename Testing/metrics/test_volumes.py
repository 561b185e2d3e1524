from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from AmbiguousSegLib.metrics.figures import compare
from AmbiguousSegLib.metrics.volumes import crps


def integral(values: np.ndarray, observed: float) -> float:
    """CRPS by its definition, ∫ (F(x) − [x ≥ v])² dx with F the step function of the values."""
    edges = np.sort([*values, observed])
    total = 0.0
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        total += (high - low) * (np.mean(values <= middle) - (observed <= middle)) ** 2
    return total


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_integral_less_what_a_finite_ensemble_adds(n):
    generator = np.random.default_rng(n)
    values, observed = generator.normal(size=n), generator.normal(size=4)
    spread = np.abs(values[:, None] - values).sum()
    fair = np.mean([integral(values, v) for v in observed]) - spread / (2 * n * n * (n - 1))
    assert crps(values, observed) == pytest.approx(fair, abs=1e-14)


def test_by_hand_and_for_one_member():
    # |V − v| = 1, 2 and mean 1.5, half the mean |V − V'| over different ones 3/2
    assert crps(np.array([1.0, 4.0]), np.array([2.0])) == pytest.approx(0.0)
    assert crps(np.array([3.0, 3.0, 3.0]), np.array([1.0, 4.0])) == pytest.approx(1.5)
    assert math.isnan(crps(np.array([1.0]), np.array([1.0])))


def test_a_normal_distribution_has_its_closed_form():
    """(√2 − 1)/√π for the standard normal distribution and the observation 0."""
    quantiles = np.random.default_rng(0).normal(size=4000)
    assert crps(quantiles, np.zeros(1)) == pytest.approx((math.sqrt(2) - 1) / math.sqrt(math.pi), abs=0.02)


def test_its_expectation_does_not_depend_on_the_number_of_members():
    """Over all draws of n of three equally likely values; the limit is E|V − v| − ½ E|V − V'|."""
    population, observed = np.array([0.0, 1.0, 5.0]), np.array([2.0])
    spread = np.abs(population[:, None] - population).mean()
    limit = np.abs(population - 2).mean() - spread / 2
    for n in (2, 3, 4):
        draws = [crps(np.array(draw), observed) for draw in itertools.product(population, repeat=n)]
        assert np.mean(draws) == pytest.approx(limit, abs=1e-13)


def test_volumes_are_voxels_times_the_voxels_volume():
    samples, raters = np.zeros((2, 3, 4, 5), np.uint8), np.zeros((1, 3, 4, 5), np.uint8)
    samples[0, 0, 0, :2], samples[1, 0, 0], samples[1, 1, 0, :3], raters[0, 0, :2] = 1, 1, 2, 1
    found = {label: compare(samples, raters, None, 2, label, 0.5)["volume_crps_ml"] for label in (1, 2, None)}
    assert found[1] == pytest.approx(crps(np.array([1.0, 2.5]), np.array([5.0])))  # 2 and 5 voxels against 10
    assert found[2] == pytest.approx(crps(np.array([0.0, 1.5]), np.array([0.0])))
    assert found[None] == pytest.approx(crps(np.array([1.0, 4.0]), np.array([5.0])))
    assert "volume_crps_ml" not in compare(samples, raters, None, 2)
