"""Majority by hand; STAPLE against a second implementation of its expectation maximisation."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.consensus import NoEstimate, consensus_of_means, majority, staple
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.volume.geometry import Geometry

BLOCK = np.zeros((6, 8, 9), bool)
BLOCK[1:4, 2:6, 2:7] = True
EMPTY = np.zeros_like(BLOCK)


def expectation_maximisation(masks):
    """Warfield's two steps, written with loops over the masks; prior and first estimate are the mean of the masks."""
    weights = np.mean(masks, axis=0)
    prior, before = weights.mean(), None
    for _ in range(1000):
        sensitivity = [weights[mask].sum() / weights.sum() for mask in masks]
        specificity = [(1 - weights)[~mask].sum() / (1 - weights).sum() for mask in masks]
        inside, outside = np.full(weights.shape, prior), np.full(weights.shape, 1 - prior)
        for mask, p, q in zip(masks, sensitivity, specificity):
            inside *= np.where(mask, p, 1 - p)
            outside *= np.where(mask, 1 - q, q)
        weights = inside / (inside + outside)
        if before is not None and np.square(np.subtract(before, [sensitivity, specificity])).sum() < 1e-14:
            break
        before = sensitivity, specificity
    return weights, sensitivity, specificity


def noisy(n, seed, share=0.1):
    rng = np.random.default_rng(seed)
    return np.stack([np.roll(BLOCK, rng.integers(-1, 2), 1) ^ (rng.random(BLOCK.shape) < share) for _ in range(n)])


def test_majority_is_strict():
    masks = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]], bool)
    assert majority(masks).tolist() == [False, False, True, True, False]  # 1, 2, 3, 4, 0 of 4
    assert majority(masks[:3]).tolist() == [False, True, True, True, False]
    assert majority(masks[:1]).tolist() == masks[0].tolist()


@pytest.mark.parametrize("n", [1, 2, 5, 6, 300])
def test_majority_is_the_rule_of_the_sample_set(n):
    masks = np.random.default_rng(n).random((n, 3, 4, 5)) < 0.5
    grid = Geometry((5, 4, 3), (1, 1, 1), (0, 0, 0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    np.testing.assert_array_equal(majority(masks), SampleSet(masks, grid).consensus())


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.5, 0.99])
def test_one_mean_above_its_threshold(threshold):
    mean = np.linspace(0, 1, 11, dtype=np.float32).reshape(1, 11)
    found = consensus_of_means([mean], threshold)
    assert found.dtype == np.uint8
    assert found.tolist() == [[int(value > (0.5 if threshold is None else threshold)) for value in mean[0]]]


def test_several_means_take_the_most_frequent():
    first, second = (np.array(v, np.float32) for v in ([0.5, 0.4, 0.3, 0.4, 0.6], [0.5, 0.4, 0.4, 0.2, 0.1]))
    assert consensus_of_means([first, second]).tolist() == [0, 0, 2, 0, 1]  # background: 0, .2, .3, .4, .3
    volume = [np.broadcast_to(mean, (3, 2, 5)) for mean in (first, second)]
    np.testing.assert_array_equal(consensus_of_means(volume), np.broadcast_to([0, 0, 2, 0, 1], (3, 2, 5)))


@pytest.mark.parametrize("threshold", [1, -0.1, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ValueError, match=r"\[0, 1\), got"):
        consensus_of_means([np.zeros((2, 2))], threshold)


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (3, 1), (5, 2), (10, 3), (150, 4)])
def test_staple_agrees_with_a_second_implementation(n, seed):
    masks = noisy(n, seed)
    weights, sensitivity, specificity = expectation_maximisation(masks)
    result = staple(masks)
    assert result.probability.dtype == np.float32
    np.testing.assert_allclose(result.probability, weights, atol=1e-5)
    np.testing.assert_allclose(result.sensitivity, sensitivity, atol=1e-5)
    np.testing.assert_allclose(result.specificity, specificity, atol=1e-5)
    np.testing.assert_array_equal(result.mask, weights > 0.5)


def test_staple_trusts_those_who_agree():
    """Two that agree and three that mark at random: the majority follows the noise, STAPLE hardly."""
    rng = np.random.default_rng(0)
    masks = np.stack([BLOCK, BLOCK, *(rng.random((3, *BLOCK.shape)) < 0.5)])
    result = staple(masks)
    np.testing.assert_array_equal(result.mask, BLOCK)
    assert (majority(masks) != BLOCK).mean() > 0.1
    assert result.sensitivity[:2].min() > 0.99 > 0.7 > result.sensitivity[2:].max()


def test_one_mask_and_identical_masks_are_their_own_estimate():
    for n in (1, 4):
        result = staple(np.stack([BLOCK] * n))
        np.testing.assert_array_equal(result.probability, BLOCK)
        np.testing.assert_array_equal(result.mask, BLOCK)
        assert result.sensitivity.tolist() == result.specificity.tolist() == [1.0] * n


def test_some_empty():
    """Two of three agree: the empty one found nothing of the true mask and marks nothing wrongly."""
    result = staple(np.stack([BLOCK, BLOCK, EMPTY]))
    np.testing.assert_array_equal(result.mask, BLOCK)
    np.testing.assert_allclose(result.sensitivity, [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(result.specificity, [1, 1, 1], atol=1e-6)
    assert not staple(np.stack([BLOCK, EMPTY])).mask.any()  # even odds are not above one half


def test_all_empty_and_all_full_are_their_own_estimate():
    none, every = staple(np.stack([EMPTY] * 3)), staple(np.stack([~EMPTY] * 3))
    assert not none.probability.any() and not none.mask.any()
    assert np.isnan(none.sensitivity).all() and none.specificity.tolist() == [1, 1, 1]
    assert every.mask.all() and every.sensitivity.tolist() == [1, 1, 1] and np.isnan(every.specificity).all()


def test_a_slice_is_fused_as_a_slice():
    masks = noisy(4, 5)[:, 2]
    np.testing.assert_allclose(staple(masks).probability, expectation_maximisation(masks)[0], atol=1e-5)


def test_too_many_masks_for_staple_are_refused():
    """Half mark one voxel of 60: inside it 60⁻ⁿ and 0 are to be compared, and 60⁻¹⁹⁰ is too small for a double."""
    one = np.zeros_like(BLOCK)
    one[2, 3, 4] = True
    assert staple(np.stack([BLOCK, one] * 150)).mask.any()
    with pytest.raises(NoEstimate, match=r"380 masks .* overflowed.* use the majority"):
        staple(np.stack([BLOCK, one] * 190))


@pytest.mark.parametrize("fuse", [majority, staple])
@pytest.mark.parametrize("masks", [np.ones((2, 3, 3), np.uint8), np.ones((0, 3, 3), bool), np.ones(3, bool)])
def test_refusals(fuse, masks):
    with pytest.raises(ValueError, match=r"bool \(N, \*spatial\)"):
        fuse(masks)


def test_staple_takes_slices_and_volumes():
    with pytest.raises(ValueError, match="2-D or 3-D"):
        staple(np.ones((2, 5), bool))
