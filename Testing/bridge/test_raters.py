"""Raters' segments on the grid of a run, against geometry computed by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import checksums  # noqa: E402
from AmbiguousSegBridge.scene.checksums import Checksums  # noqa: E402
from AmbiguousSegBridge.scene.grid import ijk_to_ras  # noqa: E402
from AmbiguousSegBridge.scene.live_run import LiveRun  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of  # noqa: E402
from AmbiguousSegBridge.scene.raters import Rater, candidates, read_rater  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs, use_as_segmentation  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set  # noqa: E402
from AmbiguousSegBridge.scene.segments import labelmap_of, replace_mask  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import MIRRORED, OBLIQUE, PLAIN, input_volume, make_samples  # noqa: E402
from vtk.util.numpy_support import numpy_to_vtk  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

QUARTER_TURN = (0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)  # about z, RAS: right goes to the front


@pytest.fixture
def scene():
    return make_host()


def run_on(scene, geometry=PLAIN, transform=None):
    volume = input_volume(scene, geometry)
    if transform is not None:
        volume.SetAndObserveTransformNodeID(transform.GetID())
    return add_sample_set(scene, SampleSet(make_samples(geometry).masks, geometry), "run", volume)


def moved(scene, numbers=QUARTER_TURN):
    transform, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.DeepCopy(numbers)
    transform.SetMatrixTransformToParent(matrix)
    return transform


def drawn(scene, geometry, *masks, name="Anna", transform=None):
    """Segmentation node with one segment per mask."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    for number, mask in enumerate(masks, 1):
        crop, title = Crop.of(mask), f"segment {number}"
        if crop.empty:
            node.GetSegmentation().AddEmptySegment(f"s{number}", title)
        else:
            node.AddSegmentFromBinaryLabelmapRepresentation(
                labelmap_of(crop, ijk_to_ras(geometry)), title, (1, 0, 0), f"s{number}"
            )
    return node


def read(node, run, resample=False, number=1) -> np.ndarray:
    """What ``read_rater`` reads, which must leave the node as it is."""
    segmentation = node.GetSegmentation()
    before = node.GetMTime(), segmentation.GetMTime(), segmentation.GetSegmentIDs()
    segment = segmentation.GetSegment(f"s{number}")
    representations: list[str] = []
    segment.GetContainedRepresentationNames(representations)
    crop = read_rater(Rater(node, (f"s{number}",), node.GetName()), run, resample)
    after: list[str] = []
    segment.GetContainedRepresentationNames(after)
    assert (node.GetMTime(), segmentation.GetMTime(), segmentation.GetSegmentIDs()) == before
    assert after == representations
    return crop.full()


def block(geometry, z, y, x) -> np.ndarray:
    mask = np.zeros(geometry.shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


@pytest.mark.parametrize("geometry", [PLAIN, OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirrored"])
@pytest.mark.parametrize("resample", [False, True])
def test_same_grid_is_read_exactly(scene, geometry, resample):
    run, masks = run_on(scene, geometry), make_samples(geometry).masks
    node = drawn(scene, geometry, *masks)
    for number, mask in enumerate(masks, 1):
        np.testing.assert_array_equal(read(node, run, resample, number), mask)


def test_overlapping_segments_and_those_that_share_a_labelmap(scene):
    run = run_on(scene)
    apart = [block(PLAIN, (0, 2), (0, 3), (0, 4)), block(PLAIN, (4, 6), (4, 8), (4, 9))]
    overlapping = block(PLAIN, (1, 5), (1, 7), (1, 8))
    node = drawn(scene, PLAIN, *apart, overlapping)
    segmentation = node.GetSegmentation()
    segmentation.CollapseBinaryLabelmaps(False)
    shared = segmentation.GetSegment("s1").GetRepresentation("Binary labelmap")
    assert shared is segmentation.GetSegment("s2").GetRepresentation("Binary labelmap")
    assert shared is not segmentation.GetSegment("s3").GetRepresentation("Binary labelmap")
    for number, mask in enumerate([*apart, overlapping], 1):
        np.testing.assert_array_equal(read(node, run, number=number), mask)


def test_an_empty_segment_says_nothing_is_there(scene):
    run, nothing = run_on(scene), np.zeros(PLAIN.shape, bool)
    node = drawn(scene, PLAIN, nothing, block(PLAIN, (1, 2), (1, 2), (1, 2)))
    zeros = labelmap_of(Crop.of(block(PLAIN, (0, 3), (0, 3), (0, 3))), ijk_to_ras(PLAIN))
    zeros.GetPointData().GetScalars().Fill(0)  # as the eraser leaves it
    node.AddSegmentFromBinaryLabelmapRepresentation(zeros, "erased", (1, 0, 0), "s3")
    for number in (1, 3):
        for resample in (False, True):
            assert not read(node, run, resample, number).any()


def test_a_larger_grid_with_the_same_voxels_is_the_same_as_long_as_nothing_is_lost(scene):
    run = run_on(scene)  # origin (0, 0, 0), 1 mm, 13 x 11 x 7
    larger = Geometry((17, 15, 11), (1.0, 1.0, 1.0), (-2.0, -2.0, -2.0), PLAIN.direction)
    inside = block(larger, (2, 4), (3, 5), (4, 6))
    node = drawn(scene, larger, inside, block(larger, (0, 4), (3, 5), (4, 6)))
    np.testing.assert_array_equal(read(node, run), block(PLAIN, (0, 2), (1, 3), (2, 4)))
    # The second segment reaches two slices of 2 x 2 voxels of 1 mm3 below the grid: 0.008 mL.
    for resample in (False, True):
        with pytest.raises(ValueError, match=r"'Anna' marks 0\.008 mL outside"):
            read(node, run, resample, 2)


def test_another_grid_needs_resampling(scene):
    run = run_on(scene)
    coarse = Geometry((6, 5, 3), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5), PLAIN.direction)  # voxel k covers 2 k and 2 k + 1
    node = drawn(scene, coarse, block(coarse, (1, 2), (2, 4), (3, 6)))
    with pytest.raises(ValueError, match="'Anna' lies on another grid .* Tick Resample"):
        read(node, run)
    np.testing.assert_array_equal(read(node, run, True), block(PLAIN, (2, 4), (4, 8), (6, 12)))


def test_a_finer_and_mirrored_grid_is_resampled(scene):
    run = run_on(scene)
    # 0.5 mm along x, mirrored: index k lies at LPS x = 12.25 - 0.5 k, in voxel 12 - k // 2 of the run.
    fine = Geometry((26, 11, 7), (0.5, 1.0, 1.0), (12.25, 0.0, 0.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    node = drawn(scene, fine, block(fine, (1, 3), (2, 5), (4, 10)))
    np.testing.assert_array_equal(read(node, run, True), block(PLAIN, (1, 3), (2, 5), (8, 11)))


def test_resampled_parts_outside_are_not_lost_silently(scene):
    run = run_on(scene)
    coarse = Geometry((7, 5, 3), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5), PLAIN.direction)
    # Coarse voxel x = 6 covers 12 and 13; 13 lies outside: 2 x 2 voxels for each of 2 x 1 coarse ones: 0.008 mL.
    node = drawn(scene, coarse, block(coarse, (1, 2), (2, 4), (5, 7)))
    with pytest.raises(ValueError, match=r"0\.008 mL outside the volume of run 'run'"):
        read(node, run, True)
    far = Geometry((7, 5, 3), (2.0, 2.0, 2.0), (500.5, 0.5, 0.5), PLAIN.direction)
    with pytest.raises(ValueError, match=r"0\.008 mL outside"):
        read(drawn(scene, far, block(far, (1, 2), (2, 3), (5, 6))), run, True)


def test_what_would_vanish_is_not_taken_for_nothing(scene):
    run = run_on(scene)
    fine = Geometry((52, 44, 28), (0.25, 0.25, 0.25), (-0.375, -0.375, -0.375), PLAIN.direction)
    node = drawn(scene, fine, block(fine, (4, 5), (4, 5), (4, 5)))  # between the centres of the run's voxels
    with pytest.raises(ValueError, match="would vanish"):
        read(node, run, True)


def test_same_voxels_under_another_transform_lie_elsewhere(scene):
    run, mask = run_on(scene), block(PLAIN, (2, 4), (1, 3), (0, 5))
    node = drawn(scene, PLAIN, mask, transform=moved(scene))
    with pytest.raises(ValueError, match="under another transform"):
        read(node, run)
    # Voxel (x, y) lies at RAS (-x, -y), which the turn, (r, a) -> (-a, r), brings to (y, -x): LPS (-y, x), outside.
    with pytest.raises(ValueError, match=r"0\.02 mL outside"):
        read(node, run, True)
    # Turned the other way, and moved, (r, a) -> (a, -r - 5), it comes to (-y, x - 5): LPS (y, 5 - x).
    other = moved(scene, (0, 1, 0, 0, -1, 0, 0, -5, 0, 0, 1, 0, 0, 0, 0, 1))
    turned = read(drawn(scene, PLAIN, mask, transform=other), run, True)
    expected = np.zeros(PLAIN.shape, bool)
    for z, y, x in np.argwhere(mask):
        expected[z, 5 - x, y] = True
    np.testing.assert_array_equal(turned, expected)


def test_run_and_rater_under_transforms_that_undo_each_other(scene):
    transform = moved(scene)
    run, mask = run_on(scene, OBLIQUE, transform), make_samples(OBLIQUE).masks[0]
    np.testing.assert_array_equal(read(drawn(scene, OBLIQUE, mask, transform=transform), run), mask)
    twin = moved(scene)  # another node of the same effect
    np.testing.assert_array_equal(read(drawn(scene, OBLIQUE, mask, transform=twin), run), mask)
    with pytest.raises(ValueError, match="Tick Resample"):
        read(drawn(scene, OBLIQUE, mask), run)


def test_a_shift_by_whole_voxels_needs_no_resampling(scene):
    run, mask = run_on(scene), block(PLAIN, (2, 4), (3, 5), (4, 6))
    shifted = moved(scene, (1, 0, 0, -1, 0, 1, 0, -2, 0, 0, 1, 3, 0, 0, 0, 1))  # RAS: LPS (+1, +2, +3)
    np.testing.assert_array_equal(
        read(drawn(scene, PLAIN, mask, transform=shifted), run), block(PLAIN, (5, 7), (5, 7), (5, 7))
    )


def test_a_warp_is_followed(scene):
    run, mask = run_on(scene), block(PLAIN, (2, 4), (3, 5), (4, 6))
    grid = vtk.vtkImageData()  # displacement of RAS (-2, 0, 0) everywhere: LPS + 2 along x
    grid.SetOrigin(-40, -40, -40)
    grid.SetSpacing(20, 20, 20)
    grid.SetDimensions(5, 5, 5)
    vectors = numpy_to_vtk(np.tile([-2.0, 0.0, 0.0], (125, 1)), deep=True)
    grid.GetPointData().SetScalars(vectors)
    warp = slicer.vtkOrientedGridTransform()
    warp.SetDisplacementGridData(grid)
    transform = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    transform.SetAndObserveTransformToParent(warp)
    node = drawn(scene, PLAIN, mask, transform=transform)
    with pytest.raises(ValueError, match="Tick Resample"):
        read(node, run)
    np.testing.assert_array_equal(read(node, run, True), block(PLAIN, (2, 4), (3, 5), (6, 8)))


def surface(scene, bounds, transform=None):
    """Rater whose segment is a box, ``bounds`` in RAS, and nothing but its surface."""
    cube, triangles = vtk.vtkCubeSource(), vtk.vtkTriangleFilter()
    cube.SetBounds(bounds)
    triangles.SetInputConnection(cube.GetOutputPort())
    triangles.Update()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Bert")
    name = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    node.GetSegmentation().SetSourceRepresentationName(name)
    segment = slicer.vtkSegment()
    segment.AddRepresentation(name, triangles.GetOutput())
    node.GetSegmentation().AddSegment(segment, "s1")
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def test_a_surface_is_voxelised_on_the_grid_of_the_run(scene):
    run = run_on(scene)
    # RAS x from -4.4 to -1.6 is LPS 1.6 to 4.4: voxels 2, 3, 4; y likewise 2, 3; z 0.6 to 5.4: voxels 1 to 5.
    bounds = (-4.4, -1.6, -3.4, -1.6, 0.6, 5.4)
    np.testing.assert_array_equal(read(surface(scene, bounds), run), block(PLAIN, (1, 6), (2, 4), (2, 5)))
    # The quarter turn of QUARTER_TURN, undone: (r, a) -> (-a, r).
    back = (1.6, 3.4, -4.4, -1.6, 0.6, 5.4)
    there = moved(scene, (0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))  # (r, a) -> (a, -r)
    np.testing.assert_array_equal(read(surface(scene, back, there), run), block(PLAIN, (1, 6), (2, 4), (2, 5)))
    with pytest.raises(ValueError, match=r"'Bert' marks 0\.018 mL outside"):  # slices 7, 8, 9 of 3 x 2 voxels
        read(surface(scene, (-4.4, -1.6, -3.4, -1.6, 0.6, 9.4)), run)


def test_what_is_gone_or_cannot_be_read_is_said(scene):
    run = run_on(scene)
    node = drawn(scene, PLAIN, block(PLAIN, (1, 2), (1, 2), (1, 2)))
    with pytest.raises(ValueError, match="no longer exists"):
        read_rater(Rater(node, ("gone",), "Anna"), run, False)
    node.GetSegmentation().GetSegment("s1").RemoveAllRepresentations()
    with pytest.raises(ValueError, match="neither as a labelmap nor as a closed surface"):
        read_rater(Rater(node, ("s1",), "Anna"), run, False)


def test_candidates_are_the_segments_that_no_run_has_made(scene):
    volume = input_volume(scene)
    run = add_sample_set(scene, make_samples(), "run", volume)
    LiveRun(scene, OBLIQUE, "coming", volume).add(0, Crop.of(make_samples().masks[0]))
    assert candidates(scene) == []
    mask = block(PLAIN, (1, 2), (1, 2), (1, 2))
    anna, bert = drawn(scene, PLAIN, mask), drawn(scene, PLAIN, mask, mask, name="Bert")
    twin = drawn(scene, PLAIN, mask)
    edited = use_as_segmentation(scene, run, run.samples[0], "mine")
    copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    copy.Copy(run.samples[1])
    copy.SetName("a copy")
    found = candidates(scene)
    assert [rater.name for rater in found] == [
        "Anna",
        "Bert, segment 1",
        "Bert, segment 2",
        "Anna (2)",
        "mine",
        "a copy",
    ]
    assert [rater.node for rater in found] == [anna, bert, bert, twin, edited, copy]
    np.testing.assert_array_equal(read_rater(found[5], run, False).full(), make_samples().masks[1])


class Study:
    """A run compared with all raters that are in the scene, and every mask that is read after that."""

    def __init__(self, scene, run, monkeypatch, resample=False):
        self.scene, self.run, self.checksums, self.read = scene, run, Checksums(), []
        chosen = candidates(scene)
        crops = {"samples": crops_of(run), "raters": [read_rater(rater, run, resample) for rater in chosen]}
        compared = self.checksums.of_compared(run, chosen, resample, crops)
        self.compared = json.loads(json.dumps(compared))
        monkeypatch.setattr(checksums, "READING_S", 600.0)  # one call reads all, however busy the machine is
        for name in ("mask_of", "read_rater"):
            original = getattr(checksums, name)
            monkeypatch.setattr(checksums, name, lambda *given, original=original: self._count(original, *given))

    def _count(self, original, first, *others):
        self.read.append(first.name if isinstance(first, Rater) else first.GetName())
        return original(first, *others)

    def changed(self) -> tuple[set[str], bool, list[str]]:
        """Kinds that changed, whether all is known, and what was read for it."""
        self.read.clear()
        return *self.checksums.changed(self.compared, find_runs(self.scene)[0], candidates(self.scene)), self.read[:]


def shifted(scene, voxels: int):
    return moved(scene, (1, 0, 0, -voxels, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))


def test_only_what_was_modified_is_read_again(scene, monkeypatch):
    run, mask, to_ras = run_on(scene), block(PLAIN, (2, 4), (1, 3), (0, 5)), ijk_to_ras(PLAIN)
    anna, bert = drawn(scene, PLAIN, mask), drawn(scene, PLAIN, mask, mask, name="Bert")
    study = Study(scene, run, monkeypatch)
    assert study.changed() == (set(), True, [])
    labelmap = anna.GetSegmentation().GetSegment("s1").GetRepresentation("Binary labelmap")
    labelmap.Modified()
    assert study.changed() == (set(), True, ["Anna"])
    assert study.changed() == (set(), True, [])
    replace_mask(bert, "s2", Crop.of(block(PLAIN, (2, 4), (1, 3), (1, 6))), to_ras)  # the same shape elsewhere
    assert study.changed() == ({"raters"}, True, ["Bert, segment 2"])
    assert study.changed() == ({"raters"}, True, [])
    replace_mask(bert, "s2", Crop.of(mask), to_ras)
    assert study.changed() == (set(), True, ["Bert, segment 2"])
    sample = run.samples[1]
    replace_mask(sample, sample.GetSegmentation().GetNthSegmentID(0), Crop.of(mask), to_ras)
    assert study.changed() == ({"samples"}, True, [sample.GetName()])
    scene.RemoveNode(anna)
    assert study.changed() == ({"samples", "raters"}, True, [])
    drawn(scene, PLAIN, mask)  # one of her name and shape
    assert study.changed() == ({"samples"}, True, ["Anna"])


def test_samples_that_are_more_or_fewer_or_have_lost_their_mask_are_others(scene, monkeypatch):
    run = run_on(scene)
    study = Study(scene, run, monkeypatch)
    drawn(scene, PLAIN, block(PLAIN, (1, 2), (1, 2), (1, 2)))  # a rater who was not there
    assert study.changed() == (set(), True, [])
    run.samples[0].GetSegmentation().RemoveAllSegments()
    assert study.changed()[:2] == ({"samples"}, True)
    scene.RemoveNode(run.samples[0])
    assert study.changed()[:2] == ({"samples"}, True)
    study = Study(scene, find_runs(scene)[0], monkeypatch)
    assert study.changed() == (set(), True, [])
    study.compared["samples"].popitem()  # a sample that came later
    assert study.changed() == ({"samples"}, True, [])


def test_a_rater_that_is_moved_has_changed(scene, monkeypatch):
    transform = shifted(scene, 2)
    run, mask = run_on(scene), block(PLAIN, (2, 4), (1, 3), (4, 6))
    node = drawn(scene, PLAIN, mask, transform=transform)
    study = Study(scene, run, monkeypatch)
    assert study.changed() == (set(), True, [])
    matrix = vtk.vtkMatrix4x4()
    transform.SetMatrixTransformToParent(matrix)
    assert study.changed() == ({"raters"}, True, ["Anna"])
    matrix.SetElement(0, 3, -2)
    transform.SetMatrixTransformToParent(matrix)
    assert study.changed() == (set(), True, ["Anna"])
    node.SetAndObserveTransformNodeID(None)
    assert study.changed() == ({"raters"}, True, ["Anna"])
    matrix.SetElement(0, 3, 0.5)  # between the voxels: it could not be compared any more
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert study.changed() == ({"raters"}, True, ["Anna"])
    assert study.changed() == ({"raters"}, True, [])
    for placed in (run.mean, *run.samples):  # both together lie as they did
        placed.SetAndObserveTransformNodeID(transform.GetID())
    node.SetAndObserveTransformNodeID(shifted(scene, 2).GetID())
    study.changed()
    matrix.Identity()
    transform.SetMatrixTransformToParent(matrix)
    found, _, read_again = study.changed()
    assert found == set() and "Anna" in read_again


def test_a_resampled_rater_and_a_surface_are_known_again(scene, monkeypatch):
    run = run_on(scene)
    coarse = Geometry((6, 5, 3), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5), PLAIN.direction)
    drawn(scene, coarse, block(coarse, (1, 2), (2, 4), (3, 6)))
    bert = surface(scene, (-4.4, -1.6, -3.4, -1.6, 0.6, 5.4))
    study = Study(scene, run, monkeypatch, resample=True)
    assert study.changed() == (set(), True, [])
    study.checksums = Checksums()  # as after loading the scene
    assert study.changed()[:2] == (set(), True) and set(study.read) > {"Anna", "Bert"}
    points = bert.GetSegmentation().GetSegment("s1").GetRepresentation("Closed surface").GetPoints()
    for k in range(points.GetNumberOfPoints()):
        x, y, z = points.GetPoint(k)
        points.SetPoint(k, x - 1, y, z)
    points.Modified()
    assert study.changed() == ({"raters"}, True, ["Bert"])


def test_reading_many_masks_is_spread_over_several_calls(scene, monkeypatch):
    run, mask = run_on(scene), block(PLAIN, (2, 4), (1, 3), (0, 5))
    node = drawn(scene, PLAIN, mask, name="Bert")
    study = Study(scene, run, monkeypatch)
    replace_mask(node, "s1", Crop.of(block(PLAIN, (2, 4), (1, 3), (0, 6))), ijk_to_ras(PLAIN))
    study.checksums = Checksums()
    ticks = iter(range(10**6))
    monkeypatch.setattr(checksums, "time", SimpleNamespace(monotonic=lambda: next(ticks) * checksums.READING_S))
    calls = [study.changed() for _ in range(len(run.samples) + 1)]
    assert [read_now for *_, read_now in calls] == [[node.GetName()] for node in run.samples] + [["Bert"]]
    assert [changed for changed, *_ in calls] == [set()] * len(run.samples) + [{"raters"}]
    assert [complete for _, complete, _ in calls] == [False] * len(run.samples) + [True]
