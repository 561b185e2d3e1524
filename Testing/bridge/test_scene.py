"""Samples in the MRML scene: read back voxel by voxel, placed by hand, replaced, undone."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import run_writer  # noqa: E402
from AmbiguousSegBridge.scene import sample_sets as bridge  # noqa: E402
from AmbiguousSegBridge.scene.grid import geometry_from, geometry_of, ijk_to_ras, read_channels  # noqa: E402
from AmbiguousSegBridge.scene.run_node import sample_index  # noqa: E402
from AmbiguousSegBridge.scene.run_writer import sample_colour  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import (  # noqa: E402
    MIRRORED,
    MODEL_NAME,
    OBLIQUE,
    PLAIN,
    SIZE,
    hierarchy_of,
    input_volume,
    make_samples,
    node_classes,
    node_names,
)
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

from AmbiguousSegLib.boxes import bounding_box  # noqa: E402
from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
def test_masks_come_back_voxel_by_voxel(scene, geometry):
    samples = make_samples(geometry)
    volume = input_volume(scene, geometry)
    run = bridge.add_sample_set(scene, samples, "run", volume)
    assert len(run.samples) == len(samples)
    for node, mask in zip(run.samples, samples.masks):
        np.testing.assert_array_equal(bridge.read_sample(node), mask)
        np.testing.assert_array_equal(bridge.read_sample(node, geometry), mask)
        segment_id = node.GetSegmentation().GetNthSegmentID(0)
        if mask.any():  # second opinion: Slicer's own way of reading a segment on the volume's grid
            array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
            np.testing.assert_array_equal(array.astype(bool), mask)
    np.testing.assert_array_equal(bridge.read_sample(run.consensus), samples.consensus())


def test_only_the_bounding_box_is_stored(scene):
    run = bridge.add_sample_set(scene, make_samples(), "run")
    labelmap = run.samples[1].GetBinaryLabelmapInternalRepresentation("sample_02")
    assert labelmap.GetExtent() == (4, 8, 3, 7, 2, 3)


def test_maps_come_back_as_float_with_their_own_colours_and_window(scene):
    samples = make_samples()
    run = bridge.add_sample_set(scene, samples, "run", input_volume(scene))
    (mean, variance), geometry = read_channels([run.mean, run.variances[0]])
    assert geometry.same_grid(OBLIQUE)
    np.testing.assert_array_equal(mean, samples.mean())
    np.testing.assert_array_equal(variance, samples.variance())
    assert run.mean.GetImageData().GetScalarTypeAsString() == "float"
    displays = [node.GetDisplayNode() for node in (run.mean, run.variances[0])]
    assert [(d.GetWindowLevelMin(), d.GetWindowLevelMax()) for d in displays] == [(0, 1), (0, 0.25)]
    assert not any(d.GetAutoWindowLevel() for d in displays)
    colours = [d.GetColorNode() for d in displays]
    assert colours[0] is not colours[1] and all(c.GetNumberOfColors() == 256 for c in colours)


def test_displayed_pixels_span_the_colour_table_and_zero_is_transparent(scene):
    masks = np.zeros((2, *PLAIN.shape), bool)
    masks[:, 0, 0, 0] = True  # mean 1
    masks[0, 0, 0, 1] = True  # mean 0.5
    display = bridge.add_sample_set(scene, SampleSet(masks, PLAIN), "run").mean.GetDisplayNode()
    producer = display.GetImageDataConnection().GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(0)
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*PLAIN.shape, 4)
    np.testing.assert_allclose(rgba[0, 0, 0, :3], np.multiply(255, (0.99, 0.91, 0.14)), atol=2)
    np.testing.assert_allclose(rgba[0, 0, 1, :3], np.multiply(255, (0.13, 0.57, 0.55)), atol=4)
    assert rgba[0, 0, 0, 3] == rgba[0, 0, 1, 3] == 255
    assert not rgba[1:, ..., 3].any()


def test_a_voxel_lies_where_the_hand_puts_it(scene):
    # Index (i, j, k) = (4, 5, 6), spacing (2, 3, 4), first axis along +y of LPS, second along -x, third along +z:
    # LPS = (10, 20, 30) + 4·2·(0, 1, 0) + 5·3·(-1, 0, 0) + 6·4·(0, 0, 1) = (-5, 28, 54), so RAS = (5, -28, 54).
    geometry = Geometry(SIZE, (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), (0.0, -1, 0, 1, 0, 0, 0, 0, 1))
    masks = np.zeros((1, *geometry.shape), bool)
    masks[0, 6, 5, 4] = True
    run = bridge.add_sample_set(scene, SampleSet(masks, geometry), "run")
    np.testing.assert_allclose(run.samples[0].GetSegmentCenterRAS("sample_01"), (5, -28, 54), atol=1e-9)
    assert ijk_to_ras(geometry).MultiplyPoint((4, 5, 6, 1)) == (5, -28, 54, 1)
    assert geometry.image(masks[0]).TransformIndexToPhysicalPoint((4, 5, 6)) == (-5, 28, 54)


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
def test_grid_survives_the_way_to_mrml_and_back(scene, geometry):
    assert geometry_of(input_volume(scene, geometry)).same_grid(geometry, tolerance_mm=1e-9)


def test_channels_of_different_grids_or_sheared_axes_are_refused(scene):
    with pytest.raises(ValueError, match="different grids"):
        read_channels([input_volume(scene, PLAIN, "t1"), input_volume(scene, MIRRORED, "t2")])
    sheared = vtk.vtkMatrix4x4()
    sheared.SetElement(0, 2, 0.3)
    with pytest.raises(ValueError, match="not perpendicular"):
        geometry_from(sheared, SIZE)
    with pytest.raises(ValueError, match="holds no voxels"):
        read_channels([scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")])
    with pytest.raises(ValueError, match="No volume"):
        read_channels([])


def test_channels_are_copied_as_float32_in_order(scene):
    first = input_volume(scene, name="t1")
    second = bridge.add_volume(scene, np.ones(OBLIQUE.shape, np.uint8), OBLIQUE, "t2")
    volume, geometry = read_channels([first, second])
    assert volume.dtype == np.float32 and geometry.same_grid(OBLIQUE)
    np.testing.assert_array_equal(volume[0].ravel(), np.arange(np.prod(SIZE)))
    assert (volume[1] == 1).all()
    volume[:] = -1
    assert vtk_to_numpy(second.GetImageData().GetPointData().GetScalars()).min() == 1


def test_reference_transform_terminology_and_names(scene):
    volume = input_volume(scene)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    run = bridge.add_sample_set(scene, make_samples(), "run", volume)
    for node in (*run.samples, run.mean, run.variances[0], run.consensus):
        assert node.GetTransformNodeID() == transform.GetID()
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for index, (node, mask) in enumerate(zip(run.samples, make_samples().masks)):
        assert node.GetNodeReference(role) is volume
        np.testing.assert_array_equal(bridge.read_sample(node), mask)  # the reference geometry is not moved twice
        segment = node.GetSegmentation().GetSegment(f"sample_{index + 1:02d}")
        assert segment.GetName() == f"nodule, sample {index + 1:02d}"
        np.testing.assert_allclose(segment.GetColor(), sample_colour(index))
        assert "SCT^52988006^Lesion" in segment.GetTerminology()
    center = run.samples[3].GetSegmentCenterRAS("sample_04")  # the corner voxel, moved 100 mm to the right
    expected = np.array(ijk_to_ras(OBLIQUE).MultiplyPoint((12, 10, 6, 1))[:3]) + np.array([100, 0, 0])
    np.testing.assert_allclose(center, expected, atol=1e-6)


def test_the_run_node_says_what_made_it_and_each_node_what_it_is(scene):
    run = bridge.add_sample_set(scene, make_samples(), "run", input_volume(scene))
    assert run.node.GetName() == "run" and json.loads(run.node.GetAttribute("AmbiguousSeg.Provenance")) == {
        "seed": 7,
        "model": {"name": MODEL_NAME},
    }
    assert run.samples[2].GetAttribute("AmbiguousSeg.Role") == "sample 03"


def test_eight_more_samples_go_on_counting(scene):
    more = SampleSet(make_samples().masks, OBLIQUE, {"first_sample": 8})
    node = bridge.add_sample_set(scene, more, "run").samples[0]
    assert node.GetName() == "run - sample 09" and sample_index(node) == 8
    np.testing.assert_allclose(node.GetSegmentation().GetSegment("sample_09").GetColor(), sample_colour(8))


def test_colours_are_far_apart_and_do_not_depend_on_the_number():
    colours = np.array([sample_colour(index) for index in range(16)])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
    assert min(distances) > 0.25
    assert ((colours >= 0) & (colours <= 1)).all()


def test_one_folder_per_run_beside_the_input(scene):
    hierarchy = hierarchy_of(scene)
    volume = input_volume(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    run = bridge.add_sample_set(scene, make_samples(), "run", volume)
    assert hierarchy.GetItemName(run.folder_item) == "run" and hierarchy.GetItemParent(run.folder_item) == study
    for node in (*run.samples, run.mean, run.variances[0], run.consensus):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == run.folder_item


def test_a_run_again_replaces_its_own_outputs_and_nothing_else(scene):
    volume, other = input_volume(scene), input_volume(scene, name="other")
    first = bridge.add_sample_set(scene, make_samples(), "run", volume)
    kept = [
        bridge.add_sample_set(scene, make_samples(), "second run", volume),
        bridge.add_sample_set(scene, make_samples(), "run", other),
        bridge.add_sample_set(scene, make_samples(), "run", None),
    ]
    users_own = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "run - sample 01")
    before = node_classes(scene)
    fewer = SampleSet(make_samples().masks[:2], OBLIQUE)
    again = bridge.add_sample_set(scene, fewer, "run", volume)
    for gone in (*first.samples, first.mean, first.variances[0], first.consensus):
        assert not scene.IsNodePresent(gone)
    for node in (
        users_own,
        *(node for run in kept for node in (*run.samples, run.mean, run.variances[0], run.consensus)),
    ):
        assert scene.IsNodePresent(node)
    assert again.folder_item == first.folder_item
    assert hierarchy_of(scene).GetNumberOfItemChildren(again.folder_item) == 7  # 2 samples, 3 maps, table, histogram
    bridge.add_sample_set(scene, make_samples(), "run", volume)
    assert node_classes(scene) == before  # display and storage nodes do not pile up


def test_a_run_whose_input_was_deleted_is_not_taken_for_one_without_input(scene):
    volume = input_volume(scene)
    first = bridge.add_sample_set(scene, make_samples(), "run", volume)
    scene.RemoveNode(volume)
    second = bridge.add_sample_set(scene, make_samples(), "run", None)
    assert scene.IsNodePresent(first.mean)
    runs = find_runs(scene)
    assert [run.samples for run in runs] == [first.samples, second.samples] and runs[0].input is None


def test_failure_leaves_the_scene_as_it_was(scene, monkeypatch):
    volume = input_volume(scene)
    first = bridge.add_sample_set(scene, make_samples(), "run", volume)
    before, items = node_names(scene), hierarchy_of(scene).GetNumberOfItems()
    for name in ("run", "new run"):
        with pytest.raises(ValueError, match="threshold"):
            bridge.add_sample_set(scene, make_samples(), name, volume, consensus_threshold=2.0)
        assert node_names(scene) == before and hierarchy_of(scene).GetNumberOfItems() == items
    monkeypatch.setattr(run_writer, "add_segment", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bridge.add_sample_set(scene, make_samples(), "run", volume)
    assert node_names(scene) == before and scene.IsNodePresent(first.mean)


def test_what_does_not_fit_is_refused(scene):
    volume = input_volume(scene, PLAIN)
    with pytest.raises(ValueError, match="do not lie on the grid of volume 'scan'"):
        bridge.add_sample_set(scene, make_samples(OBLIQUE), "run", volume)
    with pytest.raises(ValueError, match="needs a name"):
        bridge.add_sample_set(scene, make_samples(PLAIN), " ", volume)
    run = bridge.add_sample_set(scene, make_samples(PLAIN), "run", volume)
    with pytest.raises(ValueError, match="has the segments"):
        bridge.read_sample(run.samples[0], segment_id="nobody")
    with pytest.raises(ValueError, match="elsewhere than the grid"):
        bridge.read_sample(run.samples[0], OBLIQUE)
    smaller = Geometry((5, 5, 5), PLAIN.spacing_mm, PLAIN.origin_mm, PLAIN.direction)
    with pytest.raises(ValueError, match="extends beyond the grid"):
        bridge.read_sample(run.samples[1], smaller)
    with pytest.raises(ValueError, match="no reference geometry"):
        bare = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
        bare.GetSegmentation().AddEmptySegment("only", "only")
        bridge.read_sample(bare)


def test_bounding_box_of_nothing_one_voxel_and_everything():
    mask = np.zeros((3, 4, 5), bool)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[0, 3, 0] = mask[2, 0, 4] = True
    assert bounding_box(mask) == (slice(0, 3), slice(0, 4), slice(0, 5))
