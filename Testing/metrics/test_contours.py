from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import find_contours

from AmbiguousSegLib.metrics.contours import contour_lengths, roughness
from AmbiguousSegLib.metrics.figures import compare

ROUND = 4 * math.pi


def rectangle(height: int, width: int, margin: int = 2) -> np.ndarray:
    return np.pad(np.ones((height, width), bool), margin)


def of_rectangle(height: int, width: int, y: float, x: float) -> tuple[float, float]:
    """Perimeter and area of the polygon: the rectangle of the pixels less half a pixel's triangle at each corner."""
    perimeter = 2 * (height - 1) * y + 2 * (width - 1) * x + 4 * math.hypot(y / 2, x / 2)
    return perimeter, height * width * y * x - 4 * (y / 2) * (x / 2) / 2


def disc(radius_mm: float, y: float, x: float) -> np.ndarray:
    rows, columns = (np.arange(-math.ceil(radius_mm / s) - 1, math.ceil(radius_mm / s) + 2) * s for s in (y, x))
    return np.hypot(rows[:, None], columns) < radius_mm


@pytest.mark.parametrize(("height", "width", "y", "x"), [(6, 6, 1, 1), (4, 9, 0.5, 2), (20, 5, 1.7, 0.3)])
@pytest.mark.parametrize("margin", [0, 3])
def test_rectangles_have_their_closed_form(height, width, y, x, margin):
    """At the border of the image too: beyond it there is nothing."""
    perimeter, area = of_rectangle(height, width, y, x)
    found = contour_lengths(rectangle(height, width, margin), (y, x))
    assert found == pytest.approx((perimeter, area), rel=1e-12)
    assert roughness(rectangle(height, width, margin), (y, x)) == pytest.approx(perimeter**2 / (ROUND * area))


def test_a_hole_adds_its_contour_and_takes_its_area():
    ring = rectangle(9, 12)
    ring[5:8, 6:10] = False
    (outer, whole), (inner, hole) = of_rectangle(9, 12, 0.5, 2), of_rectangle(3, 4, 0.5, 2)
    assert contour_lengths(ring, (0.5, 2)) == pytest.approx((outer + inner, whole - hole), rel=1e-12)


def test_a_disc_in_the_plane_has_the_value_of_steps_of_45_degrees():
    value = (8 * (math.sqrt(2) - 1) / math.pi) ** 2
    assert value == pytest.approx(1.113, abs=5e-4)
    assert roughness(disc(300, 1, 1), (1, 1)) == pytest.approx(value, rel=2e-3)
    assert 1 < roughness(disc(8, 1, 1), (1, 1)) < 1.2  # small ones are near it


@pytest.mark.parametrize(("y", "x"), [(1.0, 2.5), (0.8, 0.3)])
def test_a_disc_in_anisotropic_pixels(y, x):
    """A piece of border of (a, b) pixels takes min(a, b) diagonals, the rest along rows or columns."""
    angle = (np.arange(200_000) + 0.5) * 2 * math.pi / 200_000
    b, a = np.abs(np.cos(angle)) / y, np.abs(np.sin(angle)) / x  # pixels along columns and rows per mm
    per_mm = np.minimum(a, b) * math.hypot(y, x) + np.maximum(a - b, 0) * x + np.maximum(b - a, 0) * y
    radius = 300 * min(x, y)
    perimeter, area = contour_lengths(disc(radius, y, x), (y, x))
    assert perimeter == pytest.approx(2 * math.pi * radius * per_mm.mean(), rel=5e-3)
    assert area == pytest.approx(math.pi * radius**2, rel=5e-3)


@pytest.mark.parametrize("seed", range(8))
def test_lengths_and_areas_are_those_of_scikit_images_contours(seed):
    generator = np.random.default_rng(seed)
    mask, spacing = generator.random((12, 15)) < generator.uniform(0.2, 0.8), (1.3, 0.7)
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="high")
    lengths = [np.hypot(*(np.diff(c, axis=0) * spacing).T).sum() for c in contours]
    areas = [np.sum(c[:-1, 0] * c[1:, 1] - c[1:, 0] * c[:-1, 1]) / 2 * 1.3 * 0.7 for c in contours]  # holes: other sign
    assert contour_lengths(mask, spacing) == pytest.approx((sum(lengths), abs(sum(areas))), rel=1e-12)


def test_turning_and_scale_change_nothing():
    mask = np.random.default_rng(0).random((10, 14)) < 0.7
    value = roughness(mask, (0.6, 1.1))
    assert value > 2
    assert roughness(mask.T, (1.1, 0.6)) == pytest.approx(value)
    assert roughness(mask[::-1], (0.6, 1.1)) == pytest.approx(value)
    assert roughness(mask, (1.8, 3.3)) == pytest.approx(value)
    assert roughness(mask, (1, 1)) != pytest.approx(value, rel=1e-2)


def test_only_the_largest_component_counts_and_it_needs_twenty_pixels():
    mask = np.zeros((20, 30), bool)
    mask[2:6, 2:7] = True  # 20 pixels
    alone = roughness(mask, (1, 2))
    mask[10:13, 10:16] = True  # 18 apart from them
    assert roughness(mask, (1, 2)) == alone
    mask[2, 2] = False
    assert math.isnan(roughness(mask, (1, 2)))
    assert math.isnan(roughness(np.zeros((5, 5), bool), (1, 2)))


def test_pixels_that_touch_at_a_corner_are_one_component():
    mask = np.zeros((12, 12), bool)
    mask[1:5, 1:5] = mask[5:9, 5:9] = True
    perimeter, area = of_rectangle(4, 4, 1, 1)
    corner = 2 * math.sqrt(0.5)  # two corners became two pieces of the joint, which has half a pixel square more
    assert contour_lengths(mask, (1, 1)) == pytest.approx((2 * perimeter - 2 * corner / 2 + corner, 2 * area + 0.5))
    assert roughness(mask, (1, 1)) == pytest.approx((2 * perimeter) ** 2 / (ROUND * (2 * area + 0.5)))


def test_the_figure_is_the_median_over_masks_that_have_one():
    shapes = [rectangle(6, 6, 4), np.pad(rectangle(4, 10, 0), ((5, 5), (2, 2))), np.zeros((14, 14), bool)]
    first, second = (roughness(mask, (1, 1)) for mask in shapes[:2])
    found = compare(np.stack(shapes), np.stack(shapes[:1]), (1, 1))
    assert found["roughness_samples"] == (first + second) / 2 and found["roughness_raters"] == first
    assert math.isnan(compare(np.stack(shapes[2:]), np.stack(shapes[:1]), (1, 1))["roughness_samples"])


def test_all_classes_take_every_mask_of_every_class():
    label_map = np.zeros((1, 14, 14), np.uint8)
    label_map[0, 1:6, 1:6], label_map[0, 7:11, 1:12] = 1, 2
    first, second = (roughness(label_map[0] == k, (1, 1)) for k in (1, 2))
    assert compare(label_map, label_map, (1, 1), 2)["roughness_samples"] == (first + second) / 2 > first
    assert compare(label_map, label_map, (1, 1), 2, label=2)["roughness_samples"] == second
