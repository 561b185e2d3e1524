"""The section "Lesions pointed at": boxes follow points and model, and lesions of before are a click away."""

from __future__ import annotations

import pytest
import slicer
from AmbiguousSegBridge.scene.sample_sets import save_scene

INSIDE, OTHER = (-25.0, -30.0, 20.0), (-40.0, -25.0, 30.0)  # RAS mm, in the sample data


@pytest.fixture
def pointing(driver):
    """The sample data, and a list with one lesion."""
    driver.load_sample_data()
    driver.open_sections("lesionsSection")
    driver.press("placePointButton")
    place(driver, INSIDE)
    return driver


def place(driver, position) -> None:
    driver.parameters.points.AddControlPoint(*position)
    driver.settle()


def boxes() -> list:
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
    return [node for node in nodes if node.GetAttribute("AmbiguousSeg.Window")]


def middle(node) -> list[float]:
    return list(node.GetCenterWorld())


def recent(driver) -> list[str]:
    driver.settle()
    selector = driver.ui.recentLesionsSelector
    return [selector.itemText(number) for number in range(selector.count)]


def test_the_box_follows_the_point_that_is_dragged_without_a_refresh(pointing):
    pointing.parameters.model = "lung-nodule"  # whose window is smaller than the volume
    pointing.settle()
    (box,) = boxes()
    size = box.GetSize()
    before = middle(box)
    pointing.parameters.points.SetNthControlPointPositionWorld(0, INSIDE[0] - 4.0, INSIDE[1] - 3.0, INSIDE[2])
    moved = middle(box)  # no event loop in between
    assert [b - a for a, b in zip(before, moved)] == pytest.approx([-4.0, -3.0, 0.0], abs=1.0)
    assert moved != before and box.GetSize() == size and boxes() == [box]


def test_the_box_follows_the_model_and_every_point_has_its_own(pointing):
    pointing.parameters.model = "lung-nodule"
    pointing.settle()
    (box,) = boxes()
    assert max(box.GetSize()[:2]) <= 44.8 + 1.0  # its field of view, in whole voxels
    place(pointing, OTHER)
    assert len(boxes()) == 2
    pointing.parameters.model = "phantom-cimd-64"
    pointing.settle()
    assert max(boxes()[0].GetSize()[:2]) > 60.0
    pointing.parameters.points.RemoveNthControlPoint(0)
    pointing.settle()
    assert len(boxes()) == 1


def test_the_boxes_go_with_the_tick_the_points_and_the_scene(pointing):
    check = pointing.ui.showWindowsCheckBox
    assert check.checked
    check.click()
    pointing.settle()
    assert boxes() == []
    check.click()
    pointing.settle()
    assert len(boxes()) == 1
    pointing.parameters.points = None
    pointing.settle()
    assert boxes() == []
    place_list = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0]
    pointing.parameters.points = place_list
    pointing.settle()
    slicer.mrmlScene.RemoveNode(place_list)
    pointing.settle()
    assert boxes() == []


def test_a_box_is_no_region_of_interest_to_choose(pointing):
    assert boxes() and pointing.ui.regionSelector.nodeCount() == 0


def test_a_new_list_leaves_the_earlier_lesion_alone_and_the_way_back_to_it(pointing):
    first = pointing.parameters.points
    pointing.press("newLesionsButton")
    pointing.settle()
    second = pointing.parameters.points
    assert second is not first and first.GetNumberOfControlPoints() == 1
    place(pointing, OTHER)
    pointing.widget.scheduleRefresh()
    assert recent(pointing) == [
        f"{second.GetName()}: lesion 1 (R -40.0, A -25.0, S 30.0 mm)",
        f"{first.GetName()}: lesion 1 (R -25.0, A -30.0, S 20.0 mm)",
    ]
    assert [settings.point for settings in pointing.widget.controller.request.settings()] == [OTHER]
    pointing.ui.recentLesionsSelector.activated.emit(1)
    pointing.settle()
    assert pointing.parameters.points is first
    assert [settings.point for settings in pointing.widget.controller.request.settings()] == [INSIDE]
    assert recent(pointing)[0].startswith(first.GetName()), "it is the one used last now"
    assert len(boxes()) == 1


def test_recent_lesions_come_back_with_the_scene_and_boxes_are_drawn_anew(pointing, tmp_path):
    told = recent(pointing)
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    pointing.settle()
    assert boxes() == [] and recent(pointing) == []
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    pointing.settle()
    assert recent(pointing) == told and len(boxes()) == 1
