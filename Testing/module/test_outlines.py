"""The section "Outlines": what is in front, contours that follow, who has which colour, surfaces made one by one."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene import outlines
from AmbiguousSegBridge.scene.folders import remove_nodes
from AmbiguousSegBridge.scene.runs import find_runs
from AmbiguousSegBridge.scene.sample_sets import add_sample_set
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from SlicerHost import dialogs
from SlicerHost.samples import PLAIN, input_volume

from AmbiguousSegLib.ensemble.sample_set import SampleSet


@pytest.fixture
def shown(driver):
    """A run of ten samples, the section open; sample k marks 3 rows of 10 - k columns, the last one nothing more."""
    masks = np.zeros((10, *PLAIN.shape), bool)
    for k in range(10):
        masks[k, 3, 2:5, 1 : 11 - k] = True
    add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN), "run", input_volume(slicer.mrmlScene, PLAIN))
    driver.ui.outlinesSection.collapsed = False
    driver.settle()
    return driver


def titles(driver) -> list[str]:
    table = driver.ui.legendTable
    return [table.item(row, 0).text() for row in range(table.rowCount)]


def drawn(driver) -> list[tuple[bool, int]]:
    displays = [node.GetDisplayNode() for node in driver.run.samples]
    return [(bool(d.GetVisibility()), d.GetSliceIntersectionThickness()) for d in displays]


def tick(driver, title: str, state=Qt.Checked) -> None:
    driver.ui.legendTable.item(titles(driver).index(title), 1).setCheckState(state)


def test_the_chosen_outline_is_in_front_of_all(shown):
    shown.parameters.shownSample = 3
    shown.settle()
    assert drawn(shown) == [(False, 1)] * 2 + [(True, 1)] + [(False, 1)] * 7  # alone, as before
    shown.ui.togetherCheckBox.click()
    shown.settle()
    assert drawn(shown) == [(True, 1)] * 2 + [(True, 4)] + [(True, 1)] * 7
    assert shown.ui.legendTable.currentRow() == 2
    QTest.keyClick(shown.ui.legendTable, Qt.Key_Down)
    shown.settle()
    assert shown.parameters.shownSample == 4 and [width for _, width in drawn(shown)].index(4) == 3
    shown.ui.legendTable.cellClicked.emit(titles(shown).index("consensus"), 0)
    shown.settle()
    assert drawn(shown) == [(True, 1)] * 10
    shown.parameters.shownSample = 1
    shown.settle()
    shown.ui.togetherCheckBox.click()
    shown.settle()
    assert drawn(shown) == [(True, 1)] + [(False, 1)] * 9


def test_outlines_that_the_user_has_set_are_left_alone(shown):
    shown.run.samples[0].GetDisplayNode().SetSliceIntersectionThickness(7)
    shown.parameters.shownSample = 1
    shown.settle()
    assert drawn(shown)[0] == (True, 7)


def test_contours_are_shown_and_follow_the_samples(shown):
    shown.ui.contoursCheckBox.click()
    shown.settle()
    node = shown.run.nodes["contours"]

    def areas():
        names = node.GetSegmentation().GetSegmentIDs()
        arrays = [slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, name) for name in names]
        return [int((array > 0).sum()) for array in arrays]

    assert node.GetDisplayVisibility() and areas() == [30, 18, 6]
    levels = [f"lesion, at least {percent} % of the samples" for percent in (10, 50, 90)]
    assert titles(shown) == [*(f"sample {k:02d}" for k in range(1, 11)), "consensus", *levels]
    tick(shown, levels[0])
    shown.wait(lambda: outlines.in_3d(node))
    remove_nodes(slicer.mrmlScene, shown.run.samples[5:])
    shown.wait(lambda: len(shown.run.samples) == 5 and outlines.in_3d(node))
    assert areas() == [30, 24, 18]  # one, three and five of five: the upkeep has renewed the maps
    node.SetDisplayVisibility(False)  # by the user, elsewhere
    shown.widget.refresh()
    assert not node.GetDisplayVisibility()
    shown.ui.contoursCheckBox.click()
    shown.settle()
    assert not node.GetDisplayVisibility() and len(titles(shown)) == 6


def test_contours_of_the_run_shown_alone_are_seen(shown):
    shown.parameters.showContours = True
    shown.settle()
    first = shown.run
    add_sample_set(slicer.mrmlScene, SampleSet(np.ones((1, *PLAIN.shape), bool), PLAIN), "other")
    other = next(run for run in find_runs(slicer.mrmlScene) if run.name == "other")
    for run, visible in ((other, [False, True]), (first, [True, False])):
        shown.parameters.run = run.node
        shown.settle()
        nodes = [slicer.mrmlScene.GetFirstNodeByName(f"{name} - contours") for name in ("run", "other")]
        assert [bool(node.GetDisplayVisibility()) for node in nodes] == visible


def test_raters_are_in_the_legend_with_their_colours(shown):
    rater = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "raters")
    for name, colour in (("Ann", (1, 0, 0)), ("Ben", (0, 0, 1))):
        rater.GetSegmentation().AddEmptySegment(name, name, colour)
    shown.parameters.raterNodes = [rater, rater]
    shown.parameters.raterSegments = ["Ann", "Ben"]
    shown.settle()
    assert titles(shown)[-2:] == ["Ann", "Ben"]
    chip = shown.ui.legendTable.item(titles(shown).index("Ben"), 0).data(Qt.DecorationRole)
    assert (chip.red(), chip.green(), chip.blue()) == (0, 0, 255)


def test_surfaces_are_made_one_after_another_on_request_alone(shown, monkeypatch):
    made, waiting, real = [], [], outlines.make_surfaces

    def make(node) -> None:
        made.append(node)
        waiting.append(shown.ui.outlinesLabel.text)
        real(node)

    monkeypatch.setattr(outlines, "make_surfaces", make)
    shown.settle()
    assert not made and not shown.ui.none3dButton.enabled
    for title in ("sample 01", "sample 04", "sample 02"):
        tick(shown, title)
    shown.wait(lambda: len(made) == 3)
    samples = shown.run.samples
    assert made == [samples[0], samples[3], samples[1]]
    assert waiting[1:] == ["Surfaces still to be made: 2.", "Surfaces still to be made: 1."]
    tick(shown, "sample 04", Qt.Unchecked)
    shown.settle()
    assert [outlines.in_3d(node) for node in samples[:5]] == [True, True, False, False, False]
    shown.press("none3dButton")
    shown.settle()
    assert not any(outlines.in_3d(node) for node in samples)
    boxes = [shown.ui.legendTable.item(row, 1).checkState() for row in range(11)]
    assert boxes == [Qt.Unchecked] * 11


def test_what_marks_nothing_has_no_surface_and_says_so(shown):
    remove_nodes(slicer.mrmlScene, shown.run.samples)
    add_sample_set(slicer.mrmlScene, SampleSet(np.zeros((2, *PLAIN.shape), bool), PLAIN), "none")
    shown.parameters.run = next(run.node for run in find_runs(slicer.mrmlScene) if run.name == "none")
    shown.settle()
    tick(shown, "sample 01")
    shown.wait(lambda: dialogs.shown)
    ((kind, text),) = dialogs.shown
    assert kind == "errorDisplay" and "marks nothing" in text
    assert shown.ui.legendTable.item(0, 1).checkState() == Qt.Unchecked


def test_a_scene_that_is_closed_makes_no_more_surfaces(shown):
    tick(shown, "sample 01")
    tick(shown, "sample 02")
    slicer.mrmlScene.Clear()
    shown.settle()
    assert shown.ui.legendTable.rowCount == 0 and not shown.ui.none3dButton.enabled
