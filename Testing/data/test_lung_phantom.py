"""The phantom's raters follow the stated distribution, and its images show what the raters go by."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.stats import chi2, norm

from AmbiguousSegLib.data.lung_phantom import (
    BORDER_SD_MM,
    NOISE_HU,
    Phantom,
    phantom_case,
    phantom_classes,
    phantom_volume,
    slice_points,
    window,
)
from AmbiguousSegLib.data.lung_scene import Nodule, Scene


def nodule(a: float = 0.5, h: float = 0.5, centre=(0.0, 0.0, 0.0), radius: float = 6.0, **changes) -> Nodule:
    plain = Nodule(np.array(centre), radius, 1.6, a, h, np.eye(3), np.zeros((0, 3)))
    return replace(plain, **changes)


def phantom(*nodules: Nodule, size: int = 64, spacing: float = 1.0, classes: int = 1) -> Phantom:
    """Slice through z = 0 with these nodules, without an image."""
    points = slice_points((1, size, size), (1.0, spacing, spacing), 0)
    distances = np.stack([n.distances(points) for n in nodules]) if nodules else np.empty((0, 2, size, size))
    scene = Scene(nodules, np.zeros((0, 5)), np.zeros((0, 3, 3)), np.zeros((0, 9)), None)
    return Phantom(np.zeros((size, size), np.float32), (spacing, spacing), scene, distances, classes)


@pytest.mark.parametrize(
    ("a", "h", "expected"),
    [  # by hand from the formula
        (1.0, 0.0, [0.0, 0.9, 0.1]),
        (0.0, 1.0, [0.45, 0.055, 0.495]),
        (0.5, 0.5, [0.225, 0.3875, 0.3875]),
        (0.2, 0.75, [0.36, 0.192, 0.448]),
    ],
)
def test_mode_probabilities_by_hand(a, h, expected):
    assert nodule(a, h).mode_probabilities == pytest.approx(expected, abs=1e-12)


def test_raters_modes_and_shifts_follow_the_stated_distribution():
    draws = 20_000
    case = phantom(nodule(0.2, 0.75, (0, 0, -14)), nodule(0.9, 0.1, (0, 0, 14)))
    modes, shifts = case.draw(np.random.default_rng(0), draws)
    joint = np.einsum("i,j->ij", *case.mode_probabilities).ravel()
    counts = np.bincount(modes[:, 0] * 3 + modes[:, 1], minlength=9)  # independence of the nodules is tested too
    assert np.sum((counts - draws * joint) ** 2 / (draws * joint)) < chi2.ppf(0.999, 8)
    edges = np.array([-2, -1, -0.5, 0, 0.5, 1, 2])
    expected = np.concatenate([[norm.cdf(-2)], np.diff(norm.cdf(edges)), [norm.cdf(-2)]])
    for shift in shifts.T / BORDER_SD_MM:
        inner = np.histogram(shift[np.abs(shift) < 2], edges)[0]
        counts = np.concatenate([[np.sum(shift == -2)], inner, [np.sum(shift == 2)]])
        assert counts.sum() == draws
        assert np.sum((counts - draws * expected) ** 2 / (draws * expected)) < chi2.ppf(0.999, 7)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 4 / np.sqrt(draws)


def test_pixels_are_marked_as_often_as_the_exact_map_says():
    case, raters = phantom_case(7, 3), 4000
    assert len(case.scene.nodules) > 0
    (exact,) = case.probability_maps()
    found = case.draw_masks(np.random.default_rng(1), raters).mean(axis=0)
    error = np.abs(found - exact) / np.sqrt(np.maximum(exact * (1 - exact), 1e-3) / raters)
    assert error.max() < 5
    assert np.ptp(exact) > 0.4


def test_a_positive_shift_makes_the_mask_larger_by_that_much():
    case = phantom(nodule(1.0, 0.0, radius=8.0), size=256, spacing=0.25)
    core = case.distances[0, 0]
    for shift in (-0.8, 0.0, 0.8):
        area = np.sum(core < shift) * 0.25**2
        assert area == pytest.approx(np.pi * (8 + shift) ** 2, rel=0.005)


@pytest.mark.parametrize("height", [0.0, 3.0])
def test_core_area_of_an_ellipsoid_is_that_of_its_cut(height):
    turn = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
    case = phantom(nodule(centre=(height, 1.3, -2.1), shape=np.diag([1 / 0.9, 1 / 1.2, 1 / 0.95]) @ turn), spacing=0.5)
    for mode, ratio in ((1, 1.0), (2, 1.6)):
        cut = 1 - (height / (0.9 * 6 * ratio)) ** 2  # of y²/b² + x²/c² = 1 − z²/a²
        expected = np.pi * (1.2 * 6 * ratio) * (0.95 * 6 * ratio) * cut
        assert np.sum(case.distances[0, mode - 1] < 0) * 0.25 == pytest.approx(expected, rel=0.02)


def test_deformed_nodules_stay_within_their_reach_and_distances_are_near_metric():
    for index in range(20):
        volume = phantom_volume(index, (24, 32, 32), (2.0, 2.0, 2.0), nodules=1)
        (one,) = volume.scene.nodules
        points = np.stack([slice_points((24, 32, 32), (2.0, 2.0, 2.0), z) for z in range(24)], axis=1)
        radius = np.linalg.norm(points - one.centre_mm[:, None, None, None], axis=0)
        assert radius[volume.distances[0, 1] < 0].max() <= one.reach_mm
        rays = np.random.default_rng(index).standard_normal((3, 1, 50))
        rays = one.centre_mm[:, None, None] + rays / np.linalg.norm(rays, axis=0) * np.linspace(0, 40, 4001)[:, None]
        leaves = np.argmax(one.distances(rays)[0] > 0, axis=0)
        border, step = rays[:, leaves, np.arange(50)], 0.01 * np.eye(3)[:, :, None]
        slope = [(one.distances(border + e)[0] - one.distances(border - e)[0]) / 0.02 for e in step]
        length = np.linalg.norm(slope, axis=0)  # of a distance: 1
        assert 0.7 < length.min() and length.max() < 1.4
        assert length.mean() == pytest.approx(1.0, abs=0.1)


def test_modes_with_equal_masks_are_merged():
    beside = phantom(nodule(0.2, 0.75, (7.5, 0, 0)))  # the cut meets the halo (9.6 mm) but not the core (6 mm)
    masks, probabilities = beside.distinct_modes()
    assert probabilities == pytest.approx([0.36 + 0.192, 0.448])
    assert [m.any() for m in masks] == [False, True]
    masks, probabilities = phantom().distinct_modes()
    assert masks.shape == (1, 64, 64) and not masks.any() and probabilities.tolist() == [1.0]
    masks, probabilities = phantom(nodule(0.2, 0.75, (0, 0, -14)), nodule(0.9, 0.1, (0, 0, 14))).distinct_modes()
    assert len(masks) == 9 and probabilities.sum() == pytest.approx(1.0)
    assert probabilities[0] == pytest.approx(0.448 * (1 - 0.045) * (1 - 0.18))  # halo on the left, core on the right


def test_cases_have_the_stated_mixture_and_always_exact_probabilities():
    cases = [phantom_case(11, index) for index in range(600)]
    counts = Counter(len(case.scene.nodules) for case in cases)
    for n, share in ((0, 0.12), (1, 0.78), (2, 0.10)):
        assert abs(counts[n] - 600 * share) < 4 * np.sqrt(600 * share * (1 - share))
    single = [case for case in cases if len(case.scene.nodules) == 1]
    coreless = np.mean([case.distances[0, 0].min() >= 0 for case in single])
    assert 0.02 < coreless < 0.15
    for case in cases[:100]:
        _masks, probabilities = case.distinct_modes()
        assert probabilities.sum() == pytest.approx(1.0)
        assert case.image.dtype == np.float32 and np.isfinite(case.image).all()
        overlap = np.sum(case.distances[:, 1] < 0, axis=0)
        assert overlap.max(initial=0) <= 1


def overlapping(classes: int) -> Phantom:
    """Two nodules whose cores lie apart, each core partly in the other's halo."""
    return phantom(nodule(0.2, 0.75, (0, 0, -7)), nodule(0.9, 0.3, (0, 1, 7)), size=40, classes=classes)


def drawn_by_hand(case: Phantom, modes, shifts) -> np.ndarray:
    """Label map of one rater, pixel by pixel after the words: core before halo."""
    core = [case.distances[n, 0] < shifts[n] for n, mode in enumerate(modes) if mode > 0]
    halo = [case.distances[n, 1] < shifts[n] for n, mode in enumerate(modes) if mode == 2]
    nowhere = [np.zeros(case.image.shape, bool)]
    return np.where(np.any(nowhere + core, axis=0), 1, np.where(np.any(nowhere + halo, axis=0), 2, 0))


def test_two_classes_are_core_and_halo_of_the_same_raters():
    one, two = overlapping(1), overlapping(2)
    modes, shifts = two.draw(np.random.default_rng(3), 200)
    masks = two.draw_masks(np.random.default_rng(3), 200)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks, [drawn_by_hand(two, *choices) for choices in zip(modes, shifts, strict=True)])
    np.testing.assert_array_equal(masks > 0, one.draw_masks(np.random.default_rng(3), 200))
    (both,) = np.nonzero((modes == 2).all(axis=1))  # the halo of one nodule covers part of the other's core
    assert len(both) > 5 and (masks[both] == 1).any(axis=0)[two.distances[:, 0].min(axis=0) < -1].all()
    for make in (lambda k: phantom_case(7, 3, classes=k), lambda k: phantom_volume(7, (8, 48, 48), classes=k)):
        np.testing.assert_array_equal(make(1).image, make(2).image)
        one, two = (make(k).draw_masks(np.random.default_rng(0), 5) for k in (1, 2))
        assert set(np.unique(two)) == {0, 1, 2}
        np.testing.assert_array_equal(two > 0, one)


def test_maps_of_two_classes_are_exact():
    """At every pixel the labels of 20,000 raters divide as the maps say (χ² with Bonferroni's bound)."""
    case, raters = overlapping(2), 20_000
    maps = case.probability_maps()
    exact = np.concatenate([1 - maps.sum(axis=0, keepdims=True), maps])
    rng, counts = np.random.default_rng(1), np.zeros(exact.shape)
    for _ in range(20):
        masks = case.draw_masks(rng, raters // 20)
        counts += [(masks == label).sum(axis=0) for label in range(3)]
    assert not counts[exact < 1e-12].any()  # beyond the clipped shift
    expected = np.maximum(raters * exact, 1e-9)
    common = (expected >= 5) | (counts == 0)
    statistic = np.where(common, (counts - expected) ** 2 / expected, 0).sum(axis=0)
    assert statistic.max() < chi2.ppf(1 - 1e-3 / statistic.size, 2)
    deviation = np.abs(counts - expected) / np.sqrt(np.maximum(expected * (1 - exact), 20))
    assert deviation.max() < 5  # rare labels too
    assert np.ptp(exact, axis=(1, 2)).min() > 0.6
    np.testing.assert_allclose(maps.sum(axis=0), overlapping(1).probability_maps()[0], atol=1e-12)


def test_a_map_of_two_classes_by_hand():
    """Beside each other: P(core) and P(halo) of one nodule where both borders are far, and at the core's border."""
    case = phantom(
        nodule(0.2, 0.75, radius=8.0), size=64, spacing=1.0, classes=2
    )  # nothing 0.36, core 0.192, both 0.448
    core, halo = case.probability_maps()
    for centre, expected in (
        (case.distances[0, 0] < -1, (0.64, 0.0)),
        ((case.distances[0, 0] > 1) & (case.distances[0, 1] < -1), (0.0, 0.448)),
        (case.distances[0, 1] > 1, (0.0, 0.0)),
    ):
        assert centre.sum() > 50
        np.testing.assert_allclose(core[centre], expected[0], atol=1e-12)
        np.testing.assert_allclose(halo[centre], expected[1], atol=1e-12)
    border = np.abs(case.distances[0, 0]) < 0.4
    outside = norm.cdf(case.distances[0, 0][border] / BORDER_SD_MM)  # P(δ < distance), no clipping this near
    np.testing.assert_allclose(core[border], 0.64 * (1 - outside), atol=1e-6)
    np.testing.assert_allclose(halo[border], 0.448 * outside, atol=1e-6)


def test_distinct_modes_of_two_classes_are_those_of_the_raters():
    case, raters = overlapping(2), 20_000
    masks, probabilities = case.distinct_modes()
    assert masks.dtype == np.uint8 and len(masks) == 9  # nothing, core, both of each nodule
    assert probabilities.sum() == pytest.approx(1.0) and list(probabilities) == sorted(probabilities, reverse=True)
    by_hand = {m: drawn_by_hand(case, m, (0, 0)) for m in itertools.product(range(3), repeat=2)}
    number = {m: [np.array_equal(hand, mask) for mask in masks].index(True) for m, hand in by_hand.items()}
    modes, _ = case.draw(np.random.default_rng(5), raters)
    counts = np.bincount([number[tuple(choice)] for choice in modes.tolist()], minlength=9)
    expected = raters * probabilities
    assert np.sum((counts - expected) ** 2 / expected) < chi2.ppf(0.999, 8)
    beside = phantom(nodule(0.2, 0.75, (7.5, 0, 0)), classes=2)  # a cut through the halo alone
    masks, probabilities = beside.distinct_modes()
    assert probabilities == pytest.approx([0.36 + 0.192, 0.448]) and set(np.unique(masks[1])) == {0, 2}


def test_labels_that_the_phantom_does_not_have_are_refused():
    assert phantom_classes(["anything"]) == 1 and phantom_classes(["core", "halo"]) == 2
    for labels in (["halo", "core"], ["core", "halo", "rim"], []):
        with pytest.raises(ValueError, match="one label, or the two labels core, halo"):
            phantom_classes(labels)
    with pytest.raises(ValueError, match="one class or two, got 3"):
        phantom_case(0, 0, classes=3)


def fingerprint() -> str:
    case, volume = phantom_case(5, 17), phantom_volume(5, (4, 32, 32), (8.0, 2.0, 2.0), nodules=1)
    masks = case.draw_masks(np.random.default_rng(2), 5)
    return hashlib.sha256(case.image.tobytes() + masks.tobytes() + volume.image.tobytes()).hexdigest()


def test_a_case_is_a_pure_function_of_seed_and_index_in_any_process():
    np.random.seed(0)
    first = fingerprint()
    phantom_case(5, 16)
    assert fingerprint() == first
    code = f"import runpy; print(runpy.run_path({__file__!r})['fingerprint']())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert other.stdout.strip() == first
    assert not np.array_equal(phantom_case(5, 18).image, phantom_case(5, 17).image)
    assert not np.array_equal(phantom_case(6, 17).image, phantom_case(5, 17).image)


def test_a_volume_is_its_slices():
    size, spacing = (24, 64, 64), (2.0, 1.0, 1.0)
    volume = phantom_volume(3)
    assert volume.image.shape == size and len(volume.scene.nodules) == 3
    draws = volume.draw_masks(np.random.default_rng(4), 30)
    modes, shifts = volume.draw(np.random.default_rng(4), 30)
    for z in range(24):
        points = slice_points(size, spacing, z)
        distances = np.stack([n.distances(points) for n in volume.scene.nodules])
        np.testing.assert_array_equal(distances, volume.distances[:, :, z])
        for draw, mode, shift in zip(draws, modes, shifts, strict=True):  # one choice for the whole of a nodule
            drawn = [distances[n, mode[n] - 1] < shift[n] for n in range(3) if mode[n]]
            np.testing.assert_array_equal(draw[z], np.any([np.zeros((64, 64), bool), *drawn], axis=0))
        residual = volume.image[z] - volume.scene.hounsfield(points, distances)
        assert np.std(residual) == pytest.approx(NOISE_HU, rel=0.08)
    centres = np.array([n.centre_mm for n in volume.scene.nodules])
    reach = [n.reach_mm for n in volume.scene.nodules]
    for i in range(3):
        assert np.all(np.abs(centres[i]) + reach[i] <= np.array([24.0, 32.0, 32.0]))
        for j in range(i):
            assert np.linalg.norm(centres[i] - centres[j]) > reach[i] + reach[j]


def test_core_and_halo_look_as_their_contrast_says():
    """Mean HU well inside each region tells the contrasts to a few per cent: the truth can be read off the image."""
    seen = 0
    for index in range(200):
        case = phantom_case(21, index)
        for one, (core, halo) in zip(case.scene.nodules, case.distances, strict=True):
            deep, ring = core < -1.5, (core > 1.5) & (halo < -2.0)
            if deep.sum() >= 30 and ring.sum() >= 30:
                seen += 1
                assert case.image[deep].mean() == pytest.approx(-350 + 400 * one.core_contrast, abs=45)
                assert case.image[ring].mean() == pytest.approx(-780 + 330 * one.halo_contrast, abs=45)
                assert case.image[deep].mean() - case.image[ring].mean() > 60
    assert seen > 60


def test_noise_has_the_stated_deviation_and_blur():
    case = phantom_case(1, 0, size=(256, 256))
    points = slice_points((1, 256, 256), (1.0, 1.0, 1.0), 0)
    noise = case.image - case.scene.hounsfield(points, case.distances)
    assert noise.std() == pytest.approx(NOISE_HU, rel=0.02)
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.6**2))
    expected = kernel[1:] @ kernel[:-1] / (kernel @ kernel)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var() == pytest.approx(expected, abs=0.02)


def test_vessels_are_thinner_than_cores():
    """Opening with a 3 mm disc leaves no vessel: their width is below the smallest core's diameter."""
    for index in range(60):
        case = phantom_case(31, index)
        if case.scene.nodules or case.scene.wall is not None:
            continue
        points = slice_points((1, 64, 64), (1.0, 1.0, 1.0), 0)
        bright = case.scene.hounsfield(points, case.distances) > -500
        assert not binary_erosion(bright, np.ones((7, 7))).any()


def test_window_maps_hounsfield_units_to_the_unit_interval():
    assert window(np.array([-2000, -1000, -400, 200, 3000])) == pytest.approx([0, 0, 0.5, 1, 1])
    assert window(phantom_case(0, 0).image).dtype == np.float32


def test_a_field_too_small_is_refused():
    with pytest.raises(ValueError, match="do not fit in a field of 8 × 8 × 8 mm"):
        phantom_volume(0, (8, 8, 8), (1.0, 1.0, 1.0), nodules=1)
    with pytest.raises(ValueError, match="48 mm or more"):
        phantom_case(0, 0, (32, 64))
