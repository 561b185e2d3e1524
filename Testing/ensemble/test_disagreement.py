"""Order of the slices, by hand."""

import numpy as np

from AmbiguousSegLib.ensemble.disagreement import slices_by_disagreement


def test_slices_in_falling_order_of_summed_variance():
    # Two samples. Slice 0: both mark 3 voxels. 1: one marks 1 voxel. 2: nothing. 3: one marks 2 voxels. 4: both mark 5.
    mean = np.zeros((5, 2, 4))
    mean[0].flat[:3], mean[1].flat[:1], mean[3].flat[:2], mean[4].flat[:5] = 1, 0.5, 0.5, 1
    assert slices_by_disagreement(mean * (1 - mean), mean) == [3, 1, 4, 0]


def test_equal_slices_stay_in_stack_order_and_nothing_gives_nothing():
    mean = np.full((3, 2, 2), 0.5)
    assert slices_by_disagreement(mean * (1 - mean), mean) == [0, 1, 2]
    assert slices_by_disagreement(np.zeros((3, 2, 2)), np.zeros((3, 2, 2))) == []
