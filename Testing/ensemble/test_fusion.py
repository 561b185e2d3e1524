"""Fusion of samples against counts made by hand, and its draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.fusion import Fusion, fused, with_fusion
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((5, 4, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def test_it_is_the_majority_of_majorities_of_the_samples_drawn():
    """DiffSeg's numbers: 3 draws of 4 of 10; 2 of 4 are no majority, 2 of 3 are."""
    masks = np.random.default_rng(0).integers(0, 2, (10, 3, 4, 5)).astype(np.uint8)
    subsets = Fusion().subsets(10, 7)
    assert len(subsets) == 3 and all(len(set(s)) == 4 and set(s) <= set(range(10)) for s in subsets)
    votes = np.zeros(masks.shape[1:], int)
    for subset in subsets:
        votes += sum(masks[k].astype(int) for k in subset) >= 3
    assert np.array_equal(fused(masks, seed=7), (votes >= 2).astype(np.uint8))
    assert np.array_equal(fused(masks, seed=7), fused(masks, seed=7))


def test_of_several_classes_the_most_frequent_one_and_ties_are_background():
    masks = np.array([[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [2, 1, 1, 2, 1], [2, 0, 2, 2, 0]], np.uint8)[:, None]
    assert fused(masks, 2, fusion=Fusion(1, 4)).tolist() == [[0, 1, 2, 2, 0]]


def test_every_sample_is_as_likely_as_another_and_draws_differ():
    drawn = [Fusion(3, 2).subsets(5, seed) for seed in range(400)]
    count = np.bincount([k for subsets in drawn for subset in subsets for k in subset], minlength=5)
    expected, deviation = 1200 * 2 / 5, (1200 * 2 / 5 * 3 / 5) ** 0.5
    assert np.abs(count - expected).max() < 4 * deviation
    pairs = {tuple(subset) for subsets in drawn for subset in subsets}
    assert pairs == set(itertools.combinations(range(5), 2))
    assert Fusion(2, 2).subsets(5, 3) == Fusion(3, 2).subsets(5, 3)[:2]  # more draws leave the first as they are


def test_a_set_tells_what_was_drawn_by_the_numbers_of_its_files():
    masks = np.random.default_rng(1).integers(0, 2, (6, *GRID.shape)).astype(np.uint8)
    own, mask = with_fusion(SampleSet(masks, GRID, {"seed": 9, "first_sample": 8}))
    assert np.array_equal(mask, fused(masks, 1, 9))
    told = own.provenance["fusion"]
    assert (told["draws"], told["size"]) == (3, 4)
    assert told["samples"] == [[9 + k for k in subset] for subset in Fusion().subsets(6, 9)]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="Fusion draws 4 different samples, but there are 3; sample more"):
        fused(np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="1 or more draws of 1 or more samples, got 0 of 4"):
        Fusion(0)
