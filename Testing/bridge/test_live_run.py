"""Samples that enter the scene one by one: completed, stopped, discarded, failed, added to a run."""

from __future__ import annotations

import gc

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene import live_run, maps  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of, map_array  # noqa: E402
from AmbiguousSegBridge.scene.run_node import ARRIVING, Kind, attach, run_nodes  # noqa: E402
from AmbiguousSegBridge.scene.runs import (  # noqa: E402
    find_run_of,
    find_runs,
    remove_run,
    renew_maps,
    set_consensus_threshold,
)
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, read_sample  # noqa: E402
from AmbiguousSegBridge.scene.tables import read_table  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import (  # noqa: E402
    OBLIQUE,
    PLAIN,
    hierarchy_of,
    input_volume,
    make_samples,
    node_classes,
    node_names,
)
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.labels import Label  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402

PROVENANCE = {"seed": 3, "model": {"name": "toy"}}


@pytest.fixture
def scene():
    return make_host()


def masks(first: int = 0, count: int = 5) -> list[np.ndarray]:
    return [np.random.default_rng(index).random(OBLIQUE.shape) < 0.4 for index in range(first, first + count)]


def live(scene, volume=None, **options) -> LiveRun:
    return LiveRun(scene, OBLIQUE, "run", volume, **options)


def state(scene):
    """Everything in the scene that a run could have changed."""
    hierarchy = hierarchy_of(scene)
    return node_names(scene), node_classes(scene), hierarchy.GetNumberOfItems()


def assert_maps_are_of(run, expected: list[np.ndarray]) -> None:
    whole = SampleSet(np.stack(expected), OBLIQUE)
    np.testing.assert_array_equal(map_array(run.mean), whole.mean())
    np.testing.assert_array_equal(map_array(run.variances[0]), whole.variance())
    np.testing.assert_array_equal(read_sample(run.consensus), whole.consensus(run.consensus_threshold))
    for crop, mask in zip(crops_of(run), expected, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)
    shown = [row["volume_ml"] for row in read_table(run.tables["volumes"])["rows"][: len(expected)]]
    np.testing.assert_allclose(shown, whole.volumes_ml())


def test_a_live_run_becomes_the_run_that_the_whole_set_makes(scene):
    volume = input_volume(scene)
    run = live(scene, volume, labels=[Label("nodule")])
    for index in (1, 0, 2):  # in the order in which they come
        node = run.add(index, Crop.of(masks()[index]))
        assert node.GetName() == f"run - sample {index + 1:02d}" and find_run_of(scene, node) is None
        np.testing.assert_array_equal(read_sample(node), masks()[index])
    assert find_runs(scene) == []
    done = run.complete(PROVENANCE)
    assert find_runs(scene) == [done] and done.provenance == PROVENANCE and done.input is volume
    assert_maps_are_of(done, masks(0, 3))


def test_deleted_samples_do_not_count(scene):
    run = live(scene)
    nodes = [run.add(index, Crop.of(mask)) for index, mask in enumerate(masks())]
    scene.RemoveNode(nodes[2])
    expected = [mask for index, mask in enumerate(masks()) if index != 2]
    assert_maps_are_of(run.complete(PROVENANCE), expected)


def test_the_earlier_run_goes_only_when_the_new_one_is_complete(scene):
    volume = input_volume(scene)
    earlier = add_sample_set(scene, make_samples(), "run", volume)
    run = live(scene, volume)
    run.add(0, Crop.of(masks()[0]))
    assert find_runs(scene) == [earlier]
    done = run.complete(PROVENANCE)
    assert find_runs(scene) == [done] and done.name == "run" and done.folder_item == earlier.folder_item
    assert not any(scene.IsNodePresent(node) for node in earlier.nodes.values())
    assert sorted(node.GetName() for node in done.nodes.values()) == sorted(f"run - {role}" for role in done.nodes)


def test_stopped_with_an_earlier_run_both_stay(scene):
    volume = input_volume(scene)
    earlier = add_sample_set(scene, make_samples(), "run", volume)
    for number in ("", " 2"):
        run = live(scene, volume)
        for index in range(2):
            run.add(index, Crop.of(masks()[index]))
        stopped = run.stop({**PROVENANCE, "complete": False})
        assert stopped.name == "run (stopped at 2)" + number
        assert stopped.samples[1].GetName() == f"{stopped.name} - sample 02"
        assert hierarchy_of(scene).GetItemName(stopped.folder_item) == stopped.name
        assert_maps_are_of(stopped, masks(0, 2))
    assert find_runs(scene)[0] == earlier and len(find_runs(scene)) == 3


def test_stopped_without_an_earlier_run_it_keeps_its_name_and_without_samples_nothing_is_left(scene):
    before = state(scene)
    assert live(scene).stop(PROVENANCE) is None and state(scene) == before
    run = live(scene)
    run.add(4, Crop.of(masks()[4]))
    stopped = run.stop(PROVENANCE)
    assert stopped.name == "run" and stopped.samples[0].GetName() == "run - sample 05"


def test_discarded_nothing_is_left(scene):
    volume = input_volume(scene)
    add_sample_set(scene, make_samples(), "run", volume)
    before = state(scene)
    run = live(scene, volume)
    run.add(0, Crop.of(masks()[0]))
    run.discard()
    assert state(scene) == before


@pytest.mark.parametrize("fault", ["renew_volumes", "set_provenance", "complete"])
@pytest.mark.parametrize("with_earlier", [False, True], ids=["alone", "with earlier"])
def test_completion_that_fails_can_be_repeated(scene, monkeypatch, fault, with_earlier):
    volume = input_volume(scene)
    if with_earlier:
        earlier = add_sample_set(scene, make_samples(), "run", volume)
    run = live(scene, volume)
    for index, mask in enumerate(masks()):
        run.add(index, Crop.of(mask))
    before = state(scene)
    with monkeypatch.context() as broken:
        broken.setattr(live_run, fault, lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run.complete(PROVENANCE)
    assert state(scene) == before and find_runs(scene) == ([earlier] if with_earlier else [])
    assert len(run_nodes(scene, ARRIVING)) == 1
    with pytest.raises(ValueError, match="threshold"):
        run.complete(PROVENANCE, 1.5)
    assert_maps_are_of(run.complete(PROVENANCE, 0.25), masks())


def refuse(*_):
    raise AssertionError("computed again")


@pytest.mark.parametrize("extending", [False, True], ids=["new", "more"])
def test_what_was_prepared_in_steps_is_not_computed_again(scene, monkeypatch, extending):
    first = add_sample_set(scene, SampleSet(np.stack(masks(0, 2)), OBLIQUE), "run", None) if extending else None
    run, before = live(scene, extends=first), state(scene)
    for index in range(2 * extending, 4):
        run.add(index, Crop.of(masks()[index]))
    with_samples = state(scene)
    steps = sum(1 for _ in run.prepare(0.25 if not extending else 0.5))
    assert steps >= OBLIQUE.size[2] + 4 and state(scene) == with_samples != before
    monkeypatch.setattr(live_run, "outcome_of", refuse)
    done = run.complete(PROVENANCE, 0.25)
    assert done.consensus_threshold == (0.5 if extending else 0.25)  # a run that is extended keeps its own
    assert_maps_are_of(done, masks(0, 4))


@pytest.mark.parametrize("change", ["sample", "sample of the run to extend", "run to extend", "threshold"])
def test_what_was_prepared_of_something_else_is_computed_again(scene, change):
    there = SampleSet(np.stack(masks(0, 2)), OBLIQUE)
    first = add_sample_set(scene, there, "run", None) if "extend" in change else None
    run = live(scene, extends=first)
    nodes = [run.add(index, Crop.of(masks()[index])) for index in range(2 if first else 0, 5)]
    for _ in run.prepare():
        pass
    expected, threshold = masks(0, 5), 0.5
    if change == "sample":
        scene.RemoveNode(nodes[1])
        del expected[1]
    elif change == "sample of the run to extend":
        scene.RemoveNode(first.samples[0])
        del expected[0]
    elif change == "run to extend":
        remove_run(scene, first)
        del expected[:2]
    else:
        threshold = 0.25
    done = run.complete(PROVENANCE, threshold)
    assert done.consensus_threshold == threshold
    assert_maps_are_of(done, expected)


@pytest.mark.parametrize(
    "change", [None, "threshold", "sample", "consensus", "segment", "another sample", "note", "attached", "fused"]
)
def test_an_earlier_run_with_something_of_its_own_is_kept(scene, change):
    volume = input_volume(scene)
    earlier = add_sample_set(scene, SampleSet(np.stack(masks(0, 3)), OBLIQUE), "run", volume)
    if change == "threshold":
        set_consensus_threshold(scene, earlier, 0.2)
    elif change in ("sample", "consensus"):
        node = earlier.samples[1] if change == "sample" else earlier.consensus
        labelmap = node.GetBinaryLabelmapInternalRepresentation(node.GetSegmentation().GetNthSegmentID(0))
        vtk_to_numpy(labelmap.GetPointData().GetScalars())[:7] ^= 1
    elif change == "segment":
        earlier.samples[2].GetSegmentation().AddEmptySegment("necrosis")
    elif change == "note":
        earlier.node.SetAttribute("AmbiguousSeg.Review", "[]")
    elif change in ("attached", "fused"):
        kind = Kind.FUSED if change == "fused" else Kind.OTHERS
        attach(earlier.node, "raters STAPLE", scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), kind)
        earlier = find_runs(scene)[0]
    run = live(scene, volume)
    for index, mask in enumerate(masks(0, 2 if change == "another sample" else 3)):
        run.add(index, Crop.of(mask))
    done = run.complete(PROVENANCE, keep_different=True)
    replaced = change in (None, "threshold")  # which is not lost: the module hands it on
    assert find_runs(scene) == ([done] if replaced else [earlier, done])
    assert scene.IsNodePresent(earlier.samples[0]) is not replaced


def test_a_deleted_map_that_is_made_anew_has_the_colours_that_are_there(scene):
    run = add_sample_set(scene, make_samples(), "run", None)
    tables = scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")
    colours = run.variances[0].GetDisplayNode().GetColorNodeID()
    scene.RemoveNode(run.variances[0])
    renewed = renew_maps(scene, find_runs(scene)[0])
    assert renewed.variances[0].GetDisplayNode().GetColorNodeID() == colours
    assert scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == tables


def test_a_sample_that_fails_is_not_half_there(scene):
    run = live(scene)
    before = state(scene)
    with pytest.raises(ValueError, match="does not fit"):
        run.add(0, Crop.of(np.ones((2, 2, 2), bool)))
    assert state(scene) == before and run.samples == []
    run.add(0, Crop.of(masks()[0]))
    with pytest.raises(ValueError, match="has a sample 1 already"):
        run.add(0, Crop.of(masks()[1]))
    assert_maps_are_of(run.complete(PROVENANCE), masks(0, 1))


def test_more_samples_renew_the_same_nodes(scene):
    volume = input_volume(scene)
    first = add_sample_set(
        scene, SampleSet(np.stack(masks(0, 3)), OBLIQUE, {"seed": 9}, (Label("nodule"),)), "run", volume
    )
    run = live(scene, volume, extends=first)
    for index in (3, 4):
        run.add(index, Crop.of(masks()[index]))
    assert find_runs(scene) == [first]
    np.testing.assert_array_equal(map_array(first.mean), SampleSet(np.stack(masks(0, 3)), OBLIQUE).mean())
    whole = run.complete({"seed": 9, "first_sample": 3})
    assert find_runs(scene) == [whole] and len(whole.samples) == 5 and whole.folder_item == first.folder_item
    assert whole.provenance == {"seed": 9, "first_sample": 0, "sample_count": 5} and whole.label_names == ["nodule"]
    for role, node in first.nodes.items():
        assert whole.nodes[role] is node
    assert_maps_are_of(whole, masks())
    assert whole.samples[4].GetSegmentation().GetSegment("sample_05").GetName() == "nodule, sample 05"


def test_more_samples_discarded_or_stopped_or_of_a_run_that_was_removed(scene):
    first = add_sample_set(scene, SampleSet(np.stack(masks(0, 3)), OBLIQUE, PROVENANCE), "run", None)
    before = state(scene)
    run = live(scene, extends=first)
    run.add(3, Crop.of(masks()[3]))
    run.discard()
    assert state(scene) == before and find_runs(scene) == [first]
    assert live(scene, extends=first).stop({}) is None and find_runs(scene) == [first]
    run = live(scene, extends=first)
    run.add(3, Crop.of(masks()[3]))
    stopped = run.stop({"complete": False})
    assert stopped.provenance == {**PROVENANCE, "first_sample": 0, "sample_count": 4}
    assert_maps_are_of(stopped, masks(0, 4))
    run = live(scene, extends=stopped)
    run.add(4, Crop.of(masks()[4]))
    remove_run(scene, stopped)
    assert_maps_are_of(run.complete(PROVENANCE), masks(4, 1))


def test_a_sample_edited_by_hand_counts_as_it_is_when_more_are_added(scene):
    first = add_sample_set(scene, SampleSet(np.stack(masks(0, 2)), OBLIQUE), "run", None)
    edited = masks()[0].copy()
    edited[:3] = True
    segmentation = first.samples[0].GetSegmentation()
    segmentation.GetSegment("sample_01").SetLabelValue(7)  # as the Segment Editor may choose
    labelmap = first.samples[0].GetBinaryLabelmapInternalRepresentation("sample_01")
    labelmap.SetExtent(0, 12, 0, 10, 0, 6)
    labelmap.AllocateScalars(3, 1)
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = 7 * edited.ravel()
    run = live(scene, extends=first)
    run.add(2, Crop.of(masks()[2]))
    assert_maps_are_of(run.complete({}), [edited, masks()[1], masks()[2]])


def test_input_deleted_on_the_way(scene):
    volume = input_volume(scene)
    earlier = add_sample_set(scene, make_samples(), "run", volume)
    run = live(scene, volume)
    run.add(0, Crop.of(masks()[0]))
    scene.RemoveNode(volume)
    run.add(1, Crop.of(masks()[1]))
    done = run.complete(PROVENANCE)
    assert done.input is None and find_runs(scene) == [done]  # of the same input: the earlier one is replaced
    assert not scene.IsNodePresent(earlier.mean)
    assert_maps_are_of(done, masks(0, 2))


def test_folder_deleted_on_the_way(scene):
    hierarchy = hierarchy_of(scene)
    run = live(scene)
    node = run.add(0, Crop.of(masks()[0]))
    hierarchy.RemoveItem(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)))
    assert run.samples == []
    run.add(1, Crop.of(masks()[1]))
    done = run.complete(PROVENANCE)
    assert hierarchy.GetItemName(done.folder_item) == "run"
    assert_maps_are_of(done, masks(1, 1))


def test_what_does_not_fit_is_refused(scene):
    with pytest.raises(ValueError, match="needs a name"):
        LiveRun(scene, OBLIQUE, " ")
    with pytest.raises(ValueError, match="do not lie on the grid of volume"):
        LiveRun(scene, OBLIQUE, "run", input_volume(scene, PLAIN))
    with pytest.raises(ValueError, match="do not lie on the grid of run"):
        LiveRun(scene, PLAIN, "run", extends=add_sample_set(scene, make_samples(OBLIQUE), "run"))
    with pytest.raises(ValueError, match="has no sample"):
        live(scene).complete(PROVENANCE)


def test_maps_keep_the_memory_they_share(scene):
    run = live(scene)
    for index, mask in enumerate(masks()):
        run.add(index, Crop.of(mask))
    name = run.complete(PROVENANCE).mean.GetName()
    expected = SampleSet(np.stack(masks()), OBLIQUE).mean()
    del run
    gc.collect()
    for _ in range(50):  # would reuse memory that was given back
        np.full(OBLIQUE.shape, 7, np.float32)
    np.testing.assert_array_equal(map_array(scene.GetFirstNodeByName(name)), expected)


def test_tally_widens_and_grows():
    shape = (4, 5, 6)
    draws = np.random.default_rng(0).random((300, *shape)) < 0.1
    draws[:, 0] = True
    draws[7] = False
    tally = maps.Tally(shape, map(Crop.of, draws))
    counts = draws.sum(0)
    assert counts.max() > 255
    found = maps.at_once(maps.maps_of(tally, 0.25))
    share = counts.astype(np.float32) / np.float32(300)
    np.testing.assert_array_equal(found.means[0], share)
    np.testing.assert_array_equal(found.variances[0], (1 - share) * share)
    np.testing.assert_array_equal(found.consensus.full(), counts > 75)
    with pytest.raises(ValueError, match="no mean of no masks"):
        maps.at_once(maps.maps_of(maps.Tally(shape), 0.5))
