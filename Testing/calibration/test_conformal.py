"""Ranks by hand, and coverage of new patients on data that are exchangeable, within exact binomial bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from AmbiguousSegLib.calibration.conformal import conformal_quantile, design_effect


def alone(*scores: float) -> list[np.ndarray]:
    return [np.array([score]) for score in scores]


def test_one_outline_a_patient_is_the_rule_of_romano_et_al():
    # ⌈(9 + 1)·0.8⌉ = 8th of 9; ⌈10·0.9⌉ = 9th; ⌈10·0.95⌉ = 10th: there is none
    scores = alone(*range(9))
    assert conformal_quantile(scores, 0.8) == 7
    assert conformal_quantile(scores, 0.9) == 8
    assert conformal_quantile(scores, 0.95) == math.inf
    assert conformal_quantile(alone(*range(19)), 0.95) == 18  # ⌈20·0.95⌉ = 19th of 19


def test_equal_outlines_of_a_patient_count_as_one():
    """Each of 19 patients three times: c is 3, and ⌈0.8·(57 + 3)⌉ = 48th of 57 is the 16th of 19, as of one each."""
    three = [np.full(3, float(k)) for k in range(19)]
    assert design_effect([own > 14 for own in three]) == pytest.approx(3)
    assert conformal_quantile(three, 0.8) == conformal_quantile(alone(*range(19)), 0.8) == 15


def test_the_design_effect_by_hand():
    # two patients of two: misses (1, 1) and (0, 0): mean 1/2, (1² + 1²) / (4·1/4) = 2; (1, 0) and (1, 0): 0, at least 1
    assert design_effect([np.array([1, 1]), np.array([0, 0])]) == 2
    assert design_effect([np.array([1, 0]), np.array([1, 0])]) == 1
    # nothing missed: Σ n²/Σ n = (1 + 9)/4
    assert design_effect([np.zeros(1, bool), np.zeros(3, bool)]) == 2.5


def test_no_outline_has_no_quantile_and_wrong_levels_and_scores_are_refused():
    assert conformal_quantile([], 0.8) == conformal_quantile([np.zeros(0)], 0.8) == math.inf
    with pytest.raises(ValueError, match="got 95"):
        conformal_quantile(alone(1.0), 95)
    with pytest.raises(ValueError, match="got nan"):
        conformal_quantile(alone(math.nan), 0.8)


def coverage(level: float, patients: int, draw, repeats: int, seed: int = 0) -> tuple[int, int]:
    """Outlines of one new patient after each calibration that are covered, of how many."""
    generator, covered, all_of_them = np.random.default_rng(seed), 0, 0
    for _ in range(repeats):
        *known, new = (draw(generator) for _ in range(patients + 1))
        covered += int(np.count_nonzero(new <= conformal_quantile(known, level)))
        all_of_them += len(new)
    return covered, all_of_them


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_independent_scores_are_covered_exactly(level):
    """39 patients with one score each: ⌈40·level⌉/40 is the level itself, and the coverage is binomial."""
    covered, of = coverage(level, 39, lambda g: g.gamma(2.0, size=1), 1500)
    assert binom.ppf(1e-4, of, level) <= covered <= binom.ppf(1 - 1e-4, of, level)


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0], ids=["independent", "alike", "equal"])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_patients_with_many_outlines_are_covered(level, shared):
    """1 to 8 outlines, of which a patient's share a part of their variance: the share covered is near the level.

    Bounds: of as many patients as there were, as if each of them were covered or not as a whole."""

    def draw(generator):
        n = int(generator.integers(1, 9))
        return math.sqrt(shared) * generator.standard_normal() + math.sqrt(1 - shared) * generator.standard_normal(n)

    repeats = 500
    covered, of = coverage(level, 60, draw, repeats)
    low, high = (binom.ppf(p, repeats, level) / repeats for p in (1e-3, 1 - 1e-3))
    assert low <= covered / of <= high + 0.01
