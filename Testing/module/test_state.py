"""What is saved with the scene comes back: samples, maps, tables, settings, and the panels that show them."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene.masks import crops_of
from AmbiguousSegBridge.scene.sample_sets import save_scene
from AmbiguousSegBridge.scene.tables import read_table
from AmbiguousSegBridge.scene.views import Overlay

from AmbiguousSegLib.quality import Quality


def table_texts(table) -> list[list[str]]:
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def test_saved_cleared_loaded(driver, tmp_path):
    driver.load_sample_data()
    driver.generate(3, seed=4)
    driver.wait(lambda: "modes" in driver.run.tables)
    driver.press("compareButton")
    driver.wait(lambda: "comparison summary" in driver.run.tables)
    parameters = driver.parameters
    parameters.quality, parameters.overlay = Quality.BALANCED, Overlay.VARIANCE
    parameters.overlayOpacity, parameters.consensusThreshold = 0.75, 0.25
    parameters.shownSample, parameters.comparisonTable, parameters.modeCut = 2, "dice", 0.4
    parameters.exportFolder = tmp_path / "somewhere"
    driver.widget.controller.apply_threshold()
    driver.wait(lambda: not driver.widget.controller.modes.busy and not driver.widget.controller._cut_timer.active)
    before = {
        "masks": [crop.full() for crop in crops_of(driver.run)],
        "mean": slicer.util.arrayFromVolume(driver.run.mean).copy(),
        "variance": slicer.util.arrayFromVolume(driver.run.variances[0]).copy(),
        "tables": {role: node.GetAttribute("AmbiguousSeg.Table") for role, node in driver.run.tables.items()},
        "samples": table_texts(driver.ui.sampleTable),
        "modes": table_texts(driver.ui.modeTable),
        "raters": len(driver.parameters.raterSegments),
    }
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    driver.settle()
    assert driver.run is None and driver.ui.sampleTable.rowCount == 0
    assert driver.parameters.seed == 0

    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    driver.settle()
    run, parameters, ui = driver.run, driver.parameters, driver.ui
    for mask, crop in zip(before["masks"], crops_of(run), strict=True):
        np.testing.assert_array_equal(crop.full(), mask)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.mean), before["mean"])
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.variances[0]), before["variance"])
    assert {role: node.GetAttribute("AmbiguousSeg.Table") for role, node in run.tables.items()} == before["tables"]
    assert table_texts(ui.sampleTable) == before["samples"]
    assert table_texts(ui.modeTable) == before["modes"]
    assert (ui.seedSpinBox.value, ui.samplesSpinBox.value) == (4, 3)
    assert (ui.limitSlicesCheckBox.checked, ui.firstSliceSpinBox.value, ui.lastSliceSpinBox.value) == (True, 9, 12)
    assert parameters.quality is Quality.BALANCED and ui.qualitySelector.currentIndex == 1
    assert parameters.overlay is Overlay.VARIANCE
    assert (ui.opacitySlider.value, ui.thresholdSlider.value, ui.sampleSlider.value) == (0.75, 0.25, 2)
    assert parameters.modeCut == 0.4 and parameters.exportFolder == tmp_path / "somewhere"
    assert ui.channelSelector1.currentNode().GetName() == "AmbiguousSeg phantom"
    assert len(driver.widget.context.snapshot().raters) == before["raters"] == 4
    assert ui.comparisonSelector.itemData(ui.comparisonSelector.currentIndex) == "dice"
    assert ui.comparisonTable.mrmlTableNode() is run.tables["comparison dice"]
    driver.parameters.moreSamples = 1  # and it can go on from there
    driver.press("moreButton")
    driver.wait(lambda: not driver.busy)
    assert len(driver.run.samples) == 4


def test_consensus_follows_its_slider(driver):
    driver.sampled(4, 9, 12)
    mean = slicer.util.arrayFromVolume(driver.run.mean)
    for threshold in (0.0, 0.6):
        driver.ui.thresholdSlider.value = threshold
        driver.wait(lambda: not driver.widget.controller._threshold_timer.active)
        from AmbiguousSegBridge.scene.masks import read_mask

        np.testing.assert_array_equal(
            read_mask(driver.run.consensus, driver.run.geometry, driver.run.labels).full(), mean > threshold
        )


@pytest.mark.parametrize("button", ["useSampleButton", "useConsensusButton"])
def test_copies_for_the_segment_editor_are_no_part_of_the_run(driver, button):
    driver.sampled(4, 9, 12)
    driver.parameters.shownSample = 2
    nodes = driver.nodes("vtkMRMLSegmentationNode")
    driver.press(button)
    (copy,) = [node for node in driver.nodes("vtkMRMLSegmentationNode") if node not in nodes]
    source = driver.run.samples[1] if button == "useSampleButton" else driver.run.consensus
    assert copy not in driver.run.nodes.values()
    volume = driver.parameters.channel1
    (segment,) = copy.GetSegmentation().GetSegmentIDs()
    (original,) = source.GetSegmentation().GetSegmentIDs()
    np.testing.assert_array_equal(
        slicer.util.arrayFromSegmentBinaryLabelmap(copy, segment, volume),
        slicer.util.arrayFromSegmentBinaryLabelmap(source, original, volume),
    )


def test_jumping_goes_down_the_order_of_disagreement(driver):
    driver.load_sample_data()
    driver.generate(4)
    mean = slicer.util.arrayFromVolume(driver.run.mean)
    disagreement = (mean * (1 - mean)).sum((1, 2))
    order = sorted((z for z in range(len(mean)) if mean[z].any()), key=lambda z: -disagreement[z])
    assert driver.ui.disagreementLabel.text == f"slice {order[0]}, 1 of {len(order)}"
    driver.press("moreDisagreementButton")
    assert driver.ui.disagreementLabel.text == f"slice {order[1]}, 2 of {len(order)}"
    driver.press("lessDisagreementButton")
    assert driver.ui.disagreementLabel.text == f"slice {order[0]}, 1 of {len(order)}"


def test_one_sample_is_shown_alone_and_all_again(driver):
    driver.sampled(3, 9, 12)
    driver.ui.sampleTable.cellClicked.emit(1, 0)
    driver.settle()
    assert [bool(node.GetDisplayVisibility()) for node in driver.run.samples] == [False, True, False]
    assert driver.ui.sampleSlider.value == 2
    driver.ui.sampleSlider.value = 0
    driver.settle()
    assert all(node.GetDisplayVisibility() for node in driver.run.samples)


def test_side_by_side_shows_each_sample_in_a_view_of_its_own_and_goes_back(driver):
    driver.sampled(3, 9, 12)
    driver.press("sideBySideButton")
    driver.settle()
    views = [node.GetDisplayNode().GetViewNodeIDs() for node in driver.run.samples]
    assert all(len(ids) == 1 for ids in views) and len({ids[0] for ids in views}) == 3
    driver.press("sideBySideButton")
    driver.settle()
    assert all(len(node.GetDisplayNode().GetViewNodeIDs()) == 0 for node in driver.run.samples)


def test_representatives_of_modes_side_by_side_without_the_overlay(driver):
    driver.sampled(4, 9, 12)
    (red, *_) = [n for n in driver.nodes("vtkMRMLSliceCompositeNode") if n.GetLayoutName() == "Red"]
    assert red.GetForegroundVolumeID() == driver.run.mean.GetID()
    driver.press("modesSideBySideButton")
    driver.settle()
    rows = read_table(driver.run.tables["modes"])["rows"]
    shown = [n for n in driver.run.samples if n.GetDisplayNode().GetViewNodeIDs()]
    assert {n.GetAttribute("AmbiguousSeg.Role") for n in shown} == {row["representative"] for row in rows}
    assert sum(row["frequency"] for row in rows) == pytest.approx(1)
    assert not red.GetForegroundVolumeID()
    driver.press("modesSideBySideButton")
    driver.settle()
    assert red.GetForegroundVolumeID() == driver.run.mean.GetID()
    assert all(node.GetDisplayVisibility() for node in driver.run.samples)


def test_raters_are_hidden_and_shown(driver):
    driver.load_sample_data()
    (node,) = driver.nodes("vtkMRMLSegmentationNode")
    display, segments = node.GetDisplayNode(), list(node.GetSegmentation().GetSegmentIDs())
    driver.ui.showRatersCheckBox.checked = False
    driver.settle()
    assert not any(display.GetSegmentVisibility(segment) for segment in segments)
    driver.ui.showRatersCheckBox.checked = True
    driver.settle()
    assert all(display.GetSegmentVisibility(segment) for segment in segments)
