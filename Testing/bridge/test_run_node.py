"""Which nodes are a run's own: not copies of them, not those of another scene that was imported, not orphans."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import runs, views  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import read_mask  # noqa: E402
from AmbiguousSegBridge.scene.raters import candidates  # noqa: E402
from AmbiguousSegBridge.scene.run_node import ARRIVING, Kind, owned, references, run_nodes  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import OBLIQUE, input_volume, make_samples  # noqa: E402

from AmbiguousSegLib.volume.crops import Crop  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


def cloned(scene, node):
    """As the module Data clones a node: it has the attributes, and no references."""
    copy = scene.AddNewNodeByClass(node.GetClassName())
    copy.CopyContent(node)
    copy.CreateDefaultDisplayNodes()
    copy.SetName(f"{node.GetName()} Copy")
    return copy


def copied(scene, node):
    """As scripts and older functions of Slicer copy a node: with attributes and references."""
    copy = scene.AddNewNodeByClass(node.GetClassName())
    copy.Copy(node)
    return copy


in_both_ways = pytest.mark.parametrize("duplicate", [cloned, copied])


@in_both_ways
@pytest.mark.parametrize("with_input", [True, False])
def test_copies_of_a_runs_nodes_are_no_run(scene, duplicate, with_input):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    if not with_input:
        scene.RemoveNode(volume)
        (run,) = runs.find_runs(scene)
    copies = [duplicate(scene, node) for node in (run.mean, run.variances[0], run.consensus, *run.samples)]
    assert runs.find_runs(scene) == [run]
    assert not [copy for copy in copies if runs.find_run_of(scene, copy) is not None or copy.GetID() in owned(scene)]
    runs.remove_run(scene, run)
    assert runs.find_runs(scene) == [] and all(scene.IsNodePresent(copy) for copy in copies)


@in_both_ways
def test_a_copy_does_not_take_the_place_of_the_original(scene, duplicate, tmp_path):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    copy = duplicate(scene, run.samples[2])
    scene.RemoveNode(run.samples[2])
    assert runs.find_runs(scene)[0].samples == (*run.samples[:2], *run.samples[3:])
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    for clear in (True, False):
        assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"), clear, None)
    assert [len(found.samples) for found in runs.find_runs(loaded)] == [4, 4]
    assert scene.IsNodePresent(copy)


@in_both_ways
def test_a_copied_sample_is_an_ordinary_segmentation(scene, duplicate):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    copy = duplicate(scene, run.samples[1])
    if copy.GetDisplayNode() is run.samples[1].GetDisplayNode():  # a reference that was copied
        copy.SetAndObserveDisplayNodeID(None)
        copy.CreateDefaultDisplayNodes()
    copy.SetDisplayVisibility(True)
    views.show_sample(scene, run, 0)
    assert copy.GetDisplayVisibility() and not run.samples[1].GetDisplayVisibility()
    assert [rater.node for rater in candidates(scene)] == [copy]


def test_a_copied_map_stays_in_the_views_when_a_run_is_hidden(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    copy = cloned(scene, run.mean)
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    for shown, left in ((copy, copy.GetID()), (run.mean, None)):
        composite.SetForegroundVolumeID(shown.GetID())
        views.hide_runs(scene)
        assert composite.GetForegroundVolumeID() == left


def test_a_copy_of_an_arriving_sample_is_none(scene):
    live = LiveRun(scene, OBLIQUE, "run", input_volume(scene))
    sample = live.add(0, Crop.of(make_samples().masks[1]))
    copy = cloned(scene, sample)
    assert list(owned(scene).values()) == views.masks_of_runs(scene) == [sample] and copy is not sample
    assert live.complete({}).samples == (sample,)


@pytest.mark.parametrize("given", ["an input", "no input", "an input that was deleted"])
def test_scenes_imported_on_top_of_each_other_keep_their_runs_apart(scene, tmp_path, given):
    volume = None if given == "no input" else input_volume(scene)
    add_sample_set(scene, make_samples(), "run", volume)
    if given == "an input that was deleted":
        scene.RemoveNode(volume)
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    for clear in (True, False, False):
        assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"), clear, None)
    found = runs.find_runs(loaded)
    assert [(run.name, len(run.samples), len(run.nodes)) for run in found] == [("run", 5, len(found[0].nodes))] * 3
    assert len({node.GetID() for run in found for node in run.nodes.values()}) == 3 * len(found[0].nodes)
    assert all((run.input is None) == (given != "an input") for run in found)
    runs.remove_run(loaded, found[1])
    assert [run.nodes for run in runs.find_runs(loaded)] == [found[0].nodes, found[2].nodes]


def test_a_run_without_input_stays_one_when_its_mean_is_made_anew(scene):
    run = add_sample_set(scene, make_samples(), "run")
    scene.RemoveNode(run.mean)
    (bare,) = runs.find_runs(scene)
    assert bare.mean is None and bare.samples == run.samples
    renewed = runs.renew_maps(scene, bare)
    assert runs.find_runs(scene) == [renewed] and renewed.samples == run.samples
    assert set(renewed.nodes) == set(run.nodes)
    renamed = runs.rename_run(scene, renewed, "patient 7")
    assert runs.find_runs(scene) == [renamed] and len(renamed.nodes) == len(run.nodes)


def test_undone_a_run_is_as_before(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    scene.SetUndoOn()
    for node in run.nodes.values():
        node.SetUndoEnabled(True)
    removed = run.samples[2].GetID()
    scene.SaveStateForUndo()
    scene.RemoveNode(run.samples[2])
    scene.Undo()
    (found,) = runs.find_runs(scene)
    assert [node.GetID() for node in found.samples] == [node.GetID() for node in run.samples]
    np.testing.assert_array_equal(
        read_mask(scene.GetNodeByID(removed), found.geometry, found.labels).full(), make_samples().masks[2]
    )


def test_nodes_of_a_run_that_is_removed_are_freed(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    freed, expected = set(), {*run.nodes, "the run"}
    for role, node in [*run.nodes.items(), ("the run", run.node)]:
        node.AddObserver("DeleteEvent", lambda *_, role=role: freed.add(role))
    runs.remove_run(scene, run)
    del node, run
    assert freed == expected


def test_what_was_saved_while_it_arrived_belongs_to_nobody_beside_a_run_under_way_too(scene, tmp_path):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    live = LiveRun(scene, OBLIQUE, "another", volume)
    sample = live.add(0, Crop.of(make_samples().masks[1]))
    save_scene(scene, tmp_path / "scene.mrb")
    assert [node.GetName() for node in run_nodes(scene, ARRIVING)] == ["another"]
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), False, None)
    (_, orphan) = slicer.util.getNodes("another - sample 01*", scene=scene, useLists=True)["another - sample 01"]
    assert [rater.node for rater in candidates(scene)] == [orphan]
    assert sample in views.masks_of_runs(scene) and orphan not in views.masks_of_runs(scene)
    done = live.complete({})
    assert done.samples == (sample,) and run_nodes(scene, ARRIVING) == []
    assert [found.name for found in runs.find_runs(scene)] == ["run", "another", "run"]
    assert runs.find_runs(scene)[0] == run


def test_a_sample_whose_removal_is_undone_lies_where_it_lay_among_the_samples(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    scene.SetUndoOn()
    for node in run.samples:  # the run's own node always takes part
        node.SetUndoEnabled(True)
    scene.SaveStateForUndo()
    scene.RemoveNode(run.samples[0])
    assert len(runs.find_runs(scene)[0].samples) == 4
    scene.Undo()
    (found,) = runs.find_runs(scene)
    assert [node.GetName() for node in found.samples] == [f"run - sample 0{number}" for number in range(1, 6)]


def test_a_folder_cloned_in_the_module_data_is_no_run(scene, tmp_path):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    clone = slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem
    folder = clone(hierarchy, run.folder_item, "run Copy")
    for node in run.samples:
        copy = clone(hierarchy, hierarchy.GetItemByDataNode(node), f"{node.GetName()} Copy")
        hierarchy.SetItemParent(copy, folder or run.folder_item)
    copies = slicer.util.getNodes("run - sample* Copy", scene=scene)
    assert len(copies) == 5 and runs.find_runs(scene) == [run]
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (found,) = runs.find_runs(loaded)
    assert [node.GetName() for node in found.samples] == [node.GetName() for node in run.samples]
    runs.remove_run(loaded, found)
    assert len(slicer.util.getNodes("run - sample* Copy", scene=loaded)) == 5


def test_names_that_the_user_gives_change_nothing(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.SetItemName(run.folder_item, "left lung")
    for number, node in enumerate(run.nodes.values()):
        node.SetName(f"node {number}")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(run.samples[3]), hierarchy.GetSceneItemID())
    assert runs.find_runs(scene) == [run]
    renamed = runs.rename_run(scene, run, "patient 7")
    assert renamed.name == "patient 7" and hierarchy.GetItemName(run.folder_item) == "left lung"
    assert [node.GetName() for node in renamed.nodes.values()] == [f"node {n}" for n in range(len(run.nodes))]


def test_without_its_node_there_is_no_run_and_all_else_stays(scene):
    run = add_sample_set(scene, make_samples(), "run", input_volume(scene))
    scene.RemoveNode(run.node)
    assert runs.find_runs(scene) == [] and runs.find_run_of(scene, run.node) is None
    assert all(scene.IsNodePresent(node) for node in run.nodes.values())
    assert [rater.node for rater in candidates(scene)] == [*run.samples, run.consensus]


def test_samples_are_referred_to_by_index_in_whatever_order_they_come(scene):
    live = LiveRun(scene, OBLIQUE, "run", input_volume(scene))
    for index in (2, 0, 1):
        live.add(index, Crop.of(make_samples().masks[index]))
    run = live.complete({})
    assert [node.GetName()[-2:] for node in references(run.node, Kind.SAMPLES)] == ["01", "02", "03"]
