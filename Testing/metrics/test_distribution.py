from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from AmbiguousSegLib.metrics import distribution


def rows(*patterns: str) -> np.ndarray:
    return np.array([[[character == "x" for character in pattern]] for pattern in patterns])


def random_case(n: int = 5, m: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.random((n, 4, 5)) < 0.4, generator.random((m, 4, 5)) < 0.6


def distance(a: np.ndarray, b: np.ndarray) -> Fraction:
    """1 − IoU as an exact fraction, counted pixel by pixel."""
    pixels = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    union = sum(p or q for p, q in pixels)
    return 1 - Fraction(sum(p and q for p, q in pixels), union) if union else Fraction(0)


def dice(a: np.ndarray, b: np.ndarray) -> Fraction:
    iou = 1 - distance(a, b)
    return 2 * iou / (1 + iou)


def mean(values) -> Fraction:
    values = list(values)
    return sum(values, Fraction(0)) / len(values)


# GED


def test_ged_by_hand():
    # samples A = {0, 1}, B = {1, 2}; raters A, C = {0}. IoU: AB 1/3, AC 1/2, BC 0.
    samples, raters = rows("xx..", ".xx."), rows("xx..", "x...")
    v, u = distribution.ged(samples, raters, "v"), distribution.ged(samples, raters, "u")
    assert v.cross == u.cross == pytest.approx((0 + 1 / 2 + 2 / 3 + 1) / 4)
    assert v.within_samples == pytest.approx((2 / 3) / 2)
    assert u.within_samples == pytest.approx(2 / 3)
    assert v.within_raters == u.within_raters == pytest.approx((1 / 2) / 2)
    assert v.value == pytest.approx(2 * 13 / 24 - 1 / 3 - 1 / 4)
    assert u.value == pytest.approx(2 * 13 / 24 - 2 / 3 - 1 / 4)
    assert (v.estimator, u.estimator) == ("v", "u")
    assert distribution.ged(samples, raters) == v


@pytest.mark.parametrize(("n", "m"), [(1, 4), (5, 3), (6, 1)])
def test_ged_agrees_with_loops(n, m):
    samples, raters = random_case(n, m)
    got = distribution.ged(samples, raters, "v")
    assert got.cross == pytest.approx(float(mean(distance(s, y) for s in samples for y in raters)), abs=1e-14)
    assert got.within_samples == pytest.approx(float(mean(distance(s, t) for s in samples for t in samples)), abs=1e-14)
    assert got.within_raters == pytest.approx(float(mean(distance(y, z) for y in raters for z in raters)), abs=1e-14)


def test_ged_of_identical_sets_is_zero():
    samples, _ = random_case()
    v = distribution.ged(samples, samples[::-1], "v")
    assert v.value == pytest.approx(0, abs=1e-14) and v.within_samples > 0.5


def test_estimators_differ_by_the_diagonal():
    samples, raters = random_case(n=5)
    v, u = distribution.ged(samples, raters, "v"), distribution.ged(samples, raters, "u")
    assert u.within_samples == pytest.approx(v.within_samples * 5 / 4, abs=1e-14)
    assert v.value - u.value == pytest.approx(u.within_samples / 5, abs=1e-14)
    assert v.within_samples > 0.1


def test_u_is_unbiased_and_v_is_not():
    # A model that draws mask 0, 1, 2 with chances 1/2, 1/4, 1/4: the expectation over all 3³ draws of n = 3 samples.
    n, population, raters = 3, rows("xxx..", ".xxx.", "....."), rows("xx...", ".....")
    chance = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    d = [[distance(a, b) for b in population] for a in population]
    spread = sum(chance[i] * chance[j] * d[i][j] for i in range(3) for j in range(3))
    cross = sum(chance[i] * mean(distance(population[i], y) for y in raters) for i in range(3))
    true_value = float(2 * cross - spread - mean(distance(y, z) for y in raters for z in raters))

    def expectation(estimator: str) -> float:
        draws = [list(draw) for draw in itertools.product(range(3), repeat=n)]
        values = [distribution.ged(population[draw], raters, estimator).value for draw in draws]
        return sum(float(math.prod(chance[i] for i in draw)) * value for draw, value in zip(draws, values))

    assert expectation("u") == pytest.approx(true_value, abs=1e-13)
    assert expectation("v") == pytest.approx(true_value + float(spread) / n, abs=1e-13)
    assert spread > Fraction(1, 3)


def test_one_sample_leaves_u_undefined():
    samples, raters = random_case(n=1)
    u, v = distribution.ged(samples, raters, "u"), distribution.ged(samples, raters, "v")
    assert math.isnan(u.value) and math.isnan(u.within_samples)
    assert v.within_samples == 0 and v.value == 2 * v.cross - v.within_raters
    assert u.cross == v.cross > 0


def test_ged_of_empty_masks():
    empty, some = rows("....", "...."), rows("xx..", "xx..")
    assert distribution.ged(empty, empty, "v").value == 0
    assert distribution.ged(some, empty, "v").value == 2  # every cross distance 1, no spread


# parts of CI


def test_combined_sensitivity_by_hand():
    # raters' union: 0 … 3; samples' union: 1, 2, 5: two of four found
    assert distribution.combined_sensitivity(rows(".x....", "..x..x"), rows("xx....", "..xx..")) == 0.5


def test_combined_sensitivity_of_empty_unions():
    empty, some = rows("....", "...."), rows("xx..", "....")
    assert distribution.combined_sensitivity(some, empty) == 1  # CIMD: an empty ground truth has sensitivity 1
    assert distribution.combined_sensitivity(empty, empty) == 1
    assert distribution.combined_sensitivity(empty, some) == 0


def test_dice_max_by_hand():
    # rater {0, 1}: best sample {1, 2} with 2·1/4; rater {}: the empty sample, 1; rater {4}: none, 0
    samples, raters = rows(".xx..", "....."), rows("xx...", ".....", "....x")
    assert distribution.dice_max(samples, raters) == pytest.approx((0.5 + 1 + 0) / 3)


def test_dice_max_is_a_mean_over_raters_of_a_maximum_over_samples():
    samples, raters = random_case(5, 3)
    expected = float(mean(max(dice(s, y) for s in samples) for y in raters))
    assert distribution.dice_max(samples, raters) == pytest.approx(expected, abs=1e-14)
    assert distribution.dice_max(raters, samples) != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("reading", ["dice", "pixel_variance"])
def test_diversity_agreement_agrees_with_loops(reading):
    samples, raters = random_case(5, 4)

    def v(a: np.ndarray, b: np.ndarray) -> float:
        if reading == "dice":
            return float(1 - dice(a, b))
        return float(np.stack([a, b]).astype(float).var(axis=0).mean())

    def extremes(masks: np.ndarray) -> tuple[float, float]:
        values = [v(a, b) for a, b in itertools.combinations(masks, 2)]
        return max(values), min(values)

    (max_s, min_s), (max_y, min_y) = extremes(samples), extremes(raters)
    expected = 1 - (abs(max_s - max_y) + abs(min_s - min_y)) / 2
    assert distribution.diversity_agreement(samples, raters, reading) == pytest.approx(expected, abs=1e-14)
    assert expected < 0.999


def test_diversity_agreement_by_hand():
    # raters {0}, {0, 1}: one pair, Dice 2/3, V 1/3 for both extremes. Samples {0}, {0}, {2}: V 0, 1, 1.
    samples, raters = rows("x...", "x...", "..x."), rows("x...", "xx..")
    assert distribution.diversity_agreement(samples, raters) == pytest.approx(1 - (2 / 3 + 1 / 3) / 2)
    # pixel variances: raters 1/16; samples 0 and 2/16
    got = distribution.diversity_agreement(samples, raters, "pixel_variance")
    assert got == pytest.approx(1 - (1 / 16 + 1 / 16) / 2)


def test_diversity_agreement_needs_a_pair_on_both_sides():
    samples, raters = random_case(4, 3)
    for reading in distribution.READINGS:
        assert math.isnan(distribution.diversity_agreement(samples[:1], raters, reading))
        assert math.isnan(distribution.diversity_agreement(samples, raters[:1], reading))
    assert distribution.diversity_agreement(samples, samples[::-1]) == 1


def test_ci_of_the_two_readings():
    assert distribution.ci_printed(0.95, 0.915, 0.60) == pytest.approx(0.635, abs=5e-4)
    assert distribution.ci_harmonic(0.95, 0.915, 0.60) == pytest.approx(0.787, abs=5e-4)
    assert distribution.ci_printed(1, 1, 1) == distribution.ci_harmonic(1, 1, 1) == 1
    assert distribution.ci_harmonic(0.3, 0.3, 0.3) == pytest.approx(0.3)
    assert distribution.ci_printed(0.3, 0.3, 0.3) == pytest.approx(0.09)


def test_ci_with_zero_and_missing_parts():
    for ci in (distribution.ci_printed, distribution.ci_harmonic):
        assert ci(0.0, 0.9, 0.9) == 0 and ci(0.0, 0.0, 0.0) == 0
        assert ci(1e-9, 0.9, 0.9) == pytest.approx(0, abs=1e-8)  # continuous at 0
        assert math.isnan(ci(0.9, 0.9, math.nan)) and math.isnan(ci(0.0, 0.9, math.nan))
        with pytest.raises(ValueError, match="percentages"):
            ci(95.0, 91.5, 60.0)
        with pytest.raises(ValueError, match="percentages"):
            ci(0.9, 0.9, -0.1)


# HM-IoU and spread


def test_hm_iou_by_hand():
    # samples {0, 1}, {}; raters {0, 1}, {0}, {}, {}: repeated twice, pairs 1, 1/2, 1, 1
    samples, raters = rows("xx..", "...."), rows("xx..", "x...", "....", "....")
    assert distribution.hm_iou(samples, raters) == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def test_hm_iou_agrees_with_all_permutations():
    samples, raters = random_case(2, 3)
    best = max(
        mean(1 - distance(samples[i % 2], raters[j % 3]) for i, j in enumerate(permutation))
        for permutation in itertools.permutations(range(6))
    )
    assert distribution.hm_iou(samples, raters) == pytest.approx(float(best), abs=1e-14)


def test_sample_spread_by_hand():
    # maps at distance √(4 · 0.25 / 4) = 0.5: two ordered pairs of 2² count
    maps = np.stack([np.full((2, 2), 0.25), np.full((2, 2), 0.75)])
    assert distribution.sample_spread(maps) == pytest.approx(2 * 0.5 / 4, abs=1e-15)
    assert distribution.sample_spread(maps[:1]) == 0
    # opposite masks: √1, the largest value (N − 1)/N
    assert distribution.sample_spread(rows("xx", "..")) == 0.5


def most_spread(n: int) -> float:
    """Bound of the spread of n masks: at most ⌊n²/4⌋ of the pairs differ in a pixel."""
    return (n - 1) / n * math.sqrt(2 * (n * n // 4) / (n * (n - 1)))


@pytest.mark.parametrize(("n", "pixels"), [(2, 3), (3, 3), (4, 3), (5, 2)])
def test_no_masks_spread_more_than_the_bound(n, pixels):
    """All sets of n masks of so few pixels, by loops over Eq. 5 to 7; DiffSeg's bound √2/2 holds for each."""
    columns = list(itertools.product((0, 1), repeat=n))
    for chosen in itertools.combinations_with_replacement(columns, pixels):  # the order of pixels means nothing
        drawn = np.array(chosen, bool).T
        d = [[math.sqrt(sum(p != q for p, q in zip(a, b)) / pixels) for b in drawn] for a in drawn]
        eq_5 = 2 / n**2 * sum(d[i][j] for i, j in itertools.combinations(range(n), 2)) - 2 / n**2 * sum(
            d[i][i] for i in range(n)
        )
        assert distribution.sample_spread(drawn) == pytest.approx(eq_5, abs=1e-12)
        assert eq_5 <= most_spread(n) + 1e-12 < math.sqrt(0.5)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 9, 10])
def test_the_bound_of_the_spread_is_reached(n):
    """By a pixel for every half of the masks, which all pairs differ in equally often."""
    halves = itertools.combinations(range(n), n // 2)
    drawn = np.array([[i in half for i in range(n)] for half in halves]).T
    assert distribution.sample_spread(drawn) == pytest.approx(most_spread(n), abs=1e-12)
    if n % 2 == 0:
        assert most_spread(n) == pytest.approx(math.sqrt((n - 1) / (2 * n)), abs=1e-12)


def test_sample_spread_agrees_with_loops(monkeypatch):
    monkeypatch.setattr(distribution, "_CHUNK_ELEMENTS", 4 * 7)  # 7 pixels at a time of 20
    maps = np.random.default_rng(1).random((4, 4, 5)).astype(np.float32)
    expected = sum(
        math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a.ravel(), b.ravel())) / 20)
        for a, b in itertools.product(maps, maps)
    )
    assert distribution.sample_spread(maps) == pytest.approx(expected / 16, abs=1e-12)
    assert distribution.sample_spread(torch.from_numpy(maps)) == distribution.sample_spread(maps)


def test_sample_spread_sees_small_differences():
    # |p|² + |q|² − 2pq would lose a difference of 1e-9 in rounding
    maps = np.full((2, 8, 8), 0.7)
    maps[1] += 1e-9
    assert distribution.sample_spread(maps) == pytest.approx(0.5e-9, rel=1e-6)


def test_sample_spread_of_masks_equals_that_of_their_values():
    samples, _ = random_case()
    expected = distribution.sample_spread(samples.astype(np.float64))
    assert distribution.sample_spread(samples) == pytest.approx(expected, abs=1e-14) and expected > 0.1


@pytest.mark.parametrize(
    "maps", [np.ones((2, 3, 3), np.int64), np.full((2, 3, 3), np.nan), np.ones(3), np.ones((0, 3, 3))]
)
def test_sample_spread_refuses(maps):
    with pytest.raises(ValueError, match="finite float"):
        distribution.sample_spread(maps)


def test_refusals():
    samples, raters = random_case()
    functions = ("ged", "combined_sensitivity", "dice_max", "diversity_agreement", "hm_iou")
    for function in (getattr(distribution, name) for name in functions):
        with pytest.raises(ValueError, match="bool"):
            function(samples.astype(np.uint8), raters)
        with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 4\)"):
            function(samples, raters[:, :, :4])
        with pytest.raises(ValueError, match="N ≥ 1"):
            function(samples, raters[:0])
    with pytest.raises(ValueError, match="estimator"):
        distribution.ged(samples, raters, "w")
    with pytest.raises(ValueError, match="reading"):
        distribution.diversity_agreement(samples, raters, "variance")
