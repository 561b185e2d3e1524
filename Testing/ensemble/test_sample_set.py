"""Maps and volumes of a sample set, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((3, 2, 2), (2.0, 5.0, 10.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))  # 0.1 mL a voxel


def masks_of(*counts):
    """One mask per count: the first so many voxels are marked."""
    masks = np.zeros((len(counts), *GRID.shape), bool)
    for mask, count in zip(masks, counts, strict=True):
        mask.reshape(-1)[:count] = True
    return masks


def test_maps():
    sample_set = SampleSet(masks_of(0, 1, 2, 4), GRID)
    expected = np.zeros(12)
    expected[:4] = [3 / 4, 2 / 4, 1 / 4, 1 / 4]
    assert np.allclose(sample_set.mean().reshape(-1), expected)
    assert np.allclose(sample_set.variance().reshape(-1), expected * (1 - expected))
    assert np.isclose(sample_set.variance().max(), 0.25) and sample_set.mean().dtype == np.float32
    assert np.allclose(sample_set.variance(), sample_set.masks.var(axis=0))
    assert np.array_equal(np.flatnonzero(sample_set.consensus()), [0])  # half of the samples are no majority
    assert np.array_equal(np.flatnonzero(sample_set.consensus(0.3)), [0, 1])


def test_more_samples_than_a_byte_counts():
    sample_set = SampleSet(masks_of(*[3] * 300, *[1] * 100), GRID)
    assert np.allclose(sample_set.mean().reshape(-1)[:4], [1, 0.75, 0.75, 0])


def test_a_cut_out_of_a_larger_array_counts_alike():
    masks = masks_of(0, 1, 2, 4, 5)
    assert np.array_equal(SampleSet(masks[::2], GRID).mean(), SampleSet(masks[::2].copy(), GRID).mean())


def test_volumes():
    summary = SampleSet(masks_of(*range(11)), GRID).volume_summary()
    assert np.allclose(summary["samples"], np.arange(11) / 10)
    assert np.isclose(summary["mean"], 0.5)
    assert np.allclose(summary["interval_95"], [0.025, 0.975])  # 2.5 % of 10 steps of 0.1 mL from either end


@pytest.mark.parametrize(
    "masks",
    [np.zeros((0, 2, 2, 3), bool), np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 3), bool), np.zeros((1, 2, 3, 2), bool)],
    ids=["none", "not bool", "one axis short", "another grid"],
)
def test_what_is_no_sample_set_is_refused(masks):
    with pytest.raises(ValueError, match=r"SampleSet\.masks"):
        SampleSet(masks, GRID)


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        SampleSet(masks_of(1), GRID).consensus(1)
