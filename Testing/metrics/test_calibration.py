from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from AmbiguousSegLib.metrics.calibration import BINS, expected_calibration_error
from AmbiguousSegLib.metrics.figures import MaskSets, compare


def rows(*patterns: str) -> np.ndarray:
    return np.array([[[character == "x" for character in pattern]] for pattern in patterns])


def error(samples: np.ndarray, raters: np.ndarray, **more) -> float:
    return expected_calibration_error(MaskSets(samples, raters, **more))


def loops(samples: np.ndarray, raters: np.ndarray) -> Fraction:
    """Pixel by pixel, in fractions, bins by their edges: masks ``(N, H, W)``."""
    marked = np.argwhere(samples.any(0) | raters.any(0))
    (y0, x0), (y1, x1) = marked.min(0), marked.max(0) + 1
    bins: list[list[tuple[Fraction, Fraction]]] = [[] for _ in range(BINS)]
    for y in range(y0, y1):
        for x in range(x0, x1):
            p = Fraction(int(samples[:, y, x].sum()), len(samples))
            f = Fraction(int(raters[:, y, x].sum()), len(raters))
            k = next(k for k in range(BINS) if p < Fraction(k + 1, BINS) or k == BINS - 1)
            bins[k].append((p, f))
    total = sum(len(own) for own in bins)
    return sum(abs(sum(p for p, _ in own) - sum(f for _, f in own)) for own in bins) / Fraction(total)


def test_by_hand():
    # p = 1, 1/2, 0, 1/2 and f = 1/2, 1, 0, 0. Bin of 1: off by 1/2; bin of 1/2: mean f is 1/2; bin of 0: right.
    samples, raters = rows("xx..", "x..x"), rows("xx..", ".x..")
    assert error(samples, raters) == pytest.approx((1 / 2) / 4, abs=1e-15)


def test_the_empty_background_beyond_all_marks_counts_nothing():
    samples, raters = rows("xx..", "x..x"), rows("xx..", ".x..")
    wide = [np.pad(masks, ((0, 0), (5, 9), (3, 0))) for masks in (samples, raters)]
    assert error(*wide) == error(samples, raters) > 0


def test_nothing_marked_is_no_error_and_full_disagreement_is_one():
    empty, some = rows("....", "...."), rows(".xx.", ".xx.")
    assert error(empty, empty) == 0
    assert error(some, empty) == error(empty, some) == 1
    assert error(some, some) == 0


@pytest.mark.parametrize(("n", "m"), [(10, 3), (7, 4), (1, 1), (30, 2)])
def test_agrees_with_loops_in_fractions(n, m):
    """With n = 10 and 30 shares lie on the edges of bins."""
    generator = np.random.default_rng(n)
    chance = generator.random((6, 7))
    samples, raters = generator.random((n, 6, 7)) < chance, generator.random((m, 6, 7)) < chance
    assert error(samples, raters) == pytest.approx(float(loops(samples, raters)), abs=1e-14)
    assert error(samples, samples[::-1]) == pytest.approx(0, abs=1e-14)


def test_many_draws_of_one_distribution_are_calibrated_and_of_a_bolder_one_are_not():
    generator = np.random.default_rng(0)
    chance = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    raters = generator.random((400, 64, 64)) < chance
    fair, bold = (generator.random((400, 64, 64)) < c for c in (chance, chance**2))
    assert error(fair, raters) < 0.01
    # |c² − c| over c in [0, 1] has the mean 1/6; no bin holds both signs
    assert error(bold, raters) == pytest.approx(1 / 6, abs=0.01)


def test_classes_are_pooled_in_one_box():
    samples, raters = np.zeros((2, 2, 1, 6), np.uint8)
    samples[:, 0, 0:2], samples[0, 0, 4], raters[:, 0, 1], raters[1, 0, 4:6] = 1, 2, 1, 2
    # box of six pixels. Class 1: p = 1, 1, 0 … and f = 0, 1, 0 …; class 2: p = 1/2 and f = 1/2, then p = 0 and f = 1/2.
    of_one, of_two = (error(samples, raters, classes=2, label=label) for label in (1, 2))
    assert of_one == pytest.approx(1 / 2) and of_two == pytest.approx((1 / 2) / 2)  # boxes of two pixels each
    # pooled: bin of 1: |2 − 1|, bin of 1/2: 0, bin of 0: |0 − 1/2|; twelve pixels of classes
    assert error(samples, raters, classes=2) == pytest.approx((1 + 1 / 2) / 12)
    assert error(samples, raters, classes=3) == error(samples, raters, classes=2)  # nobody marks the third
    assert compare(samples, raters, classes=2)["calibration_error"] == error(samples, raters, classes=2)
