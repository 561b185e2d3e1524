"""Rendered slice views show voxels, maps and masks where a radiologist expects them."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from AmbiguousSegBridge.scene.sample_sets import add_sample_set, add_volume  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from SlicerHost.render import GAP, TITLE_HEIGHT, SliceView, add_slice_view, montage, render_slice, why_not  # noqa: E402

from AmbiguousSegLib.ensemble.sample_set import SampleSet  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

SIDE, DEPTH, SLICE = 20, 3, 1  # voxels, voxels, index of the slice shown
FACTOR = 10  # pixels per voxel
PIXELS = (SIDE * FACTOR, SIDE * FACTOR)
GRID = Geometry((SIDE, SIDE, DEPTH), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture
def scene():
    if reason := why_not():
        pytest.skip(reason)
    return make_host()


@pytest.fixture
def view(scene):
    """An axial view of ``SLICE`` and its composite node."""
    node, composite = add_slice_view(scene)
    node.SetSliceOffset(SLICE * GRID.spacing_mm[2])
    return node, composite


def voxels() -> np.ndarray:
    """Grey values that differ everywhere, and between the slices; x points to the patient's left, y to the back."""
    return np.random.default_rng(0).integers(0, 255, GRID.shape).astype(np.int16)


def add_image(scene, composite):
    volume = add_volume(scene, voxels(), GRID, "scan")
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    display.SetInterpolate(False)
    composite.SetBackgroundVolumeID(volume.GetID())
    return volume


def centres(picture: np.ndarray) -> np.ndarray:
    """Pixel in the middle of each voxel: (y, x, RGB)."""
    return picture[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR]


def show_only(run, *shown):
    for node in (run.consensus, *run.samples):
        node.GetDisplayNode().SetVisibility(node in shown)


def test_without_volumes_the_view_is_black(scene, view):
    assert not render_slice(scene, view[0], (40, 30)).any()


def test_an_axial_view_has_the_patients_left_to_the_right_and_the_front_above(scene, view):
    add_image(scene, view[1])
    picture = render_slice(scene, view[0], PIXELS)
    assert picture.shape == (*PIXELS[::-1], 3) and picture.dtype == np.uint8
    grey = centres(picture).astype(int)
    np.testing.assert_allclose(grey, np.repeat(voxels()[SLICE, :, :, None], 3, axis=2), atol=1)


@pytest.mark.parametrize("orientation", ["Sagittal", "Coronal"])
def test_other_orientations_have_the_head_above(scene, orientation):
    node, composite = add_slice_view(scene, "Green", orientation)
    add_image(scene, composite)
    node.JumpSliceByOffsetting(-7.0, -7.0, 2.0)  # RAS: voxel 7 from the right, and from the front
    picture = render_slice(scene, node, (SIDE * FACTOR, 2 * DEPTH * FACTOR))
    rows = picture[FACTOR :: 2 * FACTOR, FACTOR // 2 :: FACTOR, 0].astype(int)[::-1]  # voxels are 2 high
    # Sagittal views look from the left, the front being left; in coronal ones the patient's right is left.
    expected = voxels()[:, :, 7] if orientation == "Sagittal" else voxels()[:, 7, :]
    np.testing.assert_allclose(rows, expected, atol=1)


def test_outlines_have_their_segments_colour_and_place(scene, view):
    volume = add_image(scene, view[1])
    volume.GetDisplayNode().SetWindowLevelMinMax(1000, 2000)  # black
    masks = np.zeros((2, *GRID.shape), bool)
    masks[0, SLICE, 3:9, 5:7] = True
    masks[1, SLICE + 1, 10:12, 10:12] = True  # on another slice
    run = add_sample_set(scene, SampleSet(masks, GRID), "run", volume)
    show_only(run, run.samples[1])
    assert not render_slice(scene, view[0], PIXELS).any()
    show_only(run, run.samples[0])
    picture = render_slice(scene, view[0], PIXELS)
    y, x = np.nonzero(picture.any(axis=2))
    box = np.array([y.min(), y.max() + 1, x.min(), x.max() + 1])
    np.testing.assert_allclose(box, np.array([3, 9, 5, 7]) * FACTOR, atol=1)
    inside = picture[3 * FACTOR + 3 : 9 * FACTOR - 3, 5 * FACTOR + 3 : 7 * FACTOR - 3]
    assert not inside.any(), "an outline, not a filled shape"
    colour = 255 * np.array(run.samples[0].GetSegmentation().GetNthSegment(0).GetColor())
    np.testing.assert_allclose(picture[y, x].max(axis=0), colour, atol=2)


def test_a_map_lies_over_the_image_and_is_transparent_where_it_is_zero(scene, view):
    volume = add_image(scene, view[1])
    masks = np.zeros((2, *GRID.shape), bool)
    masks[:, SLICE, 4:6, 4:6] = True
    run = add_sample_set(scene, SampleSet(masks, GRID), "run", volume)
    show_only(run)
    run.mean.GetDisplayNode().SetInterpolate(False)
    view[1].SetForegroundVolumeID(run.mean.GetID())
    view[1].SetForegroundOpacity(1.0)
    shown = centres(render_slice(scene, view[0], PIXELS)).astype(int)
    top = np.zeros(4)
    run.mean.GetDisplayNode().GetColorNode().GetColor(255, top)
    np.testing.assert_allclose(shown[4:6, 4:6], np.broadcast_to(255 * top[:3], (2, 2, 3)), atol=2)
    shown[4:6, 4:6] = 0
    expected = voxels()[SLICE].copy()
    expected[4:6, 4:6] = 0
    np.testing.assert_allclose(shown, np.repeat(expected[:, :, None], 3, axis=2), atol=1)


def test_a_legend_shows_the_maps_colours_while_its_map_is_shown(scene, view):
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    volume = add_image(scene, view[1])
    volume.GetDisplayNode().SetWindowLevelMinMax(1000, 2000)
    run = add_sample_set(scene, SampleSet(np.zeros((1, *GRID.shape), bool), GRID), "run", volume)
    with closing(SliceView(scene, view[0])) as open_view:
        legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(run.mean)
        legend.SetVisibility(True)
        assert not open_view.render(PIXELS).any()
        view[1].SetForegroundVolumeID(run.mean.GetID())
        legend.Modified()  # legends hear of the views' volumes only when a user changes these
        shown = open_view.render(PIXELS).astype(int)
    coloured = shown[np.ptp(shown, axis=2) > 60]
    top = np.zeros(4)
    run.mean.GetDisplayNode().GetColorNode().GetColor(255, top)
    assert np.abs(coloured - 255 * top[:3]).sum(axis=1).min() < 40


def test_the_views_own_field_is_kept_where_asked(scene, view):
    add_image(scene, view[1])
    render_slice(scene, view[0], PIXELS)
    view[0].SetFieldOfView(SIDE / 2, SIDE / 2, view[0].GetFieldOfView()[2])  # the middle, twice as large
    picture = render_slice(scene, view[0], PIXELS, fit=False).astype(int)
    grey = picture[FACTOR :: 2 * FACTOR, FACTOR :: 2 * FACTOR, 0]
    np.testing.assert_allclose(grey, voxels()[SLICE, 5:15, 5:15], atol=1)


def test_rendering_again_shows_the_same_and_adds_nothing(scene, view):
    add_image(scene, view[1])
    first = render_slice(scene, view[0], PIXELS)
    nodes = scene.GetNumberOfNodes()
    for _ in range(3):
        np.testing.assert_array_equal(render_slice(scene, view[0], PIXELS), first)
    assert scene.GetNumberOfNodes() == nodes


def test_montage_fills_rows_from_the_left():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [np.full((20, 30, 3), colour, np.uint8) for colour in colours]
    sheet = montage(pictures, ["a", "b", "c"], 2)
    assert sheet.shape == (2 * (TITLE_HEIGHT + 20 + GAP), 2 * (30 + GAP) + GAP, 3)
    for number, colour in enumerate(colours):
        row, column = divmod(number, 2)
        top, left = row * (TITLE_HEIGHT + 20 + GAP) + TITLE_HEIGHT, GAP + column * (30 + GAP)
        assert (sheet[top : top + 20, left : left + 30] == colour).all()
        assert (sheet[top - TITLE_HEIGHT : top, left : left + 30] < 128).any(), "no title"
    with pytest.raises(ValueError):
        montage(pictures, ["a"], 2)
