"""Ranges against the exact chance by integration, and Wilson's interval against its formula."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from AmbiguousSegLib.metrics.order_statistics import frequency_interval, least_draws, level_of_range


@pytest.mark.parametrize("draws", [1, 2, 3, 9, 39])
def test_one_more_lies_in_the_range_with_the_chance_of_the_integral(draws):
    """Of uniform numbers the range has the density n(n − 1)·r^(n − 2)·(1 − r), and holds one more with the chance r."""
    n = Fraction(draws)
    mean = n * (n - 1) * (1 / n - 1 / (n + 1)) if draws > 1 else Fraction(0)
    assert level_of_range(draws) == pytest.approx(float(mean), abs=1e-15)


def test_the_least_number_by_hand():
    assert [least_draws(level) for level in (0.3, 1 / 3, 0.5, 0.8, 0.9, 0.95, 0.99)] == [2, 2, 3, 9, 19, 39, 199]


@pytest.mark.parametrize("level", [0.5, 0.68, 0.8, 0.9, 0.95, 0.975])
def test_the_least_number_holds_the_level_and_one_fewer_does_not(level):
    n = least_draws(level)
    assert level_of_range(n) >= level - 1e-12 and level_of_range(n - 1) < level


def test_draws_of_a_skewed_distribution_agree():
    draws = np.random.default_rng(0).lognormal(size=(20_000, 10))
    inside = (draws[:, :9].min(1) < draws[:, 9]) & (draws[:, 9] < draws[:, :9].max(1))
    assert inside.mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 20_000))


@pytest.mark.parametrize(("count", "draws"), [(0, 8), (3, 8), (8, 8), (5, 16), (1, 1)])
def test_wilson_by_its_formula(count, draws):
    z, p = 1.959963984540054, count / draws
    middle = (p + z * z / (2 * draws)) / (1 + z * z / draws)
    half = z / (1 + z * z / draws) * math.sqrt(p * (1 - p) / draws + z * z / (4 * draws * draws))
    assert frequency_interval(count, draws) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_at_8_draws_wilson_covers_up_to_twelve_points_less():
    """Just below the lower end for a count of 1, the interval of a count of 0 alone holds p: (1 − p)⁸ = .834."""
    p = frequency_interval(1, 8)[0] - 1e-9
    held = [count for count in range(9) if frequency_interval(count, 8)[0] <= p <= frequency_interval(count, 8)[1]]
    assert held == [0] and 0.83 < (1 - p) ** 8 < 0.835


def test_what_is_no_count_or_level_is_refused():
    for wrong in (lambda: frequency_interval(3, 2), lambda: frequency_interval(0, 0), lambda: level_of_range(0)):
        with pytest.raises(ValueError, match="got"):
            wrong()
    with pytest.raises(ValueError, match=r"got 1\.0"):
        least_draws(1.0)
