"""Frequencies of modes: by hand on small masks, and near the truth when the truth is drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AmbiguousSegLib.data.lung_phantom import phantom_case
from AmbiguousSegLib.evaluation.mode_frequencies import frequency_agreement, mode_frequencies


def row(*pixels: int) -> np.ndarray:
    mask = np.zeros((1, 8), bool)
    mask[0, list(pixels)] = True
    return mask


MODES = np.stack([row(2, 3), row(), row(1, 2, 3, 4)])


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (row(2, 3), [1, 0, 0]),
        (row(), [0, 1, 0]),  # exactly empty: nothing
        (row(2), [1, 0, 0]),  # 1/2 against 1/4
        (row(1, 3, 4), [0, 0, 1]),  # 1/4 against 3/4
        (row(1, 2, 3), [0, 0, 1]),  # 2/3 against 3/4
        (row(7), [0, 0, 0]),  # overlaps nothing, and is not empty
    ],
)
def test_a_sample_belongs_to_the_mode_of_largest_iou(sample, expected):
    np.testing.assert_array_equal(mode_frequencies(sample[None], MODES), expected)


def test_ties_go_to_the_first_mode():
    modes = np.stack([row(0, 1), row(2, 3)])
    np.testing.assert_array_equal(mode_frequencies(row(1, 2)[None], modes), [1, 0])
    np.testing.assert_array_equal(mode_frequencies(row(1, 2)[None], modes[::-1]), [1, 0])


def test_frequencies_are_shares_of_all_samples():
    samples = np.stack([row(2, 3), row(2), row(), row(7)])
    np.testing.assert_array_equal(mode_frequencies(samples, MODES), [0.5, 0.25, 0])


def test_modes_of_label_maps_take_the_iou_of_all_classes():
    core_and_halo, core, nothing = np.zeros((3, 1, 8), np.uint8)
    core_and_halo[0, 1:7], core_and_halo[0, 3:5], core[0, 3:5] = 2, 1, 1
    modes = np.stack([core, core_and_halo, nothing])
    near_halo, thick, swapped = core_and_halo.copy(), core_and_halo.copy(), core_and_halo.copy()
    near_halo[0, 1] = 0  # IoU 1 and 3/4 with core and halo; 1/2 with the core alone
    thick[0, 1:7] = 1  # (1/3 + 0)/2 with core and halo, where the halo is missing; 1/3 with the core
    swapped[0] = 2 * (core_and_halo[0] == 1)  # of another class than all: none
    samples = np.stack([near_halo, thick, swapped, nothing])
    np.testing.assert_array_equal(mode_frequencies(samples, modes, 2), [1 / 4, 1 / 4, 1 / 4])


def test_agreement_pools_pairs_and_leaves_single_modes_out():
    drawn = [np.array([0.5, 0.25]), np.array([0.0]), np.array([0.1, 0.3, 0.6])]
    true = [np.array([0.7, 0.3]), np.array([1.0]), np.array([0.2, 0.3, 0.5])]
    found = frequency_agreement(drawn, true)
    x, y = np.array([0.5, 0.25, 0.1, 0.3, 0.6]), np.array([0.7, 0.3, 0.2, 0.3, 0.5])
    dx, dy = x - 0.35, y - 0.4
    assert found.correlation == pytest.approx((dx @ dy) / math.sqrt((dx @ dx) * (dy @ dy)))
    assert (found.cases, found.pairs) == (2, 5)
    assert found.unassigned == pytest.approx(0.125)


def test_agreement_is_undefined_without_pairs_or_without_variation():
    assert math.isnan(frequency_agreement([np.array([1.0])], [np.array([1.0])]).correlation)
    assert math.isnan(frequency_agreement([np.array([0.5, 0.5])], [np.array([0.7, 0.3])]).correlation)
    with pytest.raises(ValueError, match="do not pair up"):
        frequency_agreement([np.array([0.5, 0.5])], [np.array([0.2, 0.3, 0.5])])


def test_draws_from_the_truth_correlate_and_those_of_a_wrong_distribution_do_not():
    rng = np.random.default_rng(0)
    drawn, wrong, true = [], [], []
    for index in range(24):
        phantom = phantom_case(1, index)
        modes, probabilities = phantom.distinct_modes()
        drawn.append(mode_frequencies(phantom.draw_masks(rng, 256), modes))
        wrong.append(mode_frequencies(modes[::-1].repeat((256 * probabilities).astype(int) + 1, axis=0), modes))
        true.append(probabilities)
    agreement = frequency_agreement(drawn, true)
    assert agreement.correlation > 0.98 and agreement.unassigned < 0.01
    assert agreement.cases == sum(len(p) >= 2 for p in true) >= 15
    assert frequency_agreement(wrong, true).correlation < 0
