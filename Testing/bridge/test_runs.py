"""Runs found in a scene, read back, renewed, renamed, removed, and used as ordinary segmentations."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import runs  # noqa: E402
from AmbiguousSegBridge.scene.grid import geometry_of  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of, map_array  # noqa: E402
from AmbiguousSegBridge.scene.run_node import Kind, attach, origin_of, references  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, read_sample, save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import (  # noqa: E402
    MIRRORED,
    OBLIQUE,
    PLAIN,
    hierarchy_of,
    input_volume,
    make_samples,
    node_names,
)
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
def test_runs_are_found_in_a_loaded_scene_and_read_back(scene, tmp_path, geometry):
    samples = make_samples(geometry)
    add_sample_set(scene, samples, "first", input_volume(scene, geometry))
    add_sample_set(scene, SampleSet(samples.masks[:2], geometry), "second")
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    first, second = runs.find_runs(loaded)
    assert (first.name, second.name) == ("first", "second")
    assert first.input is loaded.GetFirstNodeByName("scan") and second.input is None
    assert first.provenance == samples.provenance and first.label_names == ["nodule"]
    assert first.geometry.same_grid(geometry_of(first.input))
    assert first.geometry.same_grid(geometry) == (geometry is not MIRRORED)  # Slicer reads volumes as right-handed ones
    masks = samples.masks[:, ::-1] if geometry is MIRRORED else samples.masks
    assert hierarchy_of(loaded).GetItemName(first.folder_item) == "first"
    for crop, mask in zip(crops_of(first), masks, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)
    np.testing.assert_array_equal(map_array(first.mean), masks.mean(axis=0, dtype=np.float32))
    block = crops_of(first)[1]
    assert block.start == ((3 if geometry is MIRRORED else 2), 3, 4) and block.voxels.shape == (2, 5, 5)
    for node in (first.mean, first.consensus, first.samples[0], first.tables["volumes"]):
        assert runs.find_run_of(loaded, node) == first
    assert runs.find_run_of(loaded, first.input) is None


def test_a_run_misses_what_the_user_deleted(scene):
    samples = make_samples()
    run = add_sample_set(scene, samples, "run", input_volume(scene))
    for gone in (run.samples[0], run.mean, run.consensus, run.input):
        scene.RemoveNode(gone)
    assert runs.find_run_of(scene, run.mean) is None
    (found,) = runs.find_runs(scene)
    assert found.samples == run.samples[1:] and found.mean is found.consensus is found.input is None
    with pytest.raises(ValueError, match="no longer has a mean map"):
        runs.set_consensus_threshold(scene, found, 0.5)
    renewed = runs.renew_maps(scene, found, 0.2)
    rest = SampleSet(samples.masks[1:], OBLIQUE)
    assert renewed.variances[0] is run.variances[0] and renewed.folder_item == run.folder_item
    np.testing.assert_array_equal(map_array(renewed.mean), rest.mean())
    np.testing.assert_array_equal(map_array(renewed.variances[0]), rest.variance())
    np.testing.assert_array_equal(read_sample(renewed.consensus), rest.consensus(0.2))
    assert renewed.consensus.GetSegmentation().GetSegment("consensus").GetTerminology() == (
        run.samples[1].GetSegmentation().GetNthSegment(0).GetTerminology()
    )
    for node in renewed.samples:
        scene.RemoveNode(node)
    (found,) = runs.find_runs(scene)
    assert found.samples == () and found.mean is renewed.mean and found.geometry.same_grid(OBLIQUE)
    with pytest.raises(ValueError, match="No sample"):
        runs.renew_maps(scene, found)
    scene.RemoveNode(found.mean)
    assert runs.find_runs(scene) == []


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.99])
def test_consensus_follows_the_threshold(scene, threshold):
    samples = make_samples()
    run = add_sample_set(scene, samples, "run")
    seen = []
    segmentation = run.consensus.GetSegmentation()
    segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: seen.append(1))
    runs.set_consensus_threshold(scene, run, threshold)
    np.testing.assert_array_equal(read_sample(run.consensus), samples.consensus(threshold))
    assert len(seen) == 1  # views draw it anew, once
    assert runs.find_runs(scene)[0].consensus_threshold == threshold
    assert segmentation.GetNumberOfSegments() == 1
    with pytest.raises(ValueError, match="threshold"):
        runs.set_consensus_threshold(scene, run, 1.0)


def test_consensus_comes_back_from_nothing_and_leaves_added_segments_alone(scene):
    run = add_sample_set(scene, make_samples(), "run")
    runs.set_consensus_threshold(scene, run, 0.99)
    assert not read_sample(run.consensus).any()
    run.consensus.GetSegmentation().AddEmptySegment("own", "own")
    runs.set_consensus_threshold(scene, run, 0.1)
    np.testing.assert_array_equal(read_sample(run.consensus, segment_id="consensus"), make_samples().consensus(0.1))
    run.consensus.GetSegmentation().RemoveSegment("consensus")
    runs.set_consensus_threshold(scene, run, 0.3)
    np.testing.assert_array_equal(read_sample(run.consensus, segment_id="consensus"), make_samples().consensus(0.3))
    assert run.consensus.GetSegmentation().GetSegmentIDs() == ("own", "consensus")


def test_a_surface_that_is_shown_follows_the_consensus(scene):
    masks = np.zeros((2, *PLAIN.shape), bool)
    masks[:, 2:5, 2:5, 2:5] = True
    masks[1, 2:5, 2:5, 2:10] = True
    run = add_sample_set(scene, SampleSet(masks, PLAIN), "run")
    run.consensus.CreateClosedSurfaceRepresentation()

    def length() -> float:  # along x, from face to face of the voxels
        bounds = run.consensus.GetClosedSurfaceInternalRepresentation("consensus").GetBounds()
        return bounds[1] - bounds[0]

    before = length()
    runs.set_consensus_threshold(scene, run, 0.4)
    assert length() - before == pytest.approx(5, abs=1.5)  # smoothing shrinks small surfaces


def test_renamed_it_is_the_same_run(scene):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    add_sample_set(scene, make_samples(), "other", volume)
    run.samples[0].SetName("my favourite")
    renamed = runs.rename_run(scene, run, "patient 7")
    assert renamed == runs.find_runs(scene)[0] and renamed.name == "patient 7"
    assert renamed.samples == run.samples and renamed.samples[0].GetName() == "my favourite"
    assert renamed.samples[1].GetName() == "patient 7 - sample 02" and renamed.mean.GetName() == "patient 7 - mean"
    assert hierarchy_of(scene).GetItemName(run.folder_item) == "patient 7"
    for name, why in (("other", "already a run"), ("  ", "needs a name")):
        with pytest.raises(ValueError, match=why):
            runs.rename_run(scene, renamed, name)
    assert runs.rename_run(scene, renamed, "patient 7") is renamed
    again = add_sample_set(scene, make_samples(), "patient 7", volume)
    assert again.folder_item == run.folder_item and len(runs.find_runs(scene)) == 2


def test_names_are_unique_on_an_input(scene):
    volume, other = input_volume(scene), input_volume(scene, name="other")
    for expected in ("scan samples", "scan samples 2", "scan samples 3"):
        assert runs.unique_run_name(scene, "scan samples", volume) == expected
        add_sample_set(scene, make_samples(), expected, volume)
    assert runs.unique_run_name(scene, "scan samples", other) == "scan samples"
    assert runs.unique_run_name(scene, "scan samples", None) == "scan samples"


def test_removed_it_leaves_the_scene_as_it_was(scene):
    volume = input_volume(scene)
    kept = add_sample_set(scene, make_samples(), "kept", volume)
    before, items = node_names(scene), hierarchy_of(scene).GetNumberOfItems()
    runs.remove_run(scene, add_sample_set(scene, make_samples(), "run", volume))
    assert node_names(scene) == before and hierarchy_of(scene).GetNumberOfItems() == items
    assert runs.find_runs(scene) == [kept]


def test_a_folder_into_which_the_user_put_something_stays(scene):
    run = add_sample_set(scene, make_samples(), "run")
    own = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "own")
    item = hierarchy_of(scene).CreateItem(run.folder_item, own)
    runs.remove_run(scene, run)
    assert hierarchy_of(scene).GetItemParent(item) == run.folder_item and scene.IsNodePresent(own)


def test_two_runs_whose_inputs_were_deleted_are_not_mixed(scene):
    volumes = [input_volume(scene), input_volume(scene)]
    made = [add_sample_set(scene, make_samples(), "run", volume) for volume in volumes]
    for volume in volumes:
        scene.RemoveNode(volume)
    assert [run.samples for run in runs.find_runs(scene)] == [run.samples for run in made]
    runs.remove_run(scene, runs.find_runs(scene)[0])
    assert [run.nodes for run in runs.find_runs(scene)] == [made[1].nodes]


def test_used_as_a_segmentation_it_is_an_ordinary_one(scene):
    volume = input_volume(scene)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    run = add_sample_set(scene, make_samples(), "run", volume)
    node = runs.use_as_segmentation(scene, run, run.samples[1])
    assert node.GetName() == "nodule, from sample 02"
    np.testing.assert_array_equal(read_sample(node), make_samples().masks[1])
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "nodule"
    source = run.samples[1].GetSegmentation().GetNthSegment(0)
    assert node.GetSegmentation().GetNthSegment(0).GetColor() == source.GetColor()
    assert "Lesion" in node.GetSegmentation().GetNthSegment(0).GetTerminology()
    assert node.GetTransformNodeID() == transform.GetID()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    center = np.zeros(3)
    run.samples[1].GetSegmentCenterRAS("sample_02", center)
    np.testing.assert_allclose(node.GetSegmentCenterRAS("nodule"), center)
    assert not [name for name in node.GetAttributeNames() if name.startswith("AmbiguousSeg")]
    hierarchy = hierarchy_of(scene)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == hierarchy.GetItemParent(run.folder_item)
    labelmap = node.GetBinaryLabelmapInternalRepresentation("nodule")
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = 0  # an edit
    np.testing.assert_array_equal(read_sample(run.samples[1]), make_samples().masks[1])
    runs.remove_run(scene, run)
    assert scene.IsNodePresent(node)
    consensus = add_sample_set(scene, make_samples(), "run", None)
    named = runs.use_as_segmentation(scene, consensus, consensus.consensus, "mine")
    assert named.GetName() == "mine"
    np.testing.assert_array_equal(read_sample(named), make_samples().consensus())


def test_other_code_attaches_nodes_and_notes_that_go_with_the_run(scene, tmp_path):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    assert not run.bears_work
    surface = scene.AddNewNodeByClass("vtkMRMLModelNode", "surface; of: sample 01")
    attach(run.node, "surface; of: sample 01", surface)
    run.node.SetAttribute("AmbiguousSeg.Review", '{"decision": "sample 01"}')
    with pytest.raises(ValueError, match="has a node 'surface; of: sample 01' already"):
        attach(run.node, "surface; of: sample 01", scene.AddNewNodeByClass("vtkMRMLModelNode", "another"))
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (found,) = runs.find_runs(loaded)
    surface = loaded.GetFirstNodeByName("surface; of: sample 01")
    assert found.nodes["surface; of: sample 01"] is surface and runs.find_run_of(loaded, surface) == found
    assert found.node.GetAttribute("AmbiguousSeg.Review") == '{"decision": "sample 01"}' and found.bears_work
    runs.remove_run(loaded, found)
    assert not loaded.IsNodePresent(surface) and not loaded.IsNodePresent(found.node)


def test_the_node_refers_to_everything_by_kind(scene):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    assert [
        references(run.node, kind) for kind in (Kind.SAMPLES, Kind.MEANS, Kind.CONSENSUS, "AmbiguousSeg.Input")
    ] == [
        [*run.samples],
        [run.mean],
        [run.consensus],
        [volume],
    ]
    assert {node for kind in Kind for node in references(run.node, kind)} == {*run.nodes.values()}
    assert origin_of(run.node) is volume
    scene.RemoveNode(volume)
    assert origin_of(run.node) == "scan"
