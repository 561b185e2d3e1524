"""The section "Inputs": what it remembers, what it refuses, and that it keeps the GUI light."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import vtk
from AmbiguousSegBridge.scene.fit import kind_of
from AmbiguousSegBridge.scene.folders import hierarchy_of
from AmbiguousSegBridge.scene.sample_sets import add_volume, save_scene
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure
from shared_data import REPOSITORY
from SlicerHost import dialogs
from SlicerHost.samples import OBLIQUE, PLAIN
from tiny_models import tiny_model
from tiny_training import METHODS

from AmbiguousSegLib.card import quality_lines
from AmbiguousSegLib.data.lung_phantom import phantom_volume
from AmbiguousSegLib.description import read_description
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.quality import Measured, Quality, QualityPreset
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.geometry import Geometry

LOAD = """
import sys
sys.path[:0] = {paths!r}
import SlicerHost
SlicerHost.install()
SlicerHost.load_module({module!r})
heavy = sorted(set(sys.modules) & {{"torch", "skimage", "matplotlib", "safetensors"}})
SlicerHost.uninstall()
sys.exit(f"loaded: {{heavy}}" if heavy else 0)
"""


def test_opening_the_module_loads_no_torch():
    """Loading it would block the GUI for seconds, and fail where it is not installed yet."""
    paths = [str(REPOSITORY / part) for part in ("", "Testing", "AmbiguousSeg")]
    code = LOAD.format(paths=paths, module=str(REPOSITORY / "AmbiguousSeg" / "AmbiguousSeg.py"))
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_a_model_with_two_channels_asks_for_two_volumes(driver, tmp_path):
    save_model(tiny_model(channels=2), tmp_path / "two")
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path / "two"))
    driver.press("browseModelButton")
    driver.settle()
    assert driver.ui.modelSelector.currentText == str(tmp_path / "two")
    assert [driver.ui.channelLabel1.text, driver.ui.channelLabel2.text] == ["channel 0:", "channel 1:"]
    assert driver.ui.channelSelector2.visible and not driver.ui.channelSelector3.visible
    voxels = np.random.default_rng(0).random(PLAIN.shape, np.float32)
    first, second = (add_volume(slicer.mrmlScene, voxels, PLAIN, name) for name in ("T1", "T2"))
    driver.parameters.channel1 = first
    driver.settle()
    assert not driver.ui.generateButton.enabled and "channel 1" in driver.ui.generateButton.toolTip
    driver.parameters.channel2 = second
    driver.generate(2, limitSlices=False)
    assert len(driver.run.samples) == 2
    assert driver.run.input is first
    driver.parameters.moreSamples = 1
    driver.press("moreButton")
    driver.wait(lambda: not driver.busy)
    assert len(driver.run.samples) == 3


def test_a_folder_without_a_model_is_refused_in_one_message(driver, tmp_path):
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    driver.press("browseModelButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "model.json" in text
    assert driver.parameters.model == ""


def test_ticking_only_slices_begins_with_all_of_them(driver):
    driver.load_sample_data()
    driver.ui.limitSlicesCheckBox.click()
    driver.settle()
    assert (driver.parameters.firstSlice, driver.parameters.lastSlice) == (0, 23)
    driver.ui.lastSliceSpinBox.value = 5
    driver.ui.firstSliceSpinBox.value = 9
    driver.settle()
    assert not driver.ui.generateButton.enabled and "comes after" in driver.ui.generateButton.toolTip


def test_quality_shows_its_steps_and_what_they_give(driver):
    selector = driver.ui.qualitySelector
    driver.parameters.model = "phantom-cimd-64"
    driver.settle()
    texts = [selector.itemText(index) for index in range(3)]
    assert texts == ["Fast (4 steps)", "Balanced (10 steps)", "As in the paper (1000 steps)"] and selector.enabled
    steps, *measured = selector.toolTip.split("\n")
    assert "more steps take longer" in steps
    assert measured == quality_lines(read_description(find_model("phantom-cimd-64"))) and len(measured) == 3


def test_a_model_of_one_pass_has_no_quality_to_choose(driver, tmp_path):
    one, plain = tmp_path / "one", tmp_path / "plain"
    method = build_method("probabilistic_unet", METHODS["probabilistic_unet"])
    said = {"one_pass": QualityPreset(None, Measured(0.231, (0.21, 0.25)))}
    save_model(replace(tiny_model(), method=method, qualities=said), one)
    save_model(tiny_model(), plain)
    selector = driver.ui.qualitySelector
    driver.parameters.quality = Quality.BALANCED
    driver.parameters.channel1 = phantom()
    driver.parameters.model = str(one)
    driver.settle()
    assert not selector.enabled and selector.currentText == "One pass"
    assert selector.toolTip.split("\n") == [
        "This model draws a segmentation in one pass: there are no steps to choose.",
        "One pass: GED u 0.231 (0.210 to 0.250)",
    ]
    (settings,) = driver.widget.controller.request.settings()
    assert settings.sampler_argument() is None
    driver.parameters.model = str(plain)
    driver.settle()
    assert selector.enabled and selector.currentText == "Balanced (25 steps)"  # as it was chosen
    assert selector.toolTip.endswith("\nWhat it gives was not measured for this model.")


def test_a_new_region_is_the_volume_and_moving_it_renews_the_estimate(driver):
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    volume, whole = driver.parameters.channel1, driver.ui.estimateLabel.text
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    driver.ui.regionSelector.nodeAddedByUser.emit(region)
    driver.parameters.region = region
    bounds, expected = [0.0] * 6, [0.0] * 6
    region.GetRASBounds(bounds)
    volume.GetRASBounds(expected)
    np.testing.assert_allclose(bounds, expected, atol=1e-6)
    driver.settle()
    size = region.GetSize()
    region.SetSize(size[0], size[1], 4.0)
    driver.wait(lambda: driver.ui.estimateLabel.text not in ("", whole) and "About" in driver.ui.estimateLabel.text)
    slices = int(driver.ui.estimateLabel.text.split(" x ")[1].split()[0])
    assert slices < 24


@pytest.fixture
def workerless(driver, monkeypatch):
    """The module where PyTorch is missing: nothing is estimated."""
    monkeypatch.setattr(packages, "torch_missing", lambda: True)
    return driver


def scan(geometry=PLAIN, name: str = "scan"):
    return add_volume(slicer.mrmlScene, np.zeros(geometry.shape, np.int16), geometry, name)


def box(driver, volume, low=(0.1, 0.1, 0.1), high=(0.9, 0.9, 0.9)):
    """A region that is chosen, from and to these shares of the volume's extent (world RAS)."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    start, end = np.array(bounds[0::2]), np.array(bounds[1::2])
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetCenterWorld((start + (end - start) * np.add(low, high) / 2).tolist())
    region.SetSizeWorld(((end - start) * np.subtract(high, low)).tolist())
    driver.parameters.region = region
    driver.settle()
    return region


def turned(degrees: float = 30.0):
    """A transform about the axis to the head."""
    matrix = vtk.vtkTransform()
    matrix.RotateZ(degrees)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turn")
    node.SetMatrixTransformToParent(matrix.GetMatrix())
    return node


def reason(driver) -> str:
    """Why the button is disabled; empty where it is not."""
    driver.settle()
    return "" if driver.ui.generateButton.enabled else driver.ui.generateButton.toolTip


def test_a_range_of_one_slice_comes_back_with_the_scene(workerless, tmp_path):
    workerless.parameters.channel1 = scan()
    parameters = workerless.parameters
    parameters.limitSlices, parameters.firstSlice, parameters.lastSlice = True, 0, 0
    workerless.settle()
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    workerless.settle()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    workerless.settle()
    ui = workerless.ui
    assert (ui.limitSlicesCheckBox.checked, ui.firstSliceSpinBox.value, ui.lastSliceSpinBox.value) == (True, 0, 0)


@pytest.mark.parametrize(("chosen", "kept"), [((3, 5), True), ((5, 9), False), ((8, 9), False)])
def test_a_range_that_another_volume_has_not_becomes_all_slices(workerless, chosen, kept):
    workerless.parameters.channel1 = add_volume(slicer.mrmlScene, np.zeros((10, 8, 8)), deeper(PLAIN, 10), "deep")
    workerless.settle()
    parameters, ui = workerless.parameters, workerless.ui
    parameters.limitSlices, (parameters.firstSlice, parameters.lastSlice) = True, chosen
    workerless.settle()
    parameters.channel1 = add_volume(slicer.mrmlScene, np.zeros((6, 8, 8)), deeper(PLAIN, 6), "flat")
    workerless.settle()
    assert ui.limitSlicesCheckBox.checked == kept and ui.firstSliceSpinBox.enabled == kept
    assert (parameters.firstSlice, parameters.lastSlice) == (chosen if kept else (0, 0))
    assert ui.sliceCountLabel.text.startswith("of 6,") and reason(workerless) == ""


def deeper(geometry, slices: int):
    return replace(geometry, size=(8, 8, slices))


def test_what_can_only_fail_disables_the_button_and_says_why(workerless, tmp_path):
    assert "Choose a volume for: CT" in reason(workerless)
    volume = workerless.parameters.channel1 = scan()
    assert reason(workerless) == ""
    image = volume.GetImageData()
    volume.SetAndObserveImageData(None)
    workerless.widget.enter()
    assert "holds no voxels" in reason(workerless) and "holds no voxels" in workerless.ui.sliceCountLabel.text
    volume.SetAndObserveImageData(image)
    sheared = vtk.vtkMatrix4x4()
    sheared.SetElement(0, 1, 0.3)
    volume.SetIJKToRASMatrix(sheared)
    workerless.widget.enter()
    assert "not perpendicular" in reason(workerless)


def test_channels_on_other_grids_disable_the_button(workerless, tmp_path):
    save_model(tiny_model(channels=2), tmp_path / "two")
    workerless.parameters.model = str(tmp_path / "two")
    workerless.parameters.channel1, workerless.parameters.channel2 = scan(), scan(OBLIQUE, "other")
    assert "different grids" in reason(workerless)
    workerless.parameters.channel2 = scan(name="fitting")
    assert reason(workerless) == ""


def test_a_region_that_leaves_nothing_disables_the_button(workerless):
    volume = workerless.parameters.channel1 = scan()
    region = box(workerless, volume, low=(0.1, 0.1, 0.4), high=(0.9, 0.9, 0.9))  # of slices 0 to 6 it touches 2 to 6
    assert reason(workerless) == ""
    parameters = workerless.parameters
    parameters.limitSlices, parameters.firstSlice, parameters.lastSlice = True, 0, 1
    text = "The region holds the slices 2 to 6; slices 0 to 1 are chosen"
    assert reason(workerless) == text
    parameters.lastSlice = 2
    assert reason(workerless) == ""
    centre = np.array(region.GetCenterWorld())
    region.SetCenterWorld(centre + np.array([1000, 0, 0]))  # moved in the views: no other event
    workerless.wait(lambda: not workerless.ui.generateButton.enabled)
    assert reason(workerless) == workerless.ui.estimateLabel.text == "The region box does not overlap the volume"
    region.SetCenterWorld(centre)
    workerless.wait(lambda: workerless.ui.generateButton.enabled)


def test_a_request_that_the_worker_has_refused_is_not_offered(driver, monkeypatch):
    asked = []
    runner = SimpleNamespace(start=lambda *job_and_listener: asked.append(job_and_listener), about=None)
    monkeypatch.setattr(driver.widget.context, "runner", runner)
    driver.parameters.channel1 = scan()

    def estimate_fails(kind: str) -> None:
        driver.wait(lambda: asked)
        asked.pop()[1].failed(Failure(kind, "It is 1 pixel wide.", "Choose another."))
        driver.settle()

    estimate_fails("bad_input")
    assert reason(driver) == driver.ui.estimateLabel.text == "It is 1 pixel wide. Choose another."
    driver.parameters.seed = 5
    assert reason(driver) == ""
    estimate_fails("crashed")
    assert reason(driver) == "" and "1 pixel wide" in driver.ui.estimateLabel.text


def test_settings_are_checked_without_copies_of_the_voxels(workerless):
    grid = Geometry((512, 512, 100), (0.7, 0.7, 1.0), (0.0, 0.0, 0.0), PLAIN.direction)
    volume = workerless.parameters.channel1 = scan(grid)
    box(workerless, volume)
    tracemalloc.start()
    try:
        workerless.widget.controller.request.settings()
        assert tracemalloc.get_traced_memory()[1] < 2e6  # the volume has 52 MB
    finally:
        tracemalloc.stop()


def test_a_box_that_is_turned_says_that_a_larger_one_is_used(workerless):
    volume = workerless.parameters.channel1 = scan()
    label = workerless.ui.regionLabel
    region = box(workerless, volume)
    assert label.text == "" and not label.visible
    turn = turned()
    region.SetAndObserveTransformNodeID(turn.GetID())
    workerless.wait(lambda: "upright box around it" in label.text)
    turn.SetMatrixTransformToParent(turned(90).GetMatrixTransformToParent())  # a quarter turn leaves it upright
    region.Modified()
    workerless.wait(lambda: label.text == "")
    region.SetAndObserveTransformNodeID(None)
    volume.SetAndObserveTransformNodeID(turned(30).GetID())
    region.Modified()
    workerless.wait(lambda: "upright box around it" in label.text)
    workerless.parameters.channel1 = scan(OBLIQUE, "oblique")
    workerless.settle()
    assert "upright box around it" in label.text
    workerless.parameters.region = None
    workerless.settle()
    assert label.text == ""


def phantom(spacing=(1.0, 1.0, 2.0), name: str = "scan"):
    """Volume of the phantom that the bundled model knows, with another grid."""
    values = phantom_volume(0).image
    grid = replace(PLAIN, size=values.shape[::-1], spacing_mm=spacing)
    return add_volume(slicer.mrmlScene, values, grid, name)


def test_in_what_a_volume_differs_from_training_is_told_before_the_run(workerless, tmp_path):
    label = workerless.ui.inputWarningLabel
    workerless.parameters.model = "phantom-cimd-64"
    workerless.parameters.channel1 = phantom()
    workerless.widget.controller.request.ask()
    assert label.text == "" and not label.visible
    workerless.parameters.channel1 = phantom((3.0, 3.0, 2.0), "coarse")
    workerless.wait(lambda: label.text)
    assert label.text.startswith("Pixels are 3 mm large: the model was trained on 1 mm") and label.visible
    volume = workerless.parameters.channel1
    hierarchy = hierarchy_of(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(volume), "DICOM.Modality", "CT")
    volume.SetSpacing(1.0, 1.0, 2.0)
    workerless.widget.enter()
    workerless.wait(lambda: label.text.startswith("This is CT"))
    assert label.text == "This is CT: the model was trained on phantom; outlines may be unreliable."
    workerless.parameters.channel1 = None
    workerless.wait(lambda: label.text == "")
    assert not label.visible


def test_a_picture_is_one_until_somebody_tells_its_pixels(workerless):
    workerless.parameters.model = "phantom-cimd-64"
    volume = phantom((1.0, 1.0, 1.0))
    assert kind_of([volume]) == ("", False)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName("/nowhere/photo.png")
    volume.SetAndObserveStorageNodeID(storage.GetID())
    assert kind_of([phantom(name="other"), volume]) == ("", True)
    workerless.parameters.channel1 = volume
    workerless.wait(lambda: workerless.ui.inputWarningLabel.text)
    assert "1 mm is assumed" in workerless.ui.inputWarningLabel.text
    volume.SetSpacing(0.9, 0.9, 1.0)
    assert kind_of([volume]) == ("", False)


def test_nothing_waits_for_an_estimate(driver):
    driver.load_sample_data()
    request = driver.widget.controller.request
    request.ask()
    driver.wait(lambda: driver.widget.logic.runner.about is not None)
    assert request.busy
    request.cancel()
    driver.wait(lambda: not request.busy)
    assert driver.ui.estimateLabel.text == "" and not request._timer.active
    driver.generate(1, firstSlice=10, lastSlice=11)
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))


def test_what_the_model_is_for_can_be_read_without_opening_anything(driver, tmp_path):
    assert driver.ui.cardSection.collapsed
    assert driver.ui.modelLabel.text.startswith("Marks: nodule. Expects: CT (window -1000 to 400). Trained on: 1,667")
    assert "Expects" in driver.ui.cardLabel.text and "Trained on" in driver.ui.cardLabel.text
    assert "lung nodules of 549 patients of LIDC-IDRI" in driver.ui.cardLabel.text
    save_model(tiny_model(), tmp_path / "other")
    driver.parameters.model = str(tmp_path / "other")
    driver.settle()
    assert driver.ui.modelLabel.text.endswith("Trained on: not stated")
    driver.parameters.model = str(tmp_path / "none")
    driver.settle()
    assert driver.ui.modelLabel.text == "" and "none" in driver.ui.cardLabel.text
    assert not driver.ui.cardSection.collapsed
