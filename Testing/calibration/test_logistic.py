"""The curve: optimum by its gradient and by a general optimiser, the ends where nobody or everybody says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from AmbiguousSegLib.calibration.logistic import Logistic, fit_logistic, logit_of_share


def data(seed: int, samples: int = 16, offset: float = -0.4, slope: float = 0.6, cases: int = 300):
    generator = np.random.default_rng(seed)
    counts, asked = generator.integers(0, samples + 1, cases), generator.integers(1, 6, cases)
    chance = 1 / (1 + np.exp(-(offset + slope * logit_of_share(counts, samples))))
    return counts, generator.binomial(asked, chance), asked


def loss(point, counts, samples, said, asked) -> float:
    """Written out, term by term."""
    p = 1 / (1 + np.exp(-(point[0] + point[1] * logit_of_share(counts, samples))))
    likelihood = np.sum(said * np.log(p) + (asked - said) * np.log(1 - p))
    return -likelihood + (point[0] ** 2 + (point[1] - 1) ** 2) / 2


def test_the_logit_of_a_share_by_hand():
    assert logit_of_share([0, 8, 16], 16) == pytest.approx([math.log(0.5 / 16.5), 0, math.log(33)])
    curve = Logistic(math.log(3), 0.0)
    assert curve.frequency([0, 4, 16], 16) == pytest.approx([0.75] * 3)  # sigmoid(log 3) = 3/4
    assert Logistic().frequency([1, 3], 3) == pytest.approx([1.5 / 4, 3.5 / 4])  # changes nothing but the half


@pytest.mark.parametrize("seed", [0, 1])
def test_at_the_optimum_the_gradient_is_zero_and_no_optimiser_finds_less(seed):
    counts, said, asked = data(seed)
    found = fit_logistic(counts, 16, said, asked)
    p, x = found.frequency(counts, 16), logit_of_share(counts, 16)
    assert np.sum(asked * p - said) + found.offset == pytest.approx(0, abs=1e-8)
    assert np.sum((asked * p - said) * x) + found.slope - 1 == pytest.approx(0, abs=1e-8)
    other = minimize(
        loss, (0.0, 1.0), (counts, 16, said, asked), "Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}
    )
    assert (found.offset, found.slope) == pytest.approx(tuple(other.x), abs=1e-4)


def test_the_true_curve_is_found_from_many_cases():
    found = fit_logistic(*(lambda c, s, a: (c, 16, s, a))(*data(3, cases=20_000)))
    assert (found.offset, found.slope) == pytest.approx((-0.4, 0.6), abs=0.02)


def test_a_share_that_says_the_opposite_gives_a_flat_curve_not_a_falling_one():
    counts, said, asked = data(0, slope=-1.0)
    found = fit_logistic(counts, 16, said, asked)
    assert found.slope == 0
    # flat: the offset o solves Σ m·sigmoid(o) − Σ y + o = 0
    p = found.frequency([0], 16)[0]
    assert asked.sum() * p - said.sum() + found.offset == pytest.approx(0, abs=1e-8)
    here = loss((found.offset, 0.0), counts, 16, said, asked)
    assert here < loss((found.offset, 0.01), counts, 16, said, asked)  # it would fall further below 0 only


@pytest.mark.parametrize("everybody", [False, True])
def test_where_nobody_or_everybody_says_so_the_optimum_is_finite(everybody):
    counts, asked = np.array([0, 0, 1, 16]), np.full(4, 4)
    found = fit_logistic(counts, 16, asked * everybody, asked)
    frequencies = found.frequency(np.arange(17), 16)
    assert np.isfinite([found.offset, found.slope]).all() and np.all(np.diff(frequencies) >= 0)
    assert (frequencies[0] > 0.5) if everybody else (frequencies[0] < 0.1)


def test_without_a_case_nothing_is_changed_and_one_case_moves_it_little():
    none = np.zeros(0)
    assert fit_logistic(none, 8, none, none) == Logistic(0.0, 1.0)
    one = fit_logistic([4], 8, [1], [1])  # the share is one half: only the offset can learn, σ(o) − 1 + o = 0
    assert one.slope == 1 and 1 / (1 + math.exp(-one.offset)) - 1 + one.offset == pytest.approx(0, abs=1e-10)


def test_what_is_no_count_or_curve_is_refused():
    with pytest.raises(ValueError, match="0 ≤ y ≤ m"):
        fit_logistic([1], 8, [2], [1])
    with pytest.raises(ValueError, match="0 ≤ y ≤ m"):
        fit_logistic([1, 2], 8, [1], [1])
    for wrong in ((0.0, -0.1), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="slope of 0 or more"):
            Logistic(*wrong)
