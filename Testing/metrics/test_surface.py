from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from AmbiguousSegLib.metrics import surface


def brute_border(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Marked voxels with a face neighbour that is not marked or lies beyond the image."""

    def marked(index: tuple[int, ...]) -> bool:
        return all(0 <= i < n for i, n in zip(index, mask.shape)) and bool(mask[index])

    def neighbours(index: tuple[int, ...]):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            yield tuple(i + step * (k == axis) for k, i in enumerate(index))

    return [i for i in np.ndindex(mask.shape) if mask[i] and not all(marked(n) for n in neighbours(i))]


def brute_directed(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    def distance(p: tuple[int, ...], q: tuple[int, ...]) -> float:
        return math.sqrt(sum(((i - j) * s) ** 2 for i, j, s in zip(p, q, spacing)))

    target = brute_border(b)
    return [min(distance(p, q) for q in target) for p in brute_border(a)]


def brute_percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the two neighbouring order statistics."""
    values = sorted(values)
    low = math.floor(share * (len(values) - 1))
    high = min(low + 1, len(values) - 1)
    return values[low] + (share * (len(values) - 1) - low) * (values[high] - values[low])


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.25


def single(shape: tuple[int, ...], *indices: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for index in indices:
        mask[index] = True
    return mask


def test_two_voxels_by_hand():
    # 3 rows of 2 mm and 4 columns of 0.5 mm apart: √(6² + 2²)
    a, b = single((8, 9), (2, 3)), single((8, 9), (5, 7))
    assert surface.hd95(a, b, (2, 0.5)) == pytest.approx(math.sqrt(40), abs=1e-12)
    assert surface.assd(a, b, (2, 0.5)) == pytest.approx(math.sqrt(40), abs=1e-12)
    # the other axis order: √(1.5² + 8²)
    assert surface.hd95(a, b, (0.5, 2)) == pytest.approx(math.sqrt(66.25), abs=1e-12)


def test_two_voxels_by_hand_in_a_volume():
    # (1, 2, 3) voxels of (4, 0.5, 1) mm: √(4² + 1² + 3²)
    a, b = single((5, 5, 5), (1, 1, 1)), single((5, 5, 5), (2, 3, 4))
    assert surface.hd95(a, b, (4, 0.5, 1)) == pytest.approx(math.sqrt(26), abs=1e-12)


def test_hd95_is_the_maximum_of_the_directed_percentiles():
    # A is the first pixel of a row, B the whole row of 21: from A 0; from B 0, 1, … 20, whose 95th percentile is the
    # order statistic 0.95 · 20 = 19. Pooled, {0, 0, 1, … 20} would give 18.95. ASSD: 210 / 22.
    a, b = single((1, 21), (0, 0)), np.ones((1, 21), bool)
    assert surface.hd95(a, b, (1, 1)) == 19
    assert surface.hd95(b, a, (1, 1)) == 19
    assert surface.assd(a, b, (1, 1)) == pytest.approx(210 / 22, abs=1e-12)
    assert surface.hd95(a, b, (1, 3)) == 57


def test_hd95_interpolates_between_order_statistics():
    # B has 11 pixels: order statistic 0.95 · 10 = 9.5
    assert surface.hd95(single((1, 11), (0, 0)), np.ones((1, 11), bool), (1, 1)) == 9.5


def test_concentric_squares_by_hand():
    # Border of the 3×3 square: 8 pixels, each 2 away from the border of the 7×7 square.
    # Border of the 7×7 square: 24 pixels. Per side 3 lie opposite the inner side, 2 away; 2 are √(2² + 1²) away; the
    # 4 corners are √8 away.
    inner, outer = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    inner[3:6, 3:6] = outer[1:8, 1:8] = True
    expected = (8 * 2 + 12 * 2 + 8 * math.sqrt(5) + 4 * math.sqrt(8)) / 32
    assert surface.assd(inner, outer, (1, 1)) == pytest.approx(expected, abs=1e-12)
    # of 24 sorted distances the order statistics 21 and 22 are both √8
    assert surface.hd95(inner, outer, (1, 1)) == pytest.approx(math.sqrt(8), abs=1e-12)


def test_border():
    full = np.ones((4, 4), bool)
    assert surface.border(full).sum() == 12  # the image's edge counts as border
    corner_missing = np.ones((3, 3), bool)
    corner_missing[0, 0] = False
    assert not surface.border(corner_missing)[1, 1]  # diagonal neighbours do not count
    assert surface.border(np.ones((1, 3, 3), bool)).all()  # a volume of one slice is border throughout
    assert surface.border(np.ones((3, 3, 3), bool)).sum() == 26


@pytest.mark.parametrize(("shape", "spacing"), [((9, 11), (1, 1)), ((9, 11), (2.5, 0.7)), ((5, 6, 7), (3.0, 0.8, 0.6))])
def test_agrees_with_loops(shape, spacing):
    a, b = blobs(shape, 1), blobs(shape, 2)
    a[tuple(slice(1, 5) for _ in shape)] = True  # a solid part, so that border and mask differ
    to_b, to_a = brute_directed(a, b, spacing), brute_directed(b, a, spacing)
    got_b, got_a = surface.surface_distances(a, b, spacing)
    assert got_b == pytest.approx(to_b, abs=1e-12)
    assert got_a == pytest.approx(to_a, abs=1e-12)
    assert len(to_b) < a.sum()
    metrics = surface.surface_metrics(a, b, spacing)
    hd95 = max(brute_percentile(to_b, 0.95), brute_percentile(to_a, 0.95))
    assert metrics.hd95_mm == pytest.approx(hd95, abs=1e-12)
    assert metrics.assd_mm == pytest.approx(sum(to_a + to_b) / len(to_a + to_b), abs=1e-12)


def test_cropping_changes_nothing(monkeypatch):
    a, b = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    a[4:9, 5:11], b[6:13, 8:19] = blobs((5, 6), 3), blobs((7, 11), 4)
    spacing = (1.3, 0.9)
    cropped = surface.surface_distances(a, b, spacing)
    monkeypatch.setattr(surface, "box_of_both", lambda a, b: (slice(None), slice(None)))
    whole = surface.surface_distances(a, b, spacing)
    assert all(np.array_equal(p, q) for p, q in zip(cropped, whole, strict=True))
    assert cropped[0].max() > 0


def test_the_box_is_tight():
    a, b = single((10, 12), (2, 3)), single((10, 12), (7, 5))
    assert surface.box_of_both(a, b) == (slice(2, 8), slice(3, 6))


def test_tensors_are_taken():
    a, b = blobs((8, 9), 5), blobs((8, 9), 6)
    expected = surface.surface_metrics(a, b, (2, 1))
    assert surface.surface_metrics(torch.from_numpy(a), torch.from_numpy(b), (2, 1)) == expected


def test_symmetry_identity_and_scale():
    a, b = blobs((8, 9), 5), blobs((8, 9), 6)
    forward, backward = surface.surface_metrics(a, b, (2, 1)), surface.surface_metrics(b, a, (2, 1))
    assert forward.hd95_mm == backward.hd95_mm
    assert forward.assd_mm == pytest.approx(backward.assd_mm, abs=1e-12)
    assert surface.surface_metrics(a, a, (2, 1)) == surface.SurfaceMetrics(0, 0)
    scaled = surface.surface_metrics(a, b, (6, 3))
    assert scaled.hd95_mm == pytest.approx(3 * forward.hd95_mm) and forward.hd95_mm > 0
    assert scaled.assd_mm == pytest.approx(3 * forward.assd_mm) and forward.assd_mm > 0


def test_empty_rule():
    empty, some = np.zeros((3, 4), bool), single((3, 4), (1, 1))
    assert surface.surface_metrics(empty, empty, (1, 1)) == surface.SurfaceMetrics(0, 0)
    assert surface.surface_metrics(empty, empty, (1, 1), "diagonal") == surface.SurfaceMetrics(0, 0)
    for a, b in ((empty, some), (some, empty)):
        assert math.isnan(surface.hd95(a, b, (1, 1))) and math.isnan(surface.assd(a, b, (1, 1)))
        # 3 · 4 mm and 4 · 4 mm: 20 mm
        assert surface.surface_metrics(a, b, (4, 4), "diagonal") == surface.SurfaceMetrics(20, 20)
        with pytest.raises(ValueError, match="non-empty"):
            surface.surface_distances(a, b, (1, 1))


@pytest.mark.parametrize(("shape", "spacing"), [((9, 11), (2.5, 0.7)), ((5, 6, 7), (3.0, 0.8, 0.6))])
def test_all_pairs_are_the_pairs_one_by_one(shape, spacing):
    a, b = (np.stack([blobs(shape, seed) for seed in seeds]) for seeds in ((1, 2, 3), (4, 5)))
    a[1] = b[0] = False
    hd95, assd = surface.pairwise_surface_metrics(a, b, spacing)
    for (i, one), (j, other) in itertools.product(enumerate(a), enumerate(b)):
        if one.any() and other.any():
            there, back = brute_directed(one, other, spacing), brute_directed(other, one, spacing)
            expected = max(brute_percentile(there, 0.95), brute_percentile(back, 0.95)), np.mean(there + back)
        else:
            expected = (math.nan,) * 2 if one.any() or other.any() else (0, 0)
        assert (hd95[i, j], assd[i, j]) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isnan(hd95).sum() == 3 and hd95[1, 0] == 0


def test_sets_without_any_mark_agree():
    empty = np.zeros((2, 4, 5), bool)
    hd95, assd = surface.pairwise_surface_metrics(empty, empty[:1], (1, 1))
    assert hd95.tolist() == assd.tolist() == [[0], [0]]


def test_every_mask_is_reported_and_may_stop_the_rest():
    a, b, seen = np.stack([blobs((6, 7), 1)] * 3), np.stack([blobs((6, 7), 2)] * 2), []
    surface.pairwise_surface_metrics(a, b, (1, 1), lambda: seen.append(None))
    assert len(seen) == 5

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        surface.pairwise_surface_metrics(a, b, (1, 1), stop)


def test_sets_are_refused_as_masks_are():
    masks = np.ones((2, 3, 3), bool)
    for a, b, spacing, message in (
        (masks[0], masks, (1, 1), r"Mask a must be a bool array \(N, \*spatial\)"),
        (masks, masks.astype(float), (1, 1), "Mask b must be"),
        (masks, masks[:, :2], (1, 1), "one grid"),
        (masks, masks, (1, 1, 1), "2 positive lengths"),
    ):
        with pytest.raises(ValueError, match=message):
            surface.pairwise_surface_metrics(a, b, spacing)


@pytest.mark.parametrize(
    ("a", "b", "spacing", "one_empty", "message"),
    [
        (np.ones((3, 3), np.uint8), np.ones((3, 3), bool), (1, 1), "undefined", "Mask a must .* uint8"),
        (np.ones((3, 3), bool), np.ones(3, bool), (1, 1), "undefined", "Mask b must be a 2-D or 3-D"),
        (np.ones((3, 3), bool), np.ones((3, 4), bool), (1, 1), "undefined", "one grid"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), (1, 1, 1), "undefined", "2 positive lengths"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), (1, 0), "undefined", "positive"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), (1, math.nan), "undefined", "positive"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), (1, 1), "zero", "one_empty"),
    ],
)
def test_refusals(a, b, spacing, one_empty, message):
    with pytest.raises(ValueError, match=message):
        surface.surface_metrics(a, b, spacing, one_empty)
