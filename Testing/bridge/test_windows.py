"""The boxes around points hold just the voxels that the model will look at, in oblique and moved volumes, too."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from AmbiguousSegBridge.scene.lesions import Lesion, new_list, recent_lists, used_now  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_volume, save_scene  # noqa: E402
from AmbiguousSegBridge.scene.windows import WINDOW, Windows  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402

from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing  # noqa: E402

C, S = np.cos(np.radians(30)), np.sin(np.radians(30))
SIZE, SPACING = (60, 50, 20), (0.8, 1.25, 2.0)
# Turned by 30° around the patient's long axis: a rectangle of rows and columns is none of the patient's axes.
OBLIQUE = Geometry(SIZE, SPACING, (3.0, -4.0, 5.0), (C, -S, 0.0, S, C, 0.0, 0.0, 0.0, 1.0))
RULE = Intensity("window", 0.0, 1.0)
AXIAL = Preprocessing(("CT",), "axial", 1.0, (16, 20), 4, RULE)


@pytest.fixture
def scene():
    return make_host()


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros(OBLIQUE.shape, np.float32), OBLIQUE, "scan")


def place_of(volume, index) -> tuple[float, ...]:
    """RAS mm in the scene of a voxel, by VTK alone."""
    matrix, position = vtk.vtkMatrix4x4(), [0.0, 0.0, 0.0]
    volume.GetIJKToRASMatrix(matrix)
    volume.TransformPointToWorld(matrix.MultiplyPoint((*index, 1.0))[:3], position)
    return tuple(position)


def voxels_of(node, volume) -> list[tuple[float, float]]:
    """Where a box begins and ends along the volume's index axes, by VTK alone; its faces are parallel to voxels'."""
    to_index, corners = vtk.vtkMatrix4x4(), []
    volume.GetRASToIJKMatrix(to_index)
    for signs in product((-0.5, 0.5), repeat=3):
        own = [sign * mm for sign, mm in zip(signs, node.GetSize())]
        world, inside = node.GetObjectToWorldMatrix().MultiplyPoint((*own, 1.0))[:3], [0.0, 0.0, 0.0]
        volume.TransformPointFromWorld(world, inside)
        corners.append(to_index.MultiplyPoint((*inside, 1.0))[:3])
    corners = np.array(corners)
    low, high = corners.min(0), corners.max(0)
    assert np.all(np.isclose(corners, low, atol=1e-4) | np.isclose(corners, high, atol=1e-4)), "no box of voxels"
    return list(zip(low.tolist(), high.tolist()))


def boxes(scene) -> list:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") if node.GetAttribute(WINDOW)]


# 16 rows and 20 columns of 1 mm are 20 voxels of 0.8 mm and 16 of 1.25 mm where columns run along the first index axis:
# 20 mm / 0.8 mm = 25 voxels, 16 mm / 1.25 mm = 12.8, of which 12 fit (13 would be 16.25, which rounds to 16: 13 fit).
# Deep as wide: 8 mm to each side are 4 slices of 2 mm.
@pytest.mark.parametrize(
    ("preprocessing", "window_mm", "expected"),
    [
        (AXIAL, None, [(17.5, 42.5), (18.5, 31.5), (5.5, 14.5)]),
        (AXIAL, 32.0, [(4.5, 54.5), (11.5, 37.5), (1.5, 18.5)]),
        # coronal: rows run to the feet, along the third index axis: 16 mm are 8 slices of 2 mm; 8 mm are 7 of 1.25
        (Preprocessing(("CT",), "coronal", 1.0, (16, 20), 4, RULE), None, [(17.5, 42.5), (17.5, 32.5), (5.5, 13.5)]),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_a_box_holds_the_voxels_that_are_looked_at(scene, volume, preprocessing, window_mm, expected, moved):
    if moved:  # turned by 90° and twice as large; unequal stretching would shear the box, which no such node can be
        transform, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
        matrix.DeepCopy((0, -2, 0, 10, 2, 0, 0, 20, 0, 0, 2, 30, 0, 0, 0, 1))
        transform.SetMatrixTransformToParent(matrix)
        volume.SetAndObserveTransformNodeID(transform.GetID())
    lesion = Lesion("one", place_of(volume, (30, 25, 10)))
    Windows(scene).show(preprocessing, volume, [lesion], window_mm)
    (node,) = boxes(scene)
    np.testing.assert_allclose(voxels_of(node, volume), expected, atol=1e-4)


def test_a_box_at_the_border_stays_in_the_volume(scene, volume):
    Windows(scene).show(AXIAL, volume, [Lesion("one", place_of(volume, (0, 49, 19)))])
    np.testing.assert_allclose(
        voxels_of(boxes(scene)[0], volume), [(-0.5, 24.5), (36.5, 49.5), (14.5, 19.5)], atol=1e-4
    )


def test_boxes_are_as_many_as_lesions_and_moved_rather_than_made_anew(scene, volume):
    windows = Windows(scene)
    lesions = [Lesion(str(i), place_of(volume, (i, 25, 10))) for i in (20, 30, 40)]
    windows.show(AXIAL, volume, lesions)
    before = boxes(scene)
    times = [node.GetMTime() for node in before]
    windows.show(AXIAL, volume, lesions)
    assert boxes(scene) == before and [node.GetMTime() for node in before] == times
    windows.show(AXIAL, volume, [lesions[2], Lesion("outside", (1e4, 0.0, 0.0))])
    assert boxes(scene) == before[:1]
    assert voxels_of(before[0], volume)[0] == pytest.approx((27.5, 52.5), abs=1e-4)
    scene.RemoveNode(before[0])  # by the user
    windows.show(AXIAL, volume, lesions[:1])
    assert len(boxes(scene)) == 1
    windows.show(Preprocessing(("CT",), "axial", None, (16, 16), 4, RULE), volume, lesions)  # it has no window
    assert boxes(scene) == []
    windows.show(AXIAL, volume, lesions)
    windows.clear()
    assert boxes(scene) == []


def test_a_box_is_not_touched_listed_or_saved(scene, volume, tmp_path):
    Windows(scene).show(AXIAL, volume, [Lesion("one", place_of(volume, (30, 25, 10)))])
    (node,) = boxes(scene)
    assert node.GetLocked() and node.GetHideFromEditors() and not node.GetSelectable()
    display = node.GetDisplayNode()
    assert not display.GetFillVisibility() and not display.GetHandlesInteractive()
    assert display.GetVisibility2D() and display.GetVisibility3D()
    save_scene(scene, tmp_path / "scene.mrb")
    scene.Clear()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsROIDisplayNode")
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")] == ["scan"]


def test_lists_are_recent_in_the_order_of_their_use_and_stay_so_in_a_saved_scene(scene, volume, tmp_path):
    lists = [new_list(scene, name, "lesion %d") for name in ("first", "second", "third", "never used")]
    assert recent_lists(scene) == []
    for number in (0, 1, 2, 0):
        used_now(lists[number])
    assert [node.GetName() for node in recent_lists(scene)] == ["first", "third", "second"]
    time = lists[0].GetMTime()
    used_now(lists[0])
    assert lists[0].GetMTime() == time, "what is the first already is left alone"
    save_scene(scene, tmp_path / "scene.mrb")
    scene.Clear()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    assert [node.GetName() for node in recent_lists(scene)] == ["first", "third", "second"]
