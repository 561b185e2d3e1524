"""What the views show of a run; the layout is that of Slicer's own logic, without a window."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

from AmbiguousSegBridge.scene import side_by_side, views  # noqa: E402
from AmbiguousSegBridge.scene.run_writer import sample_colour  # noqa: E402
from AmbiguousSegBridge.scene.runs import find_runs  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene  # noqa: E402
from AmbiguousSegBridge.scene.views import Overlay  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.samples import OBLIQUE, PLAIN, input_volume, make_samples  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes  # noqa: E402


@pytest.fixture
def scene():
    return make_host()


@pytest.fixture
def layout(scene):
    """The scene's layout node in the conventional layout; its logic makes slice views as the application's does."""
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    node = logic.GetLayoutNode()
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    for tag in ("Red", "Green", "Yellow"):
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetLayoutName(tag)
        scene.AddNode(composite)
    yield node
    logic.SetMRMLScene(None)


def slice_nodes(scene) -> dict:
    nodes = (node for node in scene.GetNodes() if node.IsA("vtkMRMLSliceNode"))
    return {node.GetLayoutName(): node for node in nodes}


def composites(scene) -> list:
    return [node for node in scene.GetNodes() if node.IsA("vtkMRMLSliceCompositeNode")]


def shown_in(scene, nodes) -> list[list[str]]:
    """Per segmentation, the slice views that show it."""
    return [
        [tag for tag, view in slice_nodes(scene).items() if node.GetDisplayNode().IsDisplayableInView(view.GetID())]
        if node.GetDisplayNode().GetVisibility()
        else []
        for node in nodes
    ]


def twenty(geometry=PLAIN) -> SampleSet:
    return SampleSet(np.random.default_rng(0).random((20, *geometry.shape)) < 0.5, geometry)


def test_overlay_lies_over_the_input_in_all_views(scene, layout):
    volume, own = input_volume(scene), input_volume(scene, name="own")
    run = add_sample_set(scene, make_samples(), "run", volume)
    for overlay, node in ((Overlay.MEAN, run.mean), (Overlay.VARIANCE, run.variances[0])):
        views.show_overlay(scene, run, overlay, 0.4)
        for composite in composites(scene):
            assert composite.GetBackgroundVolumeID() == volume.GetID()
            assert composite.GetForegroundVolumeID() == node.GetID()
            assert composite.GetForegroundOpacity() == 0.4
    composites(scene)[0].SetForegroundVolumeID(own.GetID())
    views.show_overlay(scene, run, Overlay.NONE, 0.4)
    assert [node.GetForegroundVolumeID() for node in composites(scene)] == [own.GetID(), None, None]
    with pytest.raises(ValueError, match="Opacity"):
        views.show_overlay(scene, run, Overlay.MEAN, 1.2)
    scene.RemoveNode(run.variances[0])
    with pytest.raises(ValueError, match="no variance map"):
        views.show_overlay(scene, find_runs(scene)[0], Overlay.VARIANCE, 1)


def test_one_sample_or_all_with_or_without_consensus(scene):
    run = add_sample_set(scene, SampleSet(make_samples().masks, OBLIQUE, {"first_sample": 8}), "run")

    def visible() -> list[bool]:
        return [bool(node.GetDisplayVisibility()) for node in (*run.samples, run.consensus)]

    views.show_sample(scene, run, 10)
    assert visible() == [False, False, True, False, False, False]
    views.show_sample(scene, run, None, consensus=True)
    assert visible() == [True] * 6
    views.show_sample(scene, run, 8, consensus=True)
    assert visible() == [True, False, False, False, False, True]
    with pytest.raises(ValueError, match="no sample 1"):
        views.show_sample(scene, run, 0)


@pytest.mark.parametrize(("count", "grid"), [(1, [1]), (2, [2]), (3, [2, 1]), (5, [3, 2]), (9, [3] * 3), (12, [4] * 3)])
def test_side_by_side_each_view_shows_one_sample(scene, layout, count, grid):
    volume = input_volume(scene, PLAIN)
    run = add_sample_set(scene, twenty(), "run", volume)
    other = add_sample_set(scene, make_samples(PLAIN), "other", volume)
    own = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "a rater's")
    own.CreateDefaultDisplayNodes()
    assert side_by_side.show_samples(scene, run, count) == 0
    root = layout.GetLayoutRootElement()
    rows = [root.GetNestedElement(k).GetNestedElement(0) for k in range(root.GetNumberOfNestedElements())]
    assert [row.GetNumberOfNestedElements() for row in rows] == grid
    tags = [f"AmbiguousSeg{k + 1}" for k in range(count)]
    assert shown_in(scene, run.samples) == [[tag] for tag in tags] + [[]] * (20 - count)
    assert shown_in(scene, [*other.samples, other.consensus, run.consensus]) == [[]] * 7
    assert shown_in(scene, [own]) == [list(slice_nodes(scene))]
    for index, tag in enumerate(tags):
        composite = scene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == volume.GetID()
        assert composite.GetLinkedControl() and composite.GetHotLinkedControl()
        assert slice_nodes(scene)[tag].GetLayoutLabel() == str(index + 1)
        assert slice_nodes(scene)[tag].GetOrientation() == "Axial"
        np.testing.assert_allclose(slice_nodes(scene)[tag].GetLayoutColor(), sample_colour(index))


def test_pages_are_full_ones(scene, layout):
    run = add_sample_set(scene, twenty(), "run", input_volume(scene, PLAIN))
    for first, expected in ((0, 0), (6, 6), (12, 12), (18, 14), (-3, 0)):
        assert side_by_side.show_samples(scene, run, 6, first) == expected
        places = [place for place, tags in enumerate(shown_in(scene, run.samples)) if tags]
        assert places == list(range(expected, expected + 6))
        labels = [slice_nodes(scene)[f"AmbiguousSeg{k + 1}"].GetLayoutLabel() for k in range(6)]
        assert labels == [str(place + 1) for place in places]
    assert side_by_side.show_samples(scene, run, 99) == 0
    assert sum(map(bool, shown_in(scene, run.samples))) == 12


def test_chosen_nodes_side_by_side_under_their_labels(scene, layout):
    run = add_sample_set(scene, twenty(), "run", input_volume(scene, PLAIN))
    chosen = [run.samples[7], run.consensus, run.samples[2]]
    side_by_side.show_nodes(scene, run, chosen, ["60 %", "all", "40 %"])
    assert shown_in(scene, chosen) == [["AmbiguousSeg1"], ["AmbiguousSeg2"], ["AmbiguousSeg3"]]
    assert shown_in(scene, run.samples[3:7]) == [[]] * 4
    assert [slice_nodes(scene)[f"AmbiguousSeg{k}"].GetLayoutLabel() for k in (1, 2, 3)] == ["60 %", "all", "40 %"]
    for nodes, labels in ((chosen, ["a"]), ([], []), (run.samples, ["a"] * 20)):
        with pytest.raises(ValueError, match="Expected 1 to 12"):
            side_by_side.show_nodes(scene, run, nodes, labels)


def test_leaving_brings_back_layout_and_visibility(scene, layout):
    run = add_sample_set(scene, twenty(), "run", input_volume(scene, PLAIN))
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    views.show_sample(scene, run, 3, consensus=True)
    visible = [node.GetDisplayVisibility() for node in (*run.samples, run.consensus)]
    side_by_side.show_samples(scene, run, 4)
    side_by_side.show_samples(scene, run, 9, 9)
    side_by_side.leave(scene)
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert [node.GetDisplayVisibility() for node in (*run.samples, run.consensus)] == visible
    for node in (*run.samples, run.consensus):
        assert node.GetDisplayNode().GetNumberOfViewNodeIDs() == 0
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    side_by_side.leave(scene)  # twice is no harm
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_a_scene_saved_side_by_side_can_be_left_when_loaded(scene, layout, tmp_path):
    run = add_sample_set(scene, twenty(), "run", input_volume(scene, PLAIN))
    side_by_side.show_samples(scene, run, 4)
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = make_host()
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(loaded)
    assert loaded.ReadFromMRB(str(tmp_path / "scene.mrb"))
    side_by_side.register_layouts(loaded)
    assert logic.GetLayoutNode().GetLayoutRootElement().GetNumberOfNestedElements() == 2
    (again,) = find_runs(loaded)
    assert shown_in(loaded, again.samples[:5]) == [[f"AmbiguousSeg{k + 1}"] for k in range(4)] + [[]]
    side_by_side.leave(loaded)
    assert logic.GetLayoutNode().GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert all(node.GetDisplayVisibility() for node in again.samples)
    logic.SetMRMLScene(None)


def test_views_start_at_what_is_marked(scene, layout):
    masks = np.zeros((3, *PLAIN.shape), bool)
    masks[:, 2, 3, 4] = masks[0, 4, 3:6, 4] = True  # slice 2: all agree; slice 4: one of three marks 3 voxels
    run = add_sample_set(scene, SampleSet(masks, PLAIN), "run", input_volume(scene, PLAIN))
    side_by_side.show_samples(scene, run, 2)
    for tag in ("AmbiguousSeg1", "AmbiguousSeg2"):
        view = slice_nodes(scene)[tag]
        # Centre of the box: x 4, y (3 + 5) / 2 = 4, slice 4, which is LPS (4, 4, 4).
        np.testing.assert_allclose([view.GetSliceToRAS().GetElement(k, 3) for k in range(3)], (-4, -4, 4), atol=1e-9)
        assert view.GetFieldOfView()[1] == side_by_side.LEAST_FIELD_MM
    slice_nodes(scene)["AmbiguousSeg1"].JumpSliceByCentering(1, 2, 3)
    side_by_side.show_samples(scene, run, 2, 1)  # another page: the user's place is kept
    np.testing.assert_allclose(slice_nodes(scene)["AmbiguousSeg1"].GetSliceToRAS().GetElement(2, 3), 3, atol=1e-9)


def test_without_a_layout_side_by_side_says_so(scene):
    run = add_sample_set(scene, make_samples(), "run")
    side_by_side.register_layouts(scene)  # as without a main window: nothing to do, nothing to leave
    side_by_side.leave(scene)
    with pytest.raises(RuntimeError, match="main window"):
        side_by_side.show_samples(scene, run, 2)
    scene.AddNode(slicer.vtkMRMLLayoutNode())
    with pytest.raises(RuntimeError, match="main window"):
        side_by_side.show_samples(scene, run, 2)
    with pytest.raises(ValueError, match="at least one view"):
        side_by_side.show_samples(scene, run, 0)


def disagreeing(geometry: Geometry, counts: dict[int, int]) -> SampleSet:
    """Two samples; in slice k along the axial index axis one of them alone marks ``counts[k]`` voxels in a row."""
    masks = np.zeros((2, *geometry.shape), bool)
    along = SliceAxes.of(geometry, "axial").index_axes[0]
    slices = np.moveaxis(masks[0], 2 - along, 0)
    for number, voxels in counts.items():
        slices[number, 2, 1 : 1 + voxels] = True
    masks[1] = masks[0] & False
    return SampleSet(masks, geometry)


def test_slices_of_most_disagreement_by_hand(scene):
    # Spacing (2, 3, 4), origin LPS (10, 20, 30), no rotation. Slice 5 has 3 voxels, slice 1 has 2: box x 1..3, y 2.
    geometry = Geometry(PLAIN.size, (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), PLAIN.direction)
    run = add_sample_set(scene, disagreeing(geometry, {1: 2, 5: 3}), "run", input_volume(scene, geometry))
    # Index (2, 2, 5): LPS (10 + 4, 20 + 6, 30 + 20), so RAS (-14, -26, 50).
    assert views.slices_of_most_disagreement(run) == [(5, (-14, -26, 50)), (1, (-14, -26, 34))]


def test_slices_are_counted_from_the_feet_in_world_coordinates(scene):
    # Third axis runs to the feet: index z = 5 is the second slice from the feet of seven.
    geometry = Geometry(PLAIN.size, (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, -1.0, 0, 0, 0, -1.0))
    volume = input_volume(scene, geometry)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "quarter turn about z, then 100 mm to the head")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 100, 0, 0, 0, 1))
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    run = add_sample_set(scene, disagreeing(geometry, {5: 3, 2: 1}), "run", volume)
    # Index (2, 2, 5): LPS (2, -2, -10), RAS (-2, 2, -10); turned (-2, -2, -10); moved (-2, -2, 90).
    (number, position), (other, _) = views.slices_of_most_disagreement(run)
    assert (number, other) == (1, 4)
    np.testing.assert_allclose(position, (-2, -2, 90), atol=1e-9)


def test_slices_of_a_sagittal_stack_are_axial_ones(scene):
    # Index axes x, y, z run to the feet, to the back, to the left: axial slices lie along x, backwards.
    geometry = Geometry((7, 11, 13), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0, 0, 1.0, 0, 1.0, 0, -1.0, 0, 0))
    run = add_sample_set(scene, disagreeing(geometry, {1: 2, 6: 3}), "run")
    # x = 6 is slice 0 from the feet. disagreeing() marks z = 2, y = 1..3: centre (6, 2, 2) is LPS (2, 2, -6).
    assert views.slices_of_most_disagreement(run) == [(0, (-2, -2, -6)), (5, (-2, -2, -1))]


def test_the_order_is_that_of_the_whole_maps(scene):
    samples = make_samples()
    axes = SliceAxes.of(OBLIQUE, "axial")
    disagreement = axes.view(samples.variance()).sum((1, 2), dtype=float)
    run = add_sample_set(scene, samples, "run")
    numbers = [number for number, _ in views.slices_of_most_disagreement(run)]
    assert sorted(numbers) == list(range(7)) and numbers == sorted(numbers, key=lambda k: -disagreement[k])


def test_nothing_marked_nothing_to_jump_to(scene, layout):
    run = add_sample_set(scene, SampleSet(np.zeros((2, *PLAIN.shape), bool), PLAIN), "run")
    assert views.slices_of_most_disagreement(run) == []
    side_by_side.show_samples(scene, run, 2)
    scene.RemoveNode(run.mean)
    with pytest.raises(ValueError, match="no longer has a mean map"):
        views.slices_of_most_disagreement(find_runs(scene)[0])


def test_jumping_moves_all_slice_views(scene, layout):
    views.jump_to(scene, (3.0, -4.0, 5.0))
    for node in slice_nodes(scene).values():
        np.testing.assert_allclose([node.GetSliceToRAS().GetElement(k, 3) for k in range(3)], (3, -4, 5), atol=1e-9)
