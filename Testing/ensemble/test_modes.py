"""Modes against trees and medoids worked out by hand and by search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.modes import find_modes


def matrix(n: int, **pairs: float) -> np.ndarray:
    """IoU of all pairs, by the numbers of two masks (``p01=0.5``); 0 where nothing is said."""
    iou = np.eye(n)
    for pair, value in pairs.items():
        i, j = int(pair[1]), int(pair[2])
        iou[i, j] = iou[j, i] = value
    return iou


def overlaps(masks: np.ndarray) -> np.ndarray:
    def one(a, b):
        union = (a | b).sum()
        return (a & b).sum() / union if union else 1.0

    return np.array([[one(a, b) for b in masks] for a in masks])


def test_two_groups_by_hand():
    # 1, 3 and 4 are alike, 4 in their middle; 0 and 2 are alike; between the groups next to nothing.
    iou = matrix(5, p13=0.6, p14=0.8, p34=0.9, p02=0.7, p01=0.1, p23=0.2)
    modes = find_modes(iou)
    assert modes.labels.tolist() == [1, 0, 1, 0, 0]
    assert modes.frequencies.tolist() == [3 / 5, 2 / 5]
    assert modes.representatives.tolist() == [4, 0]  # sums 1.4, 1.5, 1.7; and of two the first
    assert len(modes) == 2 and modes.cut == 0.5


def test_the_linkage_is_the_average():
    # 0 and 1 join at 0.1. From 2 they are 0.3 and 0.6 away: 0.45 on average, 0.3 by single, 0.6 by complete linkage.
    iou = matrix(3, p01=0.9, p02=0.7, p12=0.4)
    assert len(find_modes(iou, 0.44)) == 2 and len(find_modes(iou, 0.46)) == 1
    assert len(find_modes(iou, 0.45)) == 1  # a distance equal to the cut joins


def test_limits_of_the_cut():
    iou = matrix(4, p01=1.0, p02=0.999, p12=0.999)
    assert find_modes(iou, 0).labels.tolist() == [0, 0, 1, 2]
    assert len(find_modes(iou, 1)) == 1
    assert find_modes(np.eye(3), 0.99).representatives.tolist() == [0, 1, 2]


def test_equally_frequent_modes_keep_the_order_of_their_first_masks():
    iou = matrix(6, p05=0.9, p14=0.9, p23=0.9)
    assert find_modes(iou).labels.tolist() == [0, 1, 2, 2, 1, 0]
    assert find_modes(iou).representatives.tolist() == [0, 1, 2]


def test_empty_masks_are_a_mode_of_their_own():
    masks = np.zeros((5, 6), bool)
    masks[1, :3] = masks[3, :4] = True
    modes = find_modes(overlaps(masks), 0.99)
    assert modes.labels.tolist() == [0, 1, 0, 1, 0] and modes.frequencies.tolist() == [0.6, 0.4]


def test_one_mask():
    modes = find_modes(np.ones((1, 1)))
    assert (modes.labels.tolist(), modes.frequencies.tolist(), modes.representatives.tolist()) == ([0], [1.0], [0])


@pytest.mark.parametrize("seed", range(5))
def test_medoids_and_order_by_search(seed):
    masks = np.random.default_rng(seed).random((14, 9)) < 0.6
    iou = overlaps(masks)
    modes = find_modes(iou, 0.45)
    assert 1 < len(modes) < 14
    members = [np.flatnonzero(modes.labels == k).tolist() for k in range(len(modes))]
    assert sorted(itertools.chain(*members)) == list(range(14))
    assert members == sorted(members, key=lambda own: (-len(own), own[0]))
    assert modes.frequencies.tolist() == [len(own) / 14 for own in members]
    for own, representative in zip(members, modes.representatives):
        best = max(own, key=lambda i: (round(sum(iou[i, j] for j in own), 9), -i))
        assert representative == best


def test_renumbering_the_masks_renumbers_the_modes():
    iou = overlaps(np.random.default_rng(7).random((12, 30)) < 0.5)
    order = np.random.default_rng(8).permutation(12)
    modes, turned = find_modes(iou, 0.6), find_modes(iou[np.ix_(order, order)], 0.6)
    together = modes.labels[:, None] == modes.labels
    assert 1 < len(modes) < 12
    np.testing.assert_array_equal(turned.labels[:, None] == turned.labels, together[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("iou", "cut", "message"),
    [
        (np.ones((2, 3)), 0.5, r"\(N, N\)"),
        (np.ones((0, 0)), 0.5, "N ≥ 1"),
        (matrix(2, p01=1.1), 0.5, r"\[0, 1\]"),
        (matrix(2, p01=-0.1), 0.5, r"\[0, 1\]"),
        (matrix(2, p01=np.nan), 0.5, r"\[0, 1\]"),
        (np.array([[1, 0.2], [0.3, 1]]), 0.5, "symmetric"),
        (np.zeros((2, 2)), 0.5, "diagonal"),
        (np.eye(2), 1.5, "cut"),
        (np.eye(2), np.nan, "cut"),
    ],
)
def test_refusals(iou, cut, message):
    with pytest.raises(ValueError, match=message):
        find_modes(iou, cut)
