"""Intervals against a closed form, against loops over resampled cases, and where they are known to be nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.evaluation.bootstrap import Bootstrap, correlation_of, mean_of, ratio_of, value_of
from AmbiguousSegLib.evaluation.mode_frequencies import frequency_agreement

SUBJECTS = ["b", "a", "b", "c", "d", "a", "b"]


def figures(seeds=2, cases=len(SUBJECTS), stream=0):
    values = np.random.default_rng(stream).normal(size=(seeds, cases))
    values[0, 3] = math.nan
    return values


def resampled(bootstrap, replicate, seeds, stream):
    """Indices of the cases and of the seeds that a draw consists of, each as often as it was drawn."""
    names = sorted(set(SUBJECTS))
    of_subject = {name: [i for i, subject in enumerate(SUBJECTS) if subject == name] for name in names}
    cases = []
    for name, times in zip(names, bootstrap.weights[replicate], strict=True):
        cases += of_subject[name] * int(times)
    drawn = bootstrap.seed_weights(seeds, stream)[replicate]
    return cases, [seed for seed, times in enumerate(drawn) for _ in range(int(times))]


def test_every_draw_is_that_of_a_plain_loop():
    bootstrap, values = Bootstrap(SUBJECTS, 40, 7), figures(3)
    denominator = np.abs(figures(3, stream=1)) + 1
    means, ratios = bootstrap.draws(mean_of(values), 5), bootstrap.draws(ratio_of(values, denominator), 5)
    for replicate in range(40):
        cases, seeds = resampled(bootstrap, replicate, 3, 5)
        assert len(seeds) == 3
        of_mean, of_ratio = [], []
        for seed in seeds:
            known = [case for case in cases if not math.isnan(values[seed, case])]
            if known:
                of_mean.append(sum(values[seed, c] for c in known) / len(known))
                kept = [c for c in known if not math.isnan(denominator[seed, c])]
                of_ratio.append(sum(values[seed, c] for c in kept) / sum(denominator[seed, c] for c in kept))
        assert means[replicate] == pytest.approx(np.mean(of_mean))
        assert ratios[replicate] == pytest.approx(np.mean(of_ratio))


def test_correlations_are_those_of_a_plain_loop():
    rng = np.random.default_rng(3)
    pairs = [[(rng.random(n), rng.random(n)) for n in (2, 0, 3, 2, 4, 2, 3)] for _ in range(2)]
    bootstrap = Bootstrap(SUBJECTS, 30, 2)
    draws = bootstrap.draws(correlation_of(pairs))
    for replicate in range(30):
        cases, seeds = resampled(bootstrap, replicate, 2, 0)
        each = []
        for seed in seeds:
            x, y = (np.concatenate([pairs[seed][c][side] for c in cases]) for side in (0, 1))
            each.append(np.corrcoef(x, y)[0, 1])
        assert draws[replicate] == pytest.approx(np.mean(each))
    agreement = [frequency_agreement(*zip(*seed)) for seed in pairs]
    assert value_of(correlation_of(pairs)) == pytest.approx(np.mean([a.correlation for a in agreement]))


def test_a_mean_of_many_patients_has_the_interval_of_normal_theory():
    """± 1.96 standard errors; the bootstrap's own standard deviation lacks the factor n/(n − 1)."""
    values = np.random.default_rng(0).normal(2, 3, (1, 400))
    estimate = Bootstrap([str(i) for i in range(400)]).estimate(mean_of(values))
    error = values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error)


def test_seeds_add_their_own_variance():
    """Seeds that differ by constants: var = σ²/n over patients + variance of the constants / their number."""
    shifts, cases = np.array([0.0, 1.0, 2.0, 5.0]), np.random.default_rng(1).normal(0, 4, 300)
    draws = Bootstrap([str(i) for i in range(300)]).draws(mean_of(cases[None] + shifts[:, None]))
    assert draws.var() == pytest.approx(cases.var() / 300 + shifts.var() / 4, rel=0.05)


def test_cases_of_one_patient_stay_together():
    """Two cases of each patient that are equal tell no more than one."""
    values = np.random.default_rng(2).normal(size=(1, 50))
    one = Bootstrap([str(i) for i in range(50)]).estimate(mean_of(values))
    both = Bootstrap([str(i) for i in range(50)] * 2).estimate(mean_of(np.tile(values, 2)))
    assert (both.low, both.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_what_is_constant_has_no_width():
    bootstrap = Bootstrap(SUBJECTS, 500)
    constant = bootstrap.estimate(mean_of(np.full((2, 7), 0.25)))
    assert (constant.value, constant.low, constant.high) == (0.25, 0.25, 0.25)
    sizes = figures()
    ratio = bootstrap.estimate(ratio_of(3 * sizes, sizes))
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(3), pytest.approx(3), pytest.approx(3))


def test_the_ratio_is_that_of_the_means_not_the_mean_of_the_ratios():
    assert value_of(ratio_of(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))) == 2
    assert value_of(ratio_of(np.array([[1.0, 3.0]]), np.array([[4.0, 1.0]]))) == pytest.approx(0.8)


def test_differences_are_paired_by_patient():
    """A system that is better by the same amount everywhere is better for certain, however much patients differ."""
    values, bootstrap = np.random.default_rng(4).normal(0, 10, (1, 7)), Bootstrap(SUBJECTS)
    better = bootstrap.difference(mean_of(values - 0.1), mean_of(values))
    assert (better.value, better.low, better.high) == (pytest.approx(-0.1), pytest.approx(-0.1), pytest.approx(-0.1))
    assert better.excludes_zero and not bootstrap.estimate(mean_of(values)).excludes_zero


def test_the_same_seed_gives_the_same_interval_and_another_another():
    first, again, other = (Bootstrap(SUBJECTS, 200, seed).estimate(mean_of(figures())) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_undefined_stays_so():
    nothing = Bootstrap(SUBJECTS, 50).estimate(mean_of(np.full((1, 7), math.nan)))
    assert math.isnan(nothing.value) and math.isnan(nothing.low) and not nothing.excludes_zero


def test_refusals():
    with pytest.raises(ValueError, match="one case or more"):
        Bootstrap([])
    with pytest.raises(ValueError, match="3 cases do not fit the 7"):
        Bootstrap(SUBJECTS, 10).draws(mean_of(np.zeros((1, 3))))
