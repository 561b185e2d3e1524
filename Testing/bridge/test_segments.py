"""Segments that are stored otherwise than this extension stores them."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import masks, tables  # noqa: E402
from AmbiguousSegBridge.scene.grid import ijk_to_ras  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set  # noqa: E402
from AmbiguousSegBridge.scene.segments import count_voxels, cut, labelmap_of, read_crop  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import PLAIN, input_volume, make_samples  # noqa: E402

from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


def test_a_sample_stored_as_a_surface_alone_is_not_an_empty_one(scene):
    run = add_sample_set(scene, make_samples(PLAIN), "run", input_volume(scene, PLAIN))
    segmentation = run.samples[1].GetSegmentation()
    assert segmentation.CreateRepresentation("Closed surface")
    segmentation.SetSourceRepresentationName("Closed surface")
    segmentation.RemoveRepresentation("Binary labelmap")
    for attempt in (
        lambda: masks.crops_of(run),
        lambda: count_voxels(run.samples[1], "sample_02"),
        lambda: tables.renew_volumes(scene, run),
    ):
        with pytest.raises(ValueError, match="'run - sample 02' has no labelmap, only: Closed surface. Create a"):
            attempt()


def test_an_empty_segment_marks_nothing(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().AddEmptySegment("labelmap")
    surfaces = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    surfaces.GetSegmentation().SetSourceRepresentationName("Closed surface")
    surfaces.GetSegmentation().AddSegment(slicer.vtkSegment(), "surface")
    surfaces.GetSegmentation().GetSegment("surface").RemoveAllRepresentations()
    for empty in (node, surfaces):
        (segment_id,) = empty.GetSegmentation().GetSegmentIDs()
        assert read_crop(empty, PLAIN).empty and count_voxels(empty, segment_id) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_labelmap_that_counts_its_voxels_from_the_other_end_is_cut_right(axis):
    mask = np.random.default_rng(axis).random(PLAIN.shape) < 0.2
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    direction, origin = np.eye(3), np.zeros(3)
    direction[axis, axis], origin[axis] = -1, PLAIN.size[axis] - 1
    other_end = Geometry(PLAIN.size, PLAIN.spacing_mm, tuple(origin), tuple(direction.ravel()))
    turned = labelmap_of(Crop.of(np.flip(mask, 2 - axis)), ijk_to_ras(other_end))
    crop, outside = cut(turned, 1, PLAIN)
    np.testing.assert_array_equal(crop.full(), mask)
    assert outside == 0
    part = Crop.of(np.flip(mask, 2 - axis)[1:4, 2:7, 3:9])  # a box of its own, not the grid's
    placed = Crop(part.voxels, tuple(a + b for a, b in zip(part.start, (1, 2, 3))), PLAIN.shape)
    crop, outside = cut(labelmap_of(placed, ijk_to_ras(other_end)), 1, PLAIN)
    np.testing.assert_array_equal(np.flip(crop.full(), 2 - axis), placed.full())
    assert outside == 0
