"""The section "Inputs": what it remembers, what it refuses, and that it keeps the GUI light."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import slicer
from AmbiguousSegBridge.scene import add_volume
from shared_data import REPOSITORY
from SlicerHost import dialogs
from SlicerHost.samples import PLAIN
from tiny_models import tiny_model

from AmbiguousSegLib.model import save_model

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
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
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
    driver.generate(2)
    assert len(driver.run.samples) == 2
    assert driver.run.input is first
    driver.parameters.moreSamples = 1
    driver.press("moreButton")
    driver.wait(lambda: not driver.widget.generate.busy)
    assert len(driver.run.samples) == 3


def test_a_folder_without_a_model_is_refused_in_one_message(driver, tmp_path):
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    driver.press("browseModelButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "model.json" in text
    assert driver.parameters.model == ""


def test_ticking_only_slices_begins_with_all_of_them(driver):
    driver.load_sample_data()
    driver.ui.limitSlicesCheckBox.checked = True
    driver.settle()
    assert (driver.parameters.firstSlice, driver.parameters.lastSlice) == (0, 23)
    driver.ui.lastSliceSpinBox.value = 5
    driver.ui.firstSliceSpinBox.value = 9
    driver.settle()
    assert not driver.ui.generateButton.enabled and "behind" in driver.ui.generateButton.toolTip


def test_quality_shows_its_steps(driver):
    texts = [driver.ui.qualitySelector.itemText(index) for index in range(3)]
    assert texts == ["Fast (10 steps)", "Balanced (25 steps)", "As in the paper (1000 steps)"]


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
