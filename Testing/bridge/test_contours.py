"""Contours of the mean map, outlines in front, surfaces and legend: counted by hand, as MRML has them."""

from __future__ import annotations

import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import outlines, runs  # noqa: E402
from AmbiguousSegBridge.scene.contours import LEVELS, Contours, contour_id, put_contours  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, read_sample, save_scene  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import CORE_AND_HALO, MIRRORED, OBLIQUE, PLAIN, input_volume  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


def staircase(geometry=PLAIN) -> SampleSet:
    """Ten samples; sample k marks columns 1 to 10 - k of three rows: column c is marked by 11 - c of them."""
    masks = np.zeros((10, *geometry.shape), bool)
    for k in range(10):
        masks[k, 3, 2:5, 1 : 11 - k] = True
    return SampleSet(masks, geometry)


def areas(node) -> list[int]:
    """Voxels of each segment, by a reader of its own: the labelmaps themselves."""
    counted = []
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id)
        value = node.GetSegmentation().GetSegment(segment_id).GetLabelValue()
        counted.append(0 if array is None else int((array == value).sum()))
    return counted


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
def test_contours_hold_the_voxels_that_so_many_samples_mark(scene, geometry):
    """10 %: one of ten, ten columns; 50 %: five of ten, columns 1 to 6; 90 %: nine of ten, columns 1 and 2."""
    run = add_sample_set(scene, staircase(geometry), "run", input_volume(scene, geometry))
    node = put_contours(scene, run)
    assert areas(node) == [3 * 10, 3 * 6, 3 * 2]
    mean = staircase(geometry).masks.sum(axis=0)
    for level, of_ten in zip(LEVELS, (1, 5, 9), strict=True):
        np.testing.assert_array_equal(read_sample(node, run.geometry, contour_id(level)), mean >= of_ten)
    names = [node.GetSegmentation().GetNthSegment(k).GetName() for k in range(3)]
    assert names == [f"lesion, at least {percent} % of the samples" for percent in (10, 50, 90)]
    assert not node.GetDisplayVisibility() and node.GetName() == "run - contours"


def test_each_class_has_its_own_contours_and_shades(scene):
    """Two label maps of a core and a halo, in all of one row but for one voxel."""
    masks = np.zeros((2, *PLAIN.shape), np.uint8)
    masks[:, 2, 2, 2:8], masks[:, 2, 2, 4] = 2, 1
    masks[1, 2, 2, 5] = 1
    run = add_sample_set(scene, SampleSet(masks, PLAIN, labels=CORE_AND_HALO), "run")
    node = put_contours(scene, run)
    assert areas(node) == [2, 2, 1, 5, 5, 4]
    segments = node.GetSegmentation()
    assert segments.GetSegment(contour_id(0.9, 2)).GetColor() == pytest.approx(CORE_AND_HALO[1].color)
    assert segments.GetSegment(contour_id(0.1, 2)).GetName() == "the halo, at least 10 % of the samples"


def test_contours_follow_renewed_maps_and_only_those(scene):
    run, contours = add_sample_set(scene, staircase(), "run"), Contours()
    node = contours.up_to_date(scene, run)
    made = [node.GetBinaryLabelmapInternalRepresentation(name).GetMTime() for name in map(contour_id, LEVELS)]
    run = runs.find_run_of(scene, run.mean)
    assert contours.up_to_date(scene, run) is node
    assert made == [node.GetBinaryLabelmapInternalRepresentation(name).GetMTime() for name in map(contour_id, LEVELS)]
    for sample in run.samples[5:]:  # five are left: column c is marked by min(5, 11 - c)
        scene.RemoveNode(sample)
    run = runs.renew_maps(scene, runs.find_run_of(scene, run.mean))
    assert contours.up_to_date(scene, run) is node
    assert areas(node) == [3 * 10, 3 * 8, 3 * 6]  # one, three and five of five


def test_contours_are_of_their_run(scene, tmp_path):
    """Renamed, saved, loaded, moved and removed with it; a segment that the user removed comes back."""
    run = add_sample_set(scene, staircase(), "run", input_volume(scene, PLAIN))
    node = put_contours(scene, run)
    run = runs.rename_run(scene, runs.find_run_of(scene, run.mean), "other")
    assert node.GetName() == "other - contours" and run.nodes["contours"] is node
    node.GetSegmentation().RemoveSegment(contour_id(0.5))
    put_contours(scene, run)
    assert sorted(areas(node)) == [6, 18, 30]
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    (found,) = runs.find_runs(loaded)
    assert sorted(areas(found.nodes["contours"])) == [6, 18, 30]
    runs.remove_run(loaded, found)
    assert loaded.GetFirstNodeByName("other - contours") is None


def test_without_a_mean_there_are_no_contours(scene):
    run = add_sample_set(scene, staircase(), "run")
    scene.RemoveNode(run.mean)
    with pytest.raises(ValueError, match="no longer has a mean map"):
        Contours().up_to_date(scene, runs.find_runs(scene)[0])


def test_one_outline_in_front_and_all_alike_again(scene):
    run = add_sample_set(scene, staircase(), "run")

    def drawn():
        shown = [node.GetDisplayNode() for node in run.samples]
        return [(display.GetSliceIntersectionThickness(), display.GetOpacity2DOutline()) for display in shown]

    outlines.bring_to_front(run, run.samples[3])
    assert drawn() == [(1, 0.4)] * 3 + [(4, 1.0)] + [(1, 0.4)] * 6
    outlines.bring_to_front(run, None)
    assert drawn() == [(1, 1.0)] * 10


def test_the_legend_names_who_has_which_colour(scene):
    run = add_sample_set(scene, SampleSet(staircase().masks[:2], PLAIN), "run")
    put_contours(scene, run)
    run = runs.find_run_of(scene, run.mean)
    rater = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Ann")
    rater.GetSegmentation().AddEmptySegment("a", "outline", (0.1, 0.2, 0.3))
    entries = outlines.legend(run, [(rater, "a"), (rater, "gone"), (None, "a")], contours=True)
    levels = [f"lesion, at least {percent} % of the samples" for percent in (10, 50, 90)]
    assert [entry.title for entry in entries] == ["sample 01", "sample 02", "consensus", *levels, "Ann"]
    assert [entry.sample for entry in entries] == [1, 2, 0, 0, 0, 0, 0]
    assert entries[-1].colour == pytest.approx((0.1, 0.2, 0.3))
    for entry in entries:
        assert entry.node.GetSegmentation().GetSegment(entry.segment_id).GetColor() == entry.colour
    assert len(outlines.legend(run, [], contours=False)) == 3


def test_surfaces_enclose_the_mask_and_go_again(scene):
    """A ball of 8 mm: its surface encloses 4/3 π 8³ within 3 %; slices are still drawn from the voxels."""
    geometry = Geometry((41, 41, 41), (0.5, 0.5, 0.5), (0.0,) * 3, PLAIN.direction)
    z, y, x = np.ogrid[:41, :41, :41]
    ball = ((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2) * 0.25 <= 64
    run = add_sample_set(scene, SampleSet(np.stack([ball, np.zeros_like(ball)]), geometry), "run")
    full, empty = run.samples
    assert not outlines.in_3d(full)
    outlines.make_surfaces(full)
    assert outlines.in_3d(full)
    mass = vtk.vtkMassProperties()
    mass.SetInputData(full.GetClosedSurfaceInternalRepresentation("sample_01"))
    mass.Update()
    assert mass.GetVolume() == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.03)
    assert full.GetDisplayNode().GetDisplayRepresentationName2D() == "Binary labelmap"
    assert full.GetDisplayNode().GetDisplayRepresentationName3D() == "Closed surface"
    with pytest.raises(ValueError, match="sample 02.*marks nothing"):
        outlines.make_surfaces(empty)
    assert not outlines.in_3d(empty)
    outlines.remove_surfaces(full)
    assert not outlines.in_3d(full)
    np.testing.assert_array_equal(read_sample(full), ball)
