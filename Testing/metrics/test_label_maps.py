"""Figures of several classes against loops over pairs and classes, and against those of one class."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from AmbiguousSegLib.metrics import overlap
from AmbiguousSegLib.metrics.figures import MaskSets, compare
from AmbiguousSegLib.metrics.surface import surface_metrics

CLASSES, SPACING = 3, (0.5, 2.0)


def label_maps(n: int, seed: int) -> np.ndarray:
    """Of 8 × 9 pixels, with classes that some masks lack; the last mask is empty."""
    generator = np.random.default_rng(seed)
    masks = generator.integers(0, CLASSES + 1, (n, 8, 9)).astype(np.uint8)
    for mask in masks:
        mask[np.isin(mask, generator.permutation(CLASSES)[: generator.integers(3)] + 1)] = 0
    masks[-1] = 0
    return masks


SAMPLES, RATERS = label_maps(4, 1), label_maps(3, 2)


def iou_of_class(a: np.ndarray, b: np.ndarray, label: int) -> Fraction:
    one, other = set(np.flatnonzero(a == label)), set(np.flatnonzero(b == label))
    return Fraction(len(one & other), len(one | other))


def present(a: np.ndarray, b: np.ndarray) -> list[int]:
    return [label for label in range(1, CLASSES + 1) if (a == label).any() or (b == label).any()]


def iou(a: np.ndarray, b: np.ndarray) -> Fraction:
    found = [iou_of_class(a, b, label) for label in present(a, b)]
    return sum(found) / Fraction(len(found)) if found else Fraction(1)


def dice(a: np.ndarray, b: np.ndarray) -> Fraction:
    found = [2 * i / (1 + i) for i in (iou_of_class(a, b, label) for label in present(a, b))]
    return sum(found) / Fraction(len(found)) if found else Fraction(1)


def mean(values) -> float:
    values = list(values)
    return float(sum(values) / Fraction(len(values)))


def loops(samples: np.ndarray, raters: np.ndarray) -> dict[str, float]:
    n, m = len(samples), len(raters)
    cross = mean(1 - iou(s, y) for s in samples for y in raters)
    among = {
        n_pairs: float(sum(1 - iou(a, b) for a in samples for b in samples)) / n_pairs
        for n_pairs in (n * n, n * (n - 1))
    }
    raters_d = mean(1 - iou(a, b) for a in raters for b in raters)
    total = math.lcm(n, m)
    best = 0.0
    if total <= 6:
        pairs = [[float(iou(samples[i % n], raters[j % m])) for j in range(total)] for i in range(total)]
        best = max(np.mean([pairs[i][j] for i, j in enumerate(p)]) for p in itertools.permutations(range(total)))
    s_c = []
    for label in range(1, CLASSES + 1):
        found, known = (samples == label).any(0), (raters == label).any(0)
        if known.any():
            s_c.append((found & known).sum() / known.sum())
    extremes = []
    for masks in (samples, raters):
        values = [float(1 - dice(a, b)) for a, b in itertools.combinations(masks, 2)]
        extremes.append((max(values), min(values)))
    d_a = 1 - sum(abs(a - b) for a, b in zip(*extremes)) / 2
    parts = float(np.mean(s_c)) if s_c else 1.0, mean(max(dice(s, y) for s in samples) for y in raters), d_a
    differ = [math.sqrt((a != b).mean()) for a in samples for b in samples]
    return {
        "ged_v": 2 * cross - among[n * n] - raters_d,
        "ged_u": 2 * cross - among[n * (n - 1)] - raters_d,
        "distance_cross": cross,
        "distance_samples_v": among[n * n],
        "distance_samples_u": among[n * (n - 1)],
        "distance_raters": raters_d,
        "combined_sensitivity": parts[0],
        "dice_max": parts[1],
        "diversity_agreement": parts[2],
        "ci_harmonic": 3 / sum(1 / p for p in parts),
        "ci_printed": 3 * math.prod(parts) / sum(parts),
        "mean_dice": mean(dice(s, y) for s in samples for y in raters),
        "sample_spread": float(np.mean(differ)),
    } | ({"hm_iou": best} if total <= 6 else {})


@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 2), (2, 3)])
def test_all_classes_agree_with_loops(n, m):
    samples, raters = SAMPLES[-n:], RATERS[:m]
    got, expected = compare(samples, raters, classes=CLASSES), loops(samples, raters)
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=1e-13)
    assert 0.1 < expected["distance_cross"] < 1 and ("hm_iou" in expected) == (n < 4)


def test_distances_between_borders_agree_with_loops():
    pairs = []
    for s, y in itertools.product(SAMPLES, RATERS):
        of_classes = [surface_metrics(s == k, y == k, SPACING) for k in present(s, y)]
        pairs.append(np.mean([[c.hd95_mm, c.assd_mm] for c in of_classes], axis=0) if of_classes else np.zeros(2))
    sets = MaskSets(SAMPLES, RATERS, CLASSES, spacing_mm=SPACING)
    found = np.stack([values.ravel() for values in sets.surface()], axis=1)
    np.testing.assert_allclose(found, pairs, atol=1e-12)
    undefined = np.isnan(found).any(axis=1)
    # undefined where a class is in one of the two only; 0 where both are empty, the last of each
    assert undefined.tolist() == [
        any((s == k).any() != (y == k).any() for k in range(1, CLASSES + 1))
        for s, y in itertools.product(SAMPLES, RATERS)
    ]
    assert 0 < undefined.sum() < len(pairs) and found[-1].tolist() == [0, 0]
    got = compare(SAMPLES, RATERS, SPACING, CLASSES)
    assert (got["hd95_mm"], got["assd_mm"]) == pytest.approx(tuple(np.nanmean(pairs, axis=0)))


def test_by_hand():
    """A sample of core in halo, raters: the same; the core alone; nothing. Pixels in a row of eight."""
    both, core, nothing = np.zeros((3, 1, 8), np.uint8)
    both[0, 1:7], both[0, 3:5], core[0, 3:5] = 2, 1, 1
    got = compare(both[None], np.stack([both, core, nothing]), classes=2)
    # IoU: 1; (1 + 0)/2, as the halo is in one only; (0 + 0)/2
    assert got["distance_cross"] == pytest.approx((0 + 1 / 2 + 1) / 3)
    # among raters: both and core 1/2, both and nothing 1, core and nothing 1 (one class present); diagonal 0
    assert got["distance_raters"] == pytest.approx(2 * (1 / 2 + 1 + 1) / 9)
    assert got["hm_iou"] == got["mean_dice"] == got["dice_max"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert got["combined_sensitivity"] == 1 and got["distance_samples_v"] == got["sample_spread"] == 0
    halo = compare(both[None], np.stack([both, core, nothing]), classes=2, label=2)
    assert halo["distance_cross"] == pytest.approx((0 + 1 + 1) / 3)
    nobody = compare(nothing[None], nothing[None], classes=2)
    assert (nobody["ged_v"], nobody["mean_dice"], nobody["combined_sensitivity"]) == (0, 1, 1)


@pytest.mark.parametrize("label", range(1, CLASSES + 1))
def test_a_class_has_the_figures_of_its_mask_alone(label):
    of_class = compare(SAMPLES, RATERS, SPACING, CLASSES, label, 0.1)
    alone = compare(SAMPLES == label, RATERS == label, SPACING, voxel_volume_ml=0.1)
    np.testing.assert_equal(of_class, alone)  # nan is nan


def test_one_class_among_several_is_one_class():
    """K = 1 by every way that leads there gives the same numbers to the last bit."""
    samples, raters = SAMPLES == 1, RATERS == 1
    alone = compare(samples, raters, SPACING, voxel_volume_ml=0.1)
    for masks in ((samples, raters), (samples.view(np.uint8), raters.view(np.uint8))):
        for label in (None, 1):
            np.testing.assert_equal(compare(*masks, SPACING, 1, label, 0.1), alone)
    absent = compare(samples.view(np.uint8), raters.view(np.uint8), SPACING, 3, None, 0.1)  # 2 and 3 are in no mask
    np.testing.assert_equal(absent, alone)


def test_the_names_of_the_classes_change_nothing_for_all():
    renamed = np.array([0, 3, 1, 2], np.uint8)
    first = compare(SAMPLES, RATERS, SPACING, CLASSES, voxel_volume_ml=1)
    second = compare(renamed[SAMPLES], renamed[RATERS], SPACING, CLASSES, voxel_volume_ml=1)
    assert first == pytest.approx(second, abs=1e-13, nan_ok=True)


def test_a_region_of_several_classes_is_a_class_of_its_own():
    samples, raters = (np.isin(masks, (1, 2)) for masks in (SAMPLES, RATERS))
    assert compare(samples, raters)["mean_dice"] == pytest.approx(
        np.mean([float(overlap.dice(s, y)) for s in samples for y in raters])
    )


def test_pairs_of_label_maps():
    got = overlap.pairwise_label_iou(SAMPLES, RATERS, CLASSES)
    expected = [[float(iou(s, y)) for y in RATERS] for s in SAMPLES]
    np.testing.assert_allclose(got, expected, atol=1e-15)
    one = overlap.pairwise_label_iou(SAMPLES == 2, RATERS == 2, 1)
    np.testing.assert_array_equal(one, overlap.pairwise_iou(SAMPLES == 2, RATERS == 2))
    for masks, message in (
        (SAMPLES, "label 3, but there are 2"),
        (SAMPLES.astype(int), "got int64"),
        (SAMPLES[:0], "N ≥"),
    ):
        with pytest.raises(ValueError, match=message):
            overlap.pairwise_label_iou(masks, RATERS, 2)


def test_views_of_one_class_copy_nothing():
    masks = (SAMPLES == 1).view(np.uint8)
    sets = MaskSets(masks, masks)
    assert all(np.shares_memory(view, masks) for view in (*sets.masks(1), *sets.marked()))
