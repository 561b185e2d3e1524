"""Crops and boxes against what numpy finds in the whole array."""

from __future__ import annotations

import json

import numpy as np
import pytest

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack

SHAPE = (5, 7, 6)
RNG = np.random.default_rng(11)


def block(*spans, shape=SHAPE, value=1):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*span) for span in spans)] = value
    return mask


NOTHING, A, B = block((0, 0)), block((1, 3), (2, 5), (0, 4)), block((2, 5), (1, 3), (3, 6))


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_box_of_any_number_of_axes(axes, kind):
    for _ in range(30):
        array = (RNG.random((6, 5, 4, 3)[:axes]) < 0.05) * RNG.integers(1, 9)
        found = bounding_box(array.astype(kind))
        if not array.any():
            assert found is None
            continue
        places = np.argwhere(array)
        assert found == tuple(slice(int(a), int(b) + 1) for a, b in zip(places.min(0), places.max(0)))


def test_box_of_what_reaches_the_edges_and_of_no_voxels():
    assert bounding_box(np.ones((2, 3))) == (slice(0, 2), slice(0, 3))
    assert bounding_box(np.ones((0, 3))) is None
    assert bounding_box(A[::-1, :, ::2]) == (slice(2, 4), slice(2, 5), slice(0, 2))


@pytest.mark.parametrize("mask", [A, B, A + 2 * (B * (A == 0)), NOTHING, np.ones(SHAPE, np.uint8)])
def test_a_crop_is_its_mask(mask, tmp_path):
    crop = Crop.of(mask)
    np.testing.assert_array_equal(crop.full(), mask)
    assert crop.empty == (not mask.any()) and crop.shape == SHAPE
    if mask.any():
        assert np.shares_memory(crop.voxels, mask) and not np.shares_memory(crop.copy().voxels, mask)
        np.testing.assert_array_equal(mask[crop.box], crop.voxels)
    np.testing.assert_array_equal(crop.within(tuple(slice(0, n) for n in SHAPE)), mask)
    place = json.loads(json.dumps(crop.save(tmp_path / "c.npy")))
    assert Crop.load(tmp_path / "c.npy", place).same(crop) and crop.same(crop.copy())


def test_a_bool_mask_is_a_crop_of_one_class():
    assert Crop.of(A.view(bool)).same(Crop.of(A)) and Crop.of(A.view(bool)).voxels.dtype == np.uint8
    with pytest.raises(ValueError, match="uint8"):
        Crop.of(A.astype(np.int32))


def test_boxes_that_do_not_lie_in_the_grid_are_refused():
    for start, shape in (((-1, 0, 0), SHAPE), ((0, 0, 5), SHAPE), ((0, 0, 0), (1, 7, 6))):
        with pytest.raises(ValueError, match="does not lie in a grid"):
            Crop(np.zeros((2, 2, 2), np.uint8), start, shape)
    with pytest.raises(ValueError, match=r"uint8 \(z, y, x\), got bool"):
        Crop(np.zeros((2, 2, 2), bool), (0, 0, 0), SHAPE)


def test_classes_apart_and_together():
    halo = B * (A == 0)
    label_map = A + 2 * halo
    crop = Crop.of(label_map)
    assert crop.of_class(1).same(Crop.of(A)) and crop.of_class(2).same(Crop.of(halo))
    assert crop.of_class(3).empty and crop.of_class(3).same(Crop.of(NOTHING))
    assert Crop.merged([crop.of_class(1), crop.of_class(2)]).same(crop)
    assert Crop.merged([Crop.of(NOTHING), Crop.of(A)]).same(Crop.of(2 * A))
    assert Crop.merged([Crop.nothing(SHAPE)] * 2).same(Crop.nothing(SHAPE))
    assert Crop.merged([Crop.of(7 * A)]).same(Crop.of(A))  # whatever is not 0 marks it
    own = Crop.of(A)
    assert own.of_class(1) is own


def test_classes_that_overlap_are_refused_with_their_names():
    shared = int((A * B).sum())
    assert shared
    with pytest.raises(ValueError, match=f"core and halo overlap in {shared} voxels, but a voxel is of one class"):
        Crop.merged([Crop.of(A), Crop.nothing(SHAPE), Crop.of(B)], ["core", "rim", "halo"])
    with pytest.raises(ValueError, match="class 1 and class 2 overlap"):
        Crop.merged([Crop.of(A), Crop.of(B)])


def test_a_crop_placed_on_a_larger_grid():
    large = np.zeros((9, 9, 9), np.uint8)
    large[2:7, 1:8, 3:9] = A
    assert Crop.of(A).placed((2, 1, 3), large.shape).same(Crop.of(large))
    assert Crop.of(NOTHING).placed((2, 1, 3), large.shape).same(Crop.nothing(large.shape))


def test_joint_boxes():
    crops = [Crop.of(A), Crop.of(NOTHING), Crop.of(B)]
    box = joint_box(crops)
    assert box == bounding_box(A | B)
    np.testing.assert_array_equal(stack(crops, box), np.stack([A, NOTHING, B])[(slice(None), *box)])
    assert joint_box([Crop.of(NOTHING)]) is None and joint_box([]) is None
