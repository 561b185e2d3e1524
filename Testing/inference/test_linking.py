"""Samples of neighbouring slices paired anew: the best pairing, of the same masks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from tiny_models import tiny_model

from AmbiguousSegLib.inference.linking import link, order_of
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes


def by_hand(a: np.ndarray, b: np.ndarray, classes: int) -> float:
    """Dice of two label maps as sets of pixels, mean over the classes that either has; 1 where both are empty."""
    found = []
    for k in range(1, classes + 1):
        one, other = set(np.flatnonzero(a == k)), set(np.flatnonzero(b == k))
        if one or other:
            found.append(2 * len(one & other) / (len(one) + len(other)))
    return sum(found) / len(found) if found else 1.0


def slice_sets(slices: np.ndarray) -> list[list[bytes]]:
    """The masks of each slice, in an order of their own."""
    return [sorted(mask.tobytes() for mask in slices[:, z]) for z in range(slices.shape[1])]


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("start", [None, 0, 2, 4])
def test_no_other_pairing_of_two_neighbours_agrees_more(classes, start):
    """Every permutation is tried."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        slices = rng.integers(0, classes + 1, (4, 5, 3, 3), dtype=np.uint8)
        slices *= rng.random((4, 5, 1, 1)) > 0.3  # some are empty
        first = int((slices > 0).sum((0, 2, 3)).argmax()) if start is None else start
        before, linked = slices.copy(), slices.copy()
        link(linked, classes, start)
        assert np.array_equal(linked[:, first], before[:, first])
        assert slice_sets(linked) == slice_sets(before)
        for z in range(4):
            inner, outer = (z, z + 1) if z >= first else (z + 1, z)
            dice = np.array([[by_hand(a, b, classes) for b in linked[:, outer]] for a in linked[:, inner]])
            best = max(sum(dice[k, p] for k, p in enumerate(order)) for order in permutations(range(4)))
            assert np.trace(dice) == pytest.approx(best, abs=1e-12)


def test_shapes_whose_slices_were_shuffled_are_found_again():
    """Cones that lie apart, so that only the right pairing overlaps; beyond their ends every mask is empty."""
    cones = np.zeros((6, 9, 8, 60), np.uint8)
    for k in range(6):
        for z in range(1, 8):
            cones[k, z, 1 : 3 + min(z, 8 - z), 10 * k + 1 : 10 * k + 4 + min(z, 8 - z)] = 1
    shuffled, rng = cones.copy(), np.random.default_rng(3)
    for z in range(9):
        shuffled[:, z] = cones[rng.permutation(6), z]
    link(shuffled)
    assert slice_sets(shuffled) == slice_sets(cones)
    assert sorted(mask.tobytes() for mask in shuffled) == sorted(mask.tobytes() for mask in cones)


def test_masks_without_a_mark_keep_their_order():
    assert np.array_equal(order_of(np.zeros((5, 3, 4, 4), np.uint8)), np.tile(np.arange(5), (3, 1)))


@pytest.mark.parametrize("start", [-1, 3])
def test_it_starts_in_a_slice_that_there_is(start):
    with pytest.raises(ValueError, match=f"start must be one of 3 slices, counted from 0, got {start}"):
        order_of(np.zeros((2, 3, 4, 4), np.uint8), start=start)


GRID = Geometry((16, 14, 6), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture(params=["axial", "coronal"])
def sampled(request):
    """How to sample a volume along a plane, and the view of masks by their slices there."""
    model = tiny_model(plane=request.param)
    volume = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)

    def sample(on_sample=None, **settings):
        settings = SampleRequest(4, slice_range=(1, 4), coherence_mm=0, **settings)
        return sample_volume(model, volume, GRID, settings, on_sample=on_sample)

    return sample, SliceAxes.of(GRID, request.param).view


def test_linked_samples_of_a_volume_are_its_slices_paired_anew(sampled):
    sample, by_slice = sampled
    told: list[tuple[int, bytes]] = []
    plain, linked = sample(), sample(lambda k, mask: told.append((k, mask.tobytes())), linked=True)
    assert slice_sets(by_slice(linked.masks)) == slice_sets(by_slice(plain.masks))
    assert not np.array_equal(linked.masks, plain.masks)
    expected = plain.masks.copy()
    link(by_slice(expected)[:, 1:5])
    assert np.array_equal(linked.masks, expected)
    assert told == list(enumerate(mask.tobytes() for mask in linked.masks))  # each as it is in the end
    assert linked.provenance["linked"] is True and plain.provenance["linked"] is False


def test_slices_around_a_point_are_not_linked():
    with pytest.raises(ValueError, match="Slices around a point cannot be linked.*give a region"):
        SampleRequest(pointing=Pointing((1.0, 2.0, 3.0)), linked=True)


def test_linked_samples_do_not_depend_on_the_batch(sampled):
    sample, _ = sampled
    one, other = (sample(linked=True, batch_size=size).masks for size in (3, 16))
    assert np.count_nonzero(one != other) <= 2  # pixels within rounding of the threshold
