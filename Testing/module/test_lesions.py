"""Lesions that are pointed at: the button arms the mouse, each point becomes a run of its own."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.generation import request_of
from AmbiguousSegBridge.runner import Failure
from AmbiguousSegBridge.runs import crops_of, find_runs
from module_driver import FakeRunner

INSIDE, OTHER = (-25.0, -30.0, 20.0), (-40.0, -25.0, 30.0)  # RAS mm, in the sample data


@pytest.fixture
def pointing(driver):
    """The sample data, and a list of lesions without any."""
    driver.load_sample_data()
    driver.press("placePointButton")
    driver.settle()
    return driver


def interaction():
    return slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")


def click(driver, place) -> None:
    """What Slicer's views do at a click while the mouse places points."""
    driver.parameters.points.AddControlPoint(*place)
    driver.settle()


def lps(place) -> list[float]:
    return [-place[0], -place[1], place[2]]


def test_the_button_arms_the_mouse_for_one_click(pointing):
    points = pointing.parameters.points
    selection = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    assert interaction().GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place
    assert not interaction().GetPlaceModePersistence()
    assert selection.GetActivePlaceNodeID() == points.GetID()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsFiducialNode"
    assert pointing.ui.pointsSelector.currentNode() is points and pointing.ui.pointsSelector.enabled
    assert pointing.ui.pointsTextLabel.text == "Click a lesion in a slice view."
    assert not pointing.ui.generateButton.enabled and "Click a lesion" in pointing.ui.generateButton.toolTip
    points.AddControlPoint(*INSIDE)
    points.SetNthControlPointPositionWorld(0, *INSIDE, points.PositionPreview)  # it still follows the mouse
    pointing.settle()
    assert not pointing.ui.generateButton.enabled
    points.RemoveAllControlPoints()
    click(pointing, INSIDE)
    assert pointing.ui.generateButton.enabled
    pointing.press("placePointButton")
    assert pointing.parameters.points is points, "further clicks belong to the same list"


def test_a_point_takes_the_place_of_region_and_slices(pointing):
    ui, parameters = pointing.ui, pointing.parameters
    parameters.limitSlices, parameters.lastSlice = True, 3
    click(pointing, INSIDE)
    (settings,) = pointing.widget.inputs.settings()
    assert settings.slice_range is None and settings.region is None and settings.point == INSIDE
    assert not any(w.enabled for w in (ui.regionSelector, ui.limitSlicesCheckBox, ui.firstSliceSpinBox))
    parameters.points = None
    pointing.settle()
    (settings,) = pointing.widget.inputs.settings()
    assert settings.slice_range == (0, 3) and settings.point is None
    assert all(w.enabled for w in (ui.regionSelector, ui.limitSlicesCheckBox, ui.firstSliceSpinBox))
    assert not ui.pointsTextLabel.visible


def test_a_point_that_is_moved_out_of_the_volume_disables_the_button(pointing, monkeypatch):
    monkeypatch.setattr(pointing.widget.context, "runner", FakeRunner())
    click(pointing, INSIDE)
    assert pointing.ui.generateButton.enabled
    pointing.parameters.points.SetNthControlPointPositionWorld(0, 1000.0, 0.0, 0.0)
    pointing.widget.inputs.ask_estimate()
    pointing.settle()
    assert not pointing.ui.generateButton.enabled and "outside" in pointing.ui.generateButton.toolTip


def test_each_lesion_is_a_run_of_its_own(pointing):
    click(pointing, INSIDE)
    click(pointing, OTHER)
    assert pointing.ui.pointsTextLabel.text.startswith("2 lesions")
    pointing.parameters.samples = 2
    pointing.press("generateButton")
    pointing.wait(lambda: not pointing.widget.generate.busy)
    runs = {run.name: run for run in find_runs(slicer.mrmlScene)}
    assert sorted(runs) == ["AmbiguousSeg phantom lesion 1", "AmbiguousSeg phantom lesion 2"]
    for name, place in zip(sorted(runs), (INSIDE, OTHER)):
        np.testing.assert_allclose(request_of(runs[name])["pointing"]["point_mm"], lps(place), atol=1e-9)
        assert len(crops_of(runs[name])) == 2
    pointing.press("generateButton")  # the same again takes the place of what is there
    pointing.wait(lambda: not pointing.widget.generate.busy)
    assert sorted(run.name for run in find_runs(slicer.mrmlScene)) == sorted(runs)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_after_an_early_end_no_further_lesion_is_begun(pointing, monkeypatch, end):
    runner = FakeRunner()
    monkeypatch.setattr(pointing.widget.context, "runner", runner)
    for place in (INSIDE, OTHER):
        click(pointing, place)
    pointing.press("generateButton")
    number, (job, listener) = len(runner.jobs), runner.jobs[-1]
    assert job.kind == "sample"
    if end == "cancelled":
        pointing.press("generateButton")
    steps = listener.cancelled() if end == "cancelled" else listener.failed(Failure("bad_input", "It cannot be.", ""))
    for _ in steps:
        pass
    pointing.settle()
    assert not pointing.widget.generate.busy
    assert not [job for job, _ in runner.jobs[number:] if job.kind == "sample"]
