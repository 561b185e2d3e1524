"""The views follow the panel, and the panel follows what the user does to views and scene elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene import side_by_side
from AmbiguousSegBridge.scene.folders import remove_nodes
from AmbiguousSegBridge.scene.fusions import put_fused
from AmbiguousSegBridge.scene.masks import crops_of, read_mask
from AmbiguousSegBridge.scene.runs import remove_run
from AmbiguousSegBridge.scene.sample_sets import save_scene
from AmbiguousSegBridge.scene.views import Overlay
from SlicerHost import dialogs

LAYOUT = slicer.vtkMRMLLayoutNode
GRIDS = ["sideBySideButton", "modesSideBySideButton"]


@pytest.fixture
def filled(driver):
    """The module with a run of three samples."""
    driver.sampled(3, 9, 12)
    return driver


def restricted(driver) -> list[str]:
    return [view for node in driver.run.samples for view in node.GetDisplayNode().GetViewNodeIDs()]


def enter(driver, grid: str) -> None:
    driver.press(grid)
    driver.settle()
    assert side_by_side.is_shown(slicer.mrmlScene) and restricted(driver)


@pytest.mark.parametrize("grid", GRIDS)
def test_without_a_main_window_nothing_is_put_side_by_side(filled, grid, monkeypatch):
    """The scene has a layout node none the less, as one that was read may have."""
    monkeypatch.setattr(type(slicer.app), "layoutManager", lambda _app: None)
    filled.press(grid)
    filled.settle()
    ((_, text),) = dialogs.shown
    assert "without its main window" in text
    assert not getattr(filled.ui, grid).checked and not restricted(filled)
    displays = [node.GetDisplayNode() for node in filled.run.samples]
    assert not any(display.GetAttribute(side_by_side.EARLIER_VISIBILITY) for display in displays)


@pytest.mark.parametrize("grid", GRIDS)
def test_another_layout_from_the_toolbar_ends_the_grid(filled, grid):
    enter(filled, grid)
    slicer.app.layoutManager().setLayout(LAYOUT.SlicerLayoutFourUpView)
    filled.settle()
    assert not getattr(filled.ui, grid).checked and not restricted(filled)
    assert slicer.app.layoutManager().layout == LAYOUT.SlicerLayoutFourUpView
    assert all(node.GetDisplayVisibility() for node in filled.run.samples)


@pytest.mark.parametrize("button", ["histogramButton", "disagreementPlotButton"])
def test_a_plot_ends_the_grid(filled, button):
    if button == "disagreementPlotButton":
        filled.press("compareButton")
        filled.wait(lambda: "comparison summary" in filled.run.tables)
    slicer.app.layoutManager().setLayout(LAYOUT.SlicerLayoutConventionalView)
    enter(filled, "sideBySideButton")
    filled.press(button)
    filled.settle()
    assert not filled.ui.sideBySideButton.checked and not restricted(filled)
    assert slicer.app.layoutManager().layout == LAYOUT.SlicerLayoutConventionalPlotView


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("end", ["scene", "run", "samples"])
def test_the_grid_ends_with_what_it_shows(filled, grid, end, monkeypatch):
    before = LAYOUT.SlicerLayoutOneUpRedSliceView
    slicer.app.layoutManager().setLayout(before)
    enter(filled, grid)
    if end == "scene":
        slicer.mrmlScene.Clear()
    elif end == "samples":
        remove_nodes(slicer.mrmlScene, filled.run.samples)
    else:
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, **__: True)
        filled.press("removeRunButton")
    filled.settle()
    assert (end == "samples" or filled.run is None) and not getattr(filled.ui, grid).checked
    assert slicer.app.layoutManager().layout == before


def labels_of_grid(driver) -> list[str]:
    views = [view for node in driver.run.samples for view in node.GetDisplayNode().GetViewNodeIDs()]
    return sorted(slicer.mrmlScene.GetNodeByID(view).GetLayoutLabel() for view in views)


def test_the_grid_of_modes_follows_the_modes(filled):
    filled.ui.modeCutSlider.value = 0.01
    filled.wait(lambda: filled.ui.modeTable.rowCount == 3)
    enter(filled, "modesSideBySideButton")
    assert labels_of_grid(filled) == ["mode 1: 33 %", "mode 2: 33 %", "mode 3: 33 %"]
    filled.ui.modeCutSlider.value = 1
    filled.wait(lambda: filled.ui.modeTable.rowCount == 1)
    filled.settle()
    assert labels_of_grid(filled) == ["mode 1: 100 %"]
    assert side_by_side.layout_of(slicer.mrmlScene).GetViewArrangement() == side_by_side.FIRST_LAYOUT + 1


def test_a_run_whose_modes_are_not_known_ends_the_grid_of_modes(filled):
    enter(filled, "modesSideBySideButton")
    slicer.mrmlScene.RemoveNode(filled.run.tables["modes"])
    filled.settle()
    button = filled.ui.modesSideBySideButton
    assert not button.checked and not button.enabled and not side_by_side.is_shown(slicer.mrmlScene)
    assert all(node.GetDisplayVisibility() for node in filled.run.samples) and not restricted(filled)


def test_a_grid_saved_with_the_scene_is_one_when_loaded(filled, tmp_path):
    enter(filled, "sideBySideButton")
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    filled.settle()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    filled.settle()
    assert filled.ui.sideBySideButton.checked and len(restricted(filled)) == 3
    filled.press("sideBySideButton")
    filled.settle()
    assert not restricted(filled) and not side_by_side.is_shown(slicer.mrmlScene)


def test_a_maximised_view_does_not_hide_the_grid(filled):
    layout = side_by_side.layout_of(slicer.mrmlScene)
    layout.AddMaximizedViewNode(slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode"))
    enter(filled, "sideBySideButton")
    assert layout.GetNumberOfMaximizedViewNodes() == 0


def test_views_are_rebuilt_once(driver):
    layout, events = side_by_side.layout_of(slicer.mrmlScene), []
    layout.AddObserver("ModifiedEvent", lambda *_: events.append(1))
    for count in range(1, side_by_side.MOST_VIEWS + 1):
        assert layout.IsLayoutDescription(side_by_side.FIRST_LAYOUT + count)
    driver.load_sample_data()
    driver.generate(2, firstSlice=10, lastSlice=11)
    events.clear()
    for _ in range(2):
        driver.press("sideBySideButton")
        assert len(events) == 1
        events.clear()


def test_left_alone_while_another_module_is_open(driver):
    driver.load_sample_data()
    driver.start(2, limitSlices=True, firstSlice=10, lastSlice=11)
    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    composite = slicer.app.layoutManager().mrmlSliceLogics().GetItemAsObject(0).GetSliceCompositeNode()
    place = (red.GetSliceOffset(), composite.GetForegroundVolumeID())
    driver.widget.parent._entered = False
    driver.wait(lambda: not driver.busy)
    assert len(driver.run.samples) == 2
    assert (red.GetSliceOffset(), composite.GetForegroundVolumeID()) == place
    driver.widget.parent._entered = True
    driver.widget.enter()
    driver.settle()
    assert composite.GetForegroundVolumeID() == driver.run.mean.GetID()


def test_visits_cost_no_observers(driver):
    node = driver.parameters.parameterNode
    connected = driver.widget._parameterNode
    driver.widget.enter()
    assert driver.widget._parameterNode is connected and driver.parameters.parameterNode is node


def test_without_a_main_window_the_module_opens(driver, monkeypatch):
    monkeypatch.setattr(side_by_side, "layout_of", lambda _scene: None)
    driver.widget.initializeParameterNode()
    driver.load_sample_data()
    driver.generate(1, firstSlice=10, lastSlice=11)
    assert len(driver.run.samples) == 1


def test_maps_and_volumes_follow_a_deleted_sample(filled):
    remove_nodes(slicer.mrmlScene, [filled.run.samples[1]])
    filled.settle()
    filled.wait(lambda: not filled.widget.controller.modes.busy)
    masks = [crop.full() for crop in crops_of(filled.run)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(filled.run.mean), np.mean(masks, 0, dtype=np.float32))
    table = filled.ui.sampleTable
    assert [table.item(row, 0).text() for row in range(3)] == ["sample 01", "sample 03", "mean"]
    volume_ml = masks[1].sum() * filled.run.geometry.voxel_volume_ml
    assert float(table.item(1, 1).text()) == pytest.approx(volume_ml, abs=5e-4)
    table.cellClicked.emit(1, 0)
    filled.settle()
    assert [bool(node.GetDisplayVisibility()) for node in filled.run.samples] == [False, True]
    assert sum(int(filled.ui.modeTable.item(row, 2).text()) for row in range(filled.ui.modeTable.rowCount)) == 2


def test_a_run_removed_during_its_comparison(filled):
    filled.press("compareButton")
    remove_run(slicer.mrmlScene, filled.run)
    filled.wait(lambda: not filled.widget.controller.comparison.busy)
    assert "removed meanwhile" in filled.ui.comparisonLabel.text
    assert filled.ui.compareButton.text.startswith("Compare") and not filled.ui.compareButton.enabled


def test_a_comparison_of_fewer_samples_says_so(filled):
    filled.press("compareButton")
    filled.wait(lambda: "comparison summary" in filled.run.tables)
    assert "compare again" not in filled.ui.comparisonLabel.text
    filled.parameters.moreSamples = 1
    filled.press("moreButton")
    filled.settle()
    assert not filled.ui.compareButton.enabled and "Wait" in filled.ui.compareButton.toolTip
    filled.wait(lambda: not filled.busy)
    assert "compare again" in filled.ui.comparisonLabel.text and filled.ui.compareButton.enabled


def test_tables_of_a_run_cannot_be_typed_over(filled):
    assert all(node.GetLocked() for node in filled.run.tables.values())


def test_a_fused_mask_that_a_new_comparison_lacks_is_not_left_over(filled):
    masks = {"raters STAPLE": crops_of(filled.run)[0], "samples majority": crops_of(filled.run)[1]}
    put_fused(slicer.mrmlScene, filled.run, masks)
    assert set(masks) <= set(filled.run.nodes)
    before = len(filled.run.nodes)
    filled.run.nodes["samples majority"].GetSegmentation().RemoveAllSegments()
    put_fused(slicer.mrmlScene, filled.run, {"samples majority": masks["raters STAPLE"]})
    run = filled.run
    assert "raters STAPLE" not in run.nodes and len(run.nodes) == before - 1 and len(run.samples) == 3
    assert read_mask(run.nodes["samples majority"], run.geometry, run.labels).same(masks["raters STAPLE"])


@pytest.mark.parametrize("missing", ["variance", "consensus", "samples"])
def test_whatever_the_user_deletes_every_button_that_is_enabled_works(filled, tmp_path, missing):
    filled.parameters.overlay = Overlay.VARIANCE
    filled.parameters.exportFolder = tmp_path / "out"
    filled.settle()
    run = filled.run
    remove_nodes(slicer.mrmlScene, run.samples if missing == "samples" else [run.nodes[missing]])
    filled.settle()
    enabled = []
    for name in ("sideBySideButton", "modesSideBySideButton", "moreDisagreementButton", "useConsensusButton"):
        if getattr(filled.ui, name).enabled:
            filled.press(name)
            enabled.append(name)
    filled.widget.controller.display.leave_grid()
    for name, work in (
        ("compareButton", filled.widget.controller.comparison),
        ("exportButton", filled.widget.controller.export),
    ):
        if getattr(filled.ui, name).enabled:
            filled.press(name)
            filled.wait(lambda work=work: not work.busy)
            enabled.append(name)
    if filled.ui.histogramButton.enabled:
        filled.press("histogramButton")
    assert ("useConsensusButton" in enabled) == (missing != "consensus")
    assert ("exportButton" in enabled) == ("compareButton" in enabled) == (missing != "samples")
    written = {path.name for path in (tmp_path / "out").glob("*")}
    everything = {"mean.nrrd", "variance.nrrd", "consensus.seg.nrrd"} | {f"sample_0{k}.seg.nrrd" for k in (1, 2, 3)}
    lost = {"variance": {"variance.nrrd"}, "consensus": {"consensus.seg.nrrd"}, "samples": everything}
    assert written == everything - lost[missing]


def test_a_sample_that_lost_its_mask_is_named_by_every_button(filled):
    filled.parameters.shownSample = 2
    filled.settle()
    filled.run.samples[1].GetSegmentation().RemoveAllSegments()
    buttons = ("useSampleButton", "histogramButton", "compareButton", "moreButton")
    for button in buttons:
        filled.press(button)
    filled.ui.modeCutSlider.value = 0.3
    filled.wait(lambda: not filled.widget.controller._cut_timer.active)
    texts = [*dialogs.texts("errorDisplay"), filled.ui.modesLabel.text]
    assert len(texts) == len(buttons) + 1
    assert all("sample 02' has lost its mask. Delete it" in text for text in texts)
    assert not filled.busy and not filled.widget.controller.comparison.busy


PRESSES = ("useSampleButton", "useConsensusButton", "histogramButton", "disagreementPlotButton", "exportButton")
PRESSES += ("compareButton", "moreDisagreementButton", "sideBySideButton", "modesSideBySideButton")


@pytest.mark.parametrize("gone", ["samples", "run", "scene"])
def test_a_press_a_moment_after_everything_went_does_nothing(filled, tmp_path, gone):
    filled.parameters.shownSample = 3
    filled.parameters.exportFolder = tmp_path / "out"
    filled.press("compareButton")
    filled.wait(lambda: "comparison summary" in filled.run.tables)
    filled.settle()
    buttons = [getattr(filled.ui, name) for name in PRESSES]
    assert all(button.enabled for button in buttons)
    if gone == "samples":
        remove_nodes(slicer.mrmlScene, filled.run.samples)
    elif gone == "run":
        remove_run(slicer.mrmlScene, filled.run)
    else:
        slicer.mrmlScene.Clear()
    for button in buttons:  # as they are until the event loop comes to it
        if button.enabled:
            button.click()
    filled.settle()
    assert filled.run is None or not filled.run.samples
