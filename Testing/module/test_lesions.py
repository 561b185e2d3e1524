"""Lesions that are pointed at: the button arms the mouse, each point becomes a run of its own."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.generation import request_of
from AmbiguousSegBridge.scene.masks import crops_of
from AmbiguousSegBridge.scene.runs import find_runs
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure
from module_driver import FakeRunner
from shared_data import REPOSITORY
from SlicerHost import dialogs

UI = REPOSITORY / "AmbiguousSeg" / "Resources" / "UI"
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
    (settings,) = pointing.widget.controller.request.settings()
    assert settings.slice_range is None and settings.region is None and settings.point == INSIDE
    assert not any(w.enabled for w in (ui.regionSelector, ui.limitSlicesCheckBox, ui.firstSliceSpinBox))
    parameters.points = None
    pointing.settle()
    (settings,) = pointing.widget.controller.request.settings()
    assert settings.slice_range == (0, 3) and settings.point is None
    assert all(w.enabled for w in (ui.regionSelector, ui.limitSlicesCheckBox, ui.firstSliceSpinBox))
    assert not ui.pointsTextLabel.visible


def test_a_point_that_is_moved_out_of_the_volume_disables_the_button(pointing, monkeypatch):
    monkeypatch.setattr(pointing.widget.context, "runner", FakeRunner())
    click(pointing, INSIDE)
    assert pointing.ui.generateButton.enabled
    pointing.parameters.points.SetNthControlPointPositionWorld(0, 1000.0, 0.0, 0.0)
    pointing.widget.controller.request.ask()
    pointing.settle()
    assert not pointing.ui.generateButton.enabled and "outside" in pointing.ui.generateButton.toolTip


def test_each_lesion_is_a_run_of_its_own(pointing):
    pointing.parameters.model = "lung-nodule"  # of one pass
    click(pointing, INSIDE)
    click(pointing, OTHER)
    assert pointing.ui.pointsTextLabel.text.startswith("2 lesions")
    pointing.parameters.samples = 2
    pointing.press("generateButton")
    pointing.wait(lambda: not pointing.busy)
    runs = {run.name: run for run in find_runs(slicer.mrmlScene)}
    assert sorted(runs) == ["AmbiguousSeg phantom lesion 1", "AmbiguousSeg phantom lesion 2"]
    for name, place in zip(sorted(runs), (INSIDE, OTHER)):
        np.testing.assert_allclose(request_of(runs[name])["pointing"]["point_mm"], lps(place), atol=1e-9)
        assert len(crops_of(runs[name])) == 2
    pointing.press("generateButton")  # the same again takes the place of what is there
    pointing.wait(lambda: not pointing.busy)
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
    assert not pointing.busy
    assert not [job for job, _ in runner.jobs[number:] if job.kind == "sample"]


def test_the_selector_lists_the_points_and_none_leads_back_to_the_volume(pointing):
    selector = pointing.ui.pointsSelector
    assert selector.enabled and selector.currentNode() is pointing.parameters.points
    selector.setCurrentNode(None)
    pointing.settle()
    assert pointing.parameters.points is None and pointing.ui.generateButton.enabled


@pytest.mark.parametrize("path", sorted(UI.glob("*.ui")), ids=lambda path: path.stem)
def test_whatever_shows_nodes_is_handed_the_scene(path):
    root = ElementTree.parse(path).getroot()
    shown = {w.get("name") for w in root.iter("widget") if w.get("class", "").startswith("qMRML")} - {path.stem}
    told = {c.findtext("receiver") for c in root.iter("connection") if c.findtext("slot").startswith("setMRMLScene(")}
    assert shown == told


def test_the_estimate_follows_the_number_of_lesions(pointing, monkeypatch):
    """The first lesion is asked for again, as the text speaks of all of them."""
    runner = FakeRunner()
    monkeypatch.setattr(pointing.widget.context, "runner", runner)
    monkeypatch.setattr(packages, "incomplete", lambda: False)
    estimate = {"seconds": 3.0, "memory_bytes": 1e6, "device": "cpu", "slices": 2, "evaluations": 8}
    texts = []
    for place in (INSIDE, OTHER, None):
        if place is None:
            pointing.parameters.points.RemoveNthControlPoint(1)
        else:
            click(pointing, place)
        pointing.widget.controller.request.ask()
        runner.last("estimate")[2].finished(estimate, None)
        texts.append(pointing.ui.estimateLabel.text)
    assert texts[1] == f"{texts[0]}, for each of 2 lesions" and texts[2] == texts[0]


def test_of_several_lesions_the_one_that_lies_outside_is_named(pointing):
    click(pointing, INSIDE)
    click(pointing, (1000.0, 0.0, 0.0))
    tip = pointing.ui.generateButton.toolTip
    assert not pointing.ui.generateButton.enabled and tip.startswith("lesion 2: The point") and "outside" in tip


@pytest.fixture
def three(pointing, monkeypatch):
    """Three lesions, the first of which is being sampled by nobody."""
    monkeypatch.setattr(pointing.widget.context, "runner", FakeRunner())
    for place in (INSIDE, OTHER, INSIDE):
        click(pointing, place)
    pointing.press("generateButton")
    dialogs.shown.clear()
    return pointing


def sampled_points(driver) -> list[list[float]]:
    jobs = driver.widget.context.runner.jobs
    return [job.arguments["pointing"]["point_mm"] for job, _ in jobs if job.kind == "sample"]


def end(driver, how: str, *arguments) -> None:
    """What the runner tells of the last sampling."""
    for _ in getattr(driver.widget.context.runner.last("sample")[2], how)(*arguments):
        pass
    driver.settle()


def test_what_was_not_begun_is_told(three):
    three.press("generateButton")
    end(three, "cancelled")
    assert three.ui.statusLabel.text == "Cancelled; nothing was added.\nNot begun: lesion 2, lesion 3"
    three.press("generateButton")
    end(three, "finished", {"provenance": {}}, None)  # without any sample, as when the user removed all of them
    assert sampled_points(three) == [lps(INSIDE), lps(INSIDE), lps(OTHER)]
    end(three, "failed", Failure("bad_input", "It cannot be.", ""))
    ((_, text),) = dialogs.shown
    assert text == "No segmentations were made of lesion 2.\nNot begun: lesion 3\n\nIt cannot be."
    assert not three.busy and len(sampled_points(three)) == 3


def test_a_volume_that_is_removed_on_the_way_ends_it(three):
    slicer.mrmlScene.RemoveNode(three.parameters.channel1)
    end(three, "finished", {"provenance": {}}, None)
    ((_, text),) = dialogs.shown
    assert "made of lesion 2.\nNot begun: lesion 3" in text and "no longer in the scene" in text
    assert not three.busy and len(sampled_points(three)) == 1


def test_points_that_are_removed_on_the_way_are_sampled_as_they_were(three):
    slicer.mrmlScene.RemoveNode(three.parameters.points)
    three.settle()
    end(three, "finished", {"provenance": {}}, None)
    assert sampled_points(three) == [lps(INSIDE), lps(OTHER)]


def test_no_further_lesion_is_begun_in_a_scene_that_was_closed(three):
    listener = three.widget.context.runner.last("sample")[2]
    slicer.mrmlScene.Clear()
    for _ in listener.cancelled():
        pass
    three.settle()
    assert len(sampled_points(three)) == 1 and not three.busy and not dialogs.shown
