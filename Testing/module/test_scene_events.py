"""What happens to the scene, and to the application, while the module works or is left."""

from __future__ import annotations

import pytest
import slicer
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene
from module_driver import FEW_SLICES
from SlicerHost.samples import make_samples


@pytest.fixture
def other_scene(driver, tmp_path):
    """A scene of one volume, saved."""
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "note")
    save_scene(slicer.mrmlScene, tmp_path / "other.mrb")
    slicer.mrmlScene.Clear()
    return tmp_path / "other.mrb"


def leave(driver) -> None:
    driver.widget.parent._entered = False


def test_a_scene_read_beside_a_run_under_way_is_in_nobodys_way(driver, other_scene):
    driver.load_sample_data()
    driver.start(3, limitSlices=True, firstSlice=9, lastSlice=12)
    driver.wait(lambda: driver.ui.progressBar.value > 0)
    leave(driver)
    assert slicer.mrmlScene.ReadFromMRB(str(other_scene))
    driver.wait(lambda: not driver.busy)
    driver.widget.parent._entered = True
    driver.widget.enter()
    driver.wait(lambda: "modes" in driver.run.tables)
    assert len(driver.run.samples) == 3 and driver.ui.statusLabel.text.startswith("3 samples in run")
    assert slicer.mrmlScene.GetFirstNodeByName("note") is not None


def test_a_scene_read_beside_a_comparison_is_in_nobodys_way(driver, other_scene):
    driver.sampled(2, 9, 12)
    driver.press("compareButton")
    leave(driver)
    assert slicer.mrmlScene.ReadFromMRB(str(other_scene))
    driver.wait(lambda: "comparison summary" in driver.run.tables)
    assert driver.ui.comparisonTable.mrmlTableNode() is driver.run.tables["comparison summary"]


def test_a_grid_is_left_with_a_scene_closed_in_another_module(driver, other_scene):
    driver.sampled(2, 9, 12)
    driver.press("sideBySideButton")
    leave(driver)
    assert slicer.mrmlScene.ReadFromMRB(str(other_scene))
    slicer.mrmlScene.Clear()
    driver.settle()
    assert not driver.ui.sideBySideButton.checked


def test_quitting_while_sampling_makes_no_run_and_starts_nothing(driver):
    driver.load_sample_data()
    driver.start(8)
    driver.wait(lambda: any(node.GetAttribute("AmbiguousSeg.Role") for node in slicer.mrmlScene.GetNodes()))
    slicer.app.aboutToQuit.emit()
    driver.settle()
    assert driver.run is None and list(driver.temporary.iterdir()) == []
    assert driver.widget.logic.runner._worker is None and not driver.widget.logic.runner._waiting


def test_the_volume_chosen_first_can_be_an_input(driver):
    scene = slicer.mrmlScene
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    add_sample_set(scene, make_samples(), "run")  # whose maps are no inputs
    driver.widget.enter()
    assert driver.parameters.channel1 is None
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "later")
    driver.widget.enter()
    assert driver.parameters.channel1 is volume


def test_samples_saved_while_they_arrived_are_ordinary_segmentations_when_loaded(driver, tmp_path):
    driver.load_sample_data()
    driver.start(3, **FEW_SLICES)
    driver.wait(lambda: driver.widget.controller.sampling.samples)
    count = len(driver.widget.controller.sampling.samples)
    save_scene(slicer.mrmlScene, tmp_path / "early.mrb")
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "early.mrb"))  # beside the run under way
    assert len(driver.widget.controller.sampling.samples) == count  # which is left alone
    driver.wait(lambda: not driver.busy)
    assert len(driver.run.samples) == 3
    driver.settle()
    tree = driver.ui.raterTree
    names = [tree.topLevelItem(number).text(0) for number in range(tree.topLevelItemCount)]
    assert sum("sample 0" in name for name in names) == count
