from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from AmbiguousSegLib.metrics import overlap

ONE = (overlap.dice, overlap.iou, overlap.precision, overlap.recall)


def row(pattern: str) -> np.ndarray:
    return np.array([[character == "x" for character in pattern]])


def random_sets(n: int = 5, m: int = 3, shape: tuple[int, ...] = (4, 5, 6)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.random((n, *shape)) < 0.4, generator.random((m, *shape)) < 0.6


def voxel_set(mask: np.ndarray) -> set[tuple[int, ...]]:
    return {index for index in np.ndindex(mask.shape) if mask[index]}


def test_values_by_hand():
    # 3 marked against 4 marked, 2 in common, 5 in the union
    a, b = row("xxx...."), row(".xxxx..")
    assert overlap.dice(a, b).item() == 4 / 7
    assert overlap.iou(a, b).item() == 2 / 5
    assert overlap.precision(a, b).item() == 2 / 3
    assert overlap.recall(a, b).item() == 2 / 4
    assert overlap.counts(a, b).difference().item() == 3
    assert overlap.counts(a, b).pixels == 7


@pytest.mark.parametrize("function", ONE)
def test_empty_rule(function):
    empty, some = row("...."), row(".xx.")
    assert function(empty, empty).item() == 1
    assert function(empty, some).item() == 0
    assert function(some, empty).item() == 0


def test_empty_rule_of_all_pairs():
    masks = np.stack([row("...."), row(".xx.")])
    assert overlap.pairwise_dice(masks, masks).tolist() == [[1, 0], [0, 1]]
    assert overlap.pairwise_iou(masks, masks).tolist() == [[1, 0], [0, 1]]


def test_pairs_agree_with_sets_of_voxels(monkeypatch):
    monkeypatch.setattr(overlap, "_CHUNK_ELEMENTS", 8 * 7)  # 7 pixels at a time: 17 chunks and a remainder of 1
    a, b = random_sets()
    dice, iou = overlap.pairwise_dice(a, b), overlap.pairwise_iou(a, b)
    assert dice.shape == (5, 3) and dice.dtype == iou.dtype == np.float64
    for i, j in itertools.product(range(5), range(3)):
        p, q = voxel_set(a[i]), voxel_set(b[j])
        assert dice[i, j].item() == 2 * len(p & q) / (len(p) + len(q))
        assert iou[i, j].item() == len(p & q) / len(p | q)
        assert overlap.precision(a[i], b[j]).item() == len(p & q) / len(p)
        assert overlap.recall(a[i], b[j]).item() == len(p & q) / len(q)


def test_sets_may_trade_places_and_order():
    a, b = random_sets()
    iou = overlap.pairwise_iou(a, b)
    assert np.array_equal(overlap.pairwise_iou(b, a), iou.T)
    order = [3, 0, 4, 1, 2]
    assert np.array_equal(overlap.pairwise_iou(a[order], b), iou[order])
    assert not np.array_equal(iou[order], iou)


def test_leading_axes_broadcast_in_one_to_one_comparison():
    a, b = random_sets()
    grid = overlap.dice(a[:, None], b[None], spatial_ndim=3)
    assert np.array_equal(grid, overlap.pairwise_dice(a, b))


def test_counts_stay_exact_where_float32_is_not():
    # 2²⁴ + 3 is odd and above 2²⁴: float32 cannot hold it
    size = 2**24 + 3
    a = np.ones((1, size), bool)
    b = a.copy()
    b[0, 0] = False
    counts = overlap.pairwise_counts(a, np.concatenate([a, b]))
    assert counts.intersection.tolist() == [[size, size - 1]]
    assert counts.size_a.item() == size and counts.size_b.tolist() == [[size, size - 1]]
    assert counts.iou()[0, 1].item() == (size - 1) / size
    assert overlap.counts(a, b).difference().item() == 1


def test_tensors_turned_and_read_only_arrays_are_taken():
    a, b = random_sets()
    expected = overlap.pairwise_iou(a, b)
    assert np.array_equal(overlap.pairwise_iou(torch.from_numpy(a), torch.from_numpy(b)), expected)
    assert overlap.dice(torch.from_numpy(a[0]), b[0]) == overlap.dice(a[0], b[0])
    read_only = a.copy()
    read_only.flags.writeable = False
    assert np.array_equal(overlap.pairwise_iou(read_only, b), expected)
    assert np.array_equal(overlap.pairwise_iou(a[:, ::-1], b[:, ::-1]), expected)
    assert np.array_equal(overlap.pairwise_iou(np.asfortranarray(a), b), expected)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_turned_axes_of_length_one_are_taken(axis):
    a, b = (np.take(masks, [0], axis) for masks in random_sets())
    expected = overlap.pairwise_iou(a.copy(), b.copy())
    turned = np.flip(a, axis)
    assert turned.flags.c_contiguous and min(turned.strides) < 0
    assert np.array_equal(overlap.pairwise_iou(turned, np.flip(b, axis)), expected)


@pytest.mark.parametrize("masks", [np.ones((2, 3, 3), np.uint8), torch.ones(2, 3, 3), [[1]]])
def test_masks_that_are_not_bool_are_refused(masks):
    good = np.ones((2, 3, 3), bool)
    for function in (overlap.pairwise_dice, overlap.pairwise_iou, *ONE):
        with pytest.raises(ValueError, match="bool"):
            function(masks, good)
        with pytest.raises(ValueError, match="bool"):
            function(good, masks)


def test_shapes_that_do_not_fit_are_refused():
    def masks(*shape: int) -> np.ndarray:
        return np.ones(shape, bool)

    with pytest.raises(ValueError, match="one grid"):
        overlap.pairwise_iou(masks(2, 3, 4), masks(2, 4, 3))
    with pytest.raises(ValueError, match="N ≥ 1"):
        overlap.pairwise_iou(masks(0, 3, 4), masks(2, 3, 4))
    with pytest.raises(ValueError, match="leading axis"):
        overlap.pairwise_iou(masks(4), masks(4))
    with pytest.raises(ValueError, match="last 2 axes"):
        overlap.dice(masks(3, 4), masks(3, 1))  # would broadcast silently
    with pytest.raises(ValueError, match="last 3 axes"):
        overlap.dice(masks(2, 3, 4), masks(3, 4))
    with pytest.raises(ValueError, match="leading axes"):
        overlap.dice(masks(2, 3, 4), masks(3, 3, 4), spatial_ndim=2)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (2, 3), (3, 2), (2, 4), (3, 3)])
def test_matching_agrees_with_all_permutations(n, m):
    similarity = np.random.default_rng(n * 10 + m).random((n, m))
    total = int(np.lcm(n, m))
    best = max(
        sum(similarity[i % n, j % m] for i, j in enumerate(permutation)) / total
        for permutation in itertools.permutations(range(total))
    )
    assert overlap.matched_mean(similarity) == pytest.approx(best, abs=1e-14)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (16, 4), (9, 6)])
def test_matching_of_large_sets_reaches_the_same_optimum(n, m, monkeypatch):
    similarity = np.random.default_rng(n).random((n, m)).round(1)  # rounded: many ties
    assignment = overlap.matched_mean(similarity)
    monkeypatch.setattr(overlap, "_LARGEST_ASSIGNMENT", 1)
    monkeypatch.setattr(overlap, "linear_sum_assignment", None)  # the other way may not use it
    assert overlap.matched_mean(similarity) == pytest.approx(assignment, abs=1e-13)


def test_matching_of_sets_with_a_huge_common_multiple():
    # lcm(61, 59) = 3599. With similarity u_i + v_j every assignment gives mean(u) + mean(v).
    generator = np.random.default_rng(0)
    u, v = generator.random(61), generator.random(59)
    assert overlap.matched_mean(u[:, None] + v[None]) == pytest.approx(u.mean() + v.mean(), abs=1e-12)
