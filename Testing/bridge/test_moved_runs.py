"""Runs whose nodes were moved by hand: transforms hardened on some of them, another grid specified, maps emptied."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import runs  # noqa: E402
from AmbiguousSegBridge.scene.grid import geometry_of, lies_on  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of  # noqa: E402
from AmbiguousSegBridge.scene.raters import candidates, read_rater  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from AmbiguousSegBridge.scene.segments import place_on_grid  # noqa: E402
from AmbiguousSegBridge.scene.views import slices_of_most_disagreement  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import OBLIQUE, PLAIN, input_volume  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

SHIFT = (1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)  # a voxel of PLAIN to the right
SHEAR = (1, 0.2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)


@pytest.fixture
def scene():
    return make_host()


@pytest.fixture
def masks():
    """Three that lie in the middle of the grid, so that none reaches out of it when it is moved."""
    masks = np.zeros((3, *PLAIN.shape), bool)
    masks[:, 2:4, 3:6, 4:8] = True
    masks[0, 4, 3, 4] = masks[1, 2, 6, 4] = True
    return masks


@pytest.fixture
def run(scene, masks):
    return add_sample_set(scene, SampleSet(masks, PLAIN), "run", input_volume(scene, PLAIN))


def transform(scene, numbers):
    node, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.DeepCopy(numbers)
    node.SetMatrixTransformToParent(matrix)
    return node


def move(scene, nodes, numbers, harden=()):
    """Put nodes under a transform, and harden it on some of them."""
    placed = transform(scene, numbers)
    for node in nodes:
        node.SetAndObserveTransformNodeID(placed.GetID())
    for node in harden:
        assert node.HardenTransform()


def everything(run):
    return [run.input, run.mean, run.variances[0], run.consensus, *run.samples]


def found(scene):
    (run,) = runs.find_runs(scene)
    return run


def test_samples_under_another_transform_than_the_mean_are_named(scene, run, masks):
    rater = runs.use_as_segmentation(scene, run, run.samples[0])
    before = slices_of_most_disagreement(run)
    move(scene, [*everything(run), rater], SHIFT, harden=run.samples)
    run = found(scene)
    assert run.geometry.same_grid(PLAIN)
    (candidate,) = candidates(scene)
    np.testing.assert_array_equal(read_rater(candidate, run, False).full(), masks[0])
    for (number, (x, y, z)), (moved_number, moved) in zip(before, slices_of_most_disagreement(run), strict=True):
        assert moved_number == number
        np.testing.assert_allclose(moved, (x + 1, y, z))
    for attempt in (
        lambda: crops_of(run),
        lambda: runs.renew_maps(scene, run),
        lambda: runs.use_as_segmentation(scene, run, run.samples[0]),
    ):
        with pytest.raises(ValueError, match="'run - sample 01' lies under another transform than 'run - mean'.*undo"):
            attempt()


def test_maps_hardened_alone_are_told_from_the_samples(scene, run):
    move(scene, everything(run), SHIFT, harden=(run.mean, run.variances[0]))
    with pytest.raises(ValueError, match="sample 01.*another transform than 'run - mean'.*undo"):
        crops_of(found(scene))
    scene.RemoveNode(run.mean)  # as the message says
    crops = crops_of(found(scene))
    assert len(crops) == 3 and not crops[0].empty


def test_all_hardened_together_it_is_the_run_as_before_elsewhere(scene, run, masks):
    move(scene, everything(run), SHIFT, harden=everything(run))
    run = found(scene)
    origin = (-1.0, 0.0, 0.0)  # LPS: right is negative
    assert run.geometry.same_grid(Geometry(PLAIN.size, PLAIN.spacing_mm, origin, PLAIN.direction))
    for crop, mask in zip(crops_of(run), masks, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)


def test_a_grid_specified_for_a_sample_is_not_the_runs(scene, run, masks):
    fine = Geometry(tuple(2 * n for n in PLAIN.size), (0.5, 0.5, 0.5), PLAIN.origin_mm, PLAIN.direction)
    place_on_grid(run.samples[0], fine, None)
    run = found(scene)
    assert run.geometry.same_grid(PLAIN)
    for crop, mask in zip(crops_of(run), masks, strict=True):
        np.testing.assert_array_equal(crop.full(), mask)


@pytest.mark.parametrize("which", ["samples", "mean", "everything"])
def test_a_run_with_sheared_nodes_is_found_says_what_is_wrong_and_can_be_removed(scene, run, which):
    sheared = {"samples": run.samples, "mean": [run.mean], "everything": everything(run)}[which]
    move(scene, sheared, SHEAR, harden=sheared)
    run = found(scene)
    name, why = (
        ("run - sample 01", "elsewhere than the grid")
        if which == "samples"
        else ("run - mean", "no longer lies on a regular grid")
    )
    with pytest.raises(ValueError, match=f"{name}.*{why}.*hardening"):
        crops_of(run)
    renamed = runs.rename_run(scene, run, "patient 7")
    assert found(scene) == renamed and runs.find_run_of(scene, run.samples[0]) == renamed
    runs.remove_run(scene, renamed)
    assert runs.find_runs(scene) == []


def test_without_its_sheared_mean_a_run_lies_as_its_first_sample(scene, run, masks):
    move(scene, [run.mean], SHEAR, harden=[run.mean])
    scene.RemoveNode(run.mean)
    run = found(scene)
    assert run.geometry.same_grid(PLAIN)
    np.testing.assert_array_equal(crops_of(run)[0].full(), masks[0])


def test_a_run_whose_mean_was_emptied_is_found_and_says_so(scene, run):
    run.mean.SetAndObserveImageData(None)
    with pytest.raises(ValueError, match="'run - mean' no longer lies on a regular grid"):
        found(scene).geometry  # noqa: B018
    with pytest.raises(ValueError, match="'run - mean' no longer holds any voxels"):
        map_array(run.mean)


@pytest.mark.parametrize("renew", [False, True])
def test_maps_and_consensus_hardened_alone_are_made_anew_where_the_run_lies(scene, run, masks, renew):
    move(scene, everything(run), SHIFT, harden=(run.consensus, run.variances[0]))
    run = found(scene)
    if renew:
        runs.renew_maps(scene, run)
        assert run.variances[0].GetTransformNodeID() == run.mean.GetTransformNodeID()
        assert geometry_of(run.variances[0]).same_grid(PLAIN)
    else:
        runs.set_consensus_threshold(scene, run, 0.1)
    expected = masks.mean(axis=0) > (0.5 if renew else 0.1)
    np.testing.assert_array_equal(mask_of(run.consensus, run).full(), expected)  # under the run's transform


@pytest.mark.parametrize("damage", ["sheared", "emptied"])
def test_a_run_does_not_mind_what_becomes_of_its_input(scene, run, masks, damage):
    live = LiveRun(scene, PLAIN, "another", run.input)
    if damage == "sheared":
        move(scene, [run.input], SHEAR, harden=[run.input])
    else:
        run.input.SetAndObserveImageData(None)
    run = found(scene)
    runs.set_consensus_threshold(scene, run, 0.1)
    np.testing.assert_array_equal(mask_of(run.consensus, run).full(), masks.mean(axis=0) > 0.1)
    live.add(0, Crop.of(masks[0]))
    np.testing.assert_array_equal(crops_of(live.complete({}))[0].full(), masks[0])


def test_a_left_handed_run_that_was_loaded_gives_the_consensus_of_its_samples(scene, masks, tmp_path):
    left = Geometry(PLAIN.size, PLAIN.spacing_mm, PLAIN.origin_mm, (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    masks = np.roll(masks, 1, axis=1)  # no longer in the middle of the slices
    made = add_sample_set(scene, SampleSet(masks, left), "run", input_volume(scene, left))
    before = slices_of_most_disagreement(made)
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    run = found(loaded)
    runs.set_consensus_threshold(loaded, run, 0.1)
    np.testing.assert_array_equal(mask_of(run.consensus, run).full(), masks.any(axis=0)[::-1])
    after = slices_of_most_disagreement(run)
    assert [number for number, _ in after] == [number for number, _ in before]


def test_a_volume_lies_on_its_own_grid_and_one_that_is_sheared_or_empty_on_none(scene):
    volume = input_volume(scene, OBLIQUE)
    assert lies_on(volume, OBLIQUE) and lies_on(volume, geometry_of(volume)) and not lies_on(volume, PLAIN)
    move(scene, [volume], SHEAR, harden=[volume])
    assert not lies_on(volume, OBLIQUE)
    empty = input_volume(scene, OBLIQUE)
    empty.SetAndObserveImageData(None)
    assert not lies_on(empty, OBLIQUE)
