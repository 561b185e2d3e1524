"""The section "Export": what it needs, what it says, and that its words do not outlive what they speak of."""

from __future__ import annotations

import pytest
import slicer
from AmbiguousSegBridge.scene.sample_sets import add_sample_set
from AmbiguousSegBridge.worker import packages
from SlicerHost import dialogs
from SlicerHost.samples import input_volume, make_samples


@pytest.fixture
def exporting(driver, tmp_path):
    """A run as a scene brings it from another computer: no worker was needed for it."""
    run = add_sample_set(slicer.mrmlScene, make_samples(), "run", input_volume(slicer.mrmlScene))
    driver.select(run)
    driver.parameters.exportFolder = tmp_path / "out"
    driver.settle()
    return driver


def test_without_the_packages_nothing_is_started_and_one_message_says_why(exporting, monkeypatch, tmp_path):
    started = []  # an estimate, too, if this takes long

    def ensure(interactive):
        assert interactive
        raise packages.PackagesError("PyTorch is not installed.", "Install the extension PyTorch.")

    monkeypatch.setattr(packages, "ensure", ensure)
    monkeypatch.setattr(exporting.widget.context.runner, "start", lambda job, _: started.append(job.kind) or 1)
    exporting.press("exportButton")
    (text,) = dialogs.texts("errorDisplay")
    assert text == "Nothing was exported.\n\nPyTorch is not installed.\n\nInstall the extension PyTorch."
    assert "export" not in started and exporting.ui.exportButton.text == "Export" and not (tmp_path / "out").exists()
    monkeypatch.setattr(packages, "ensure", lambda interactive: None)  # the user agrees
    exporting.press("exportButton")
    assert started.count("export") == 1 and exporting.ui.exportButton.text == "Cancel"


def test_dicom_without_highdicom_says_what_is_missing(exporting, monkeypatch):
    from AmbiguousSegBridge.actions import export

    find_spec, source_files = export.find_spec, lambda volume: ["slice.dcm"]
    monkeypatch.setattr(export, "source_files", source_files)  # the volume is from the DICOM database
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "highdicom" else find_spec(name))
    exporting.parameters.exportForm = "dicom"
    exporting.settle()
    button = exporting.ui.exportButton
    assert not button.enabled and "highdicom" in button.toolTip and "Slicer 5.12" in button.toolTip
    exporting.parameters.exportForm = "nifti"
    exporting.settle()
    assert button.enabled
    monkeypatch.setattr(export, "find_spec", lambda name: object())
    exporting.parameters.exportForm = "dicom"
    exporting.settle()
    assert button.enabled


def test_the_files_written_are_told_until_the_scene_is_closed(exporting, tmp_path):
    exporting.press("exportButton")
    exporting.wait(lambda: exporting.ui.exportButton.text == "Export")
    count = len(list((tmp_path / "out").iterdir()))
    assert exporting.ui.exportLabel.text == f"{count} files written to {tmp_path / 'out'}" and count == 5 + 3
    slicer.mrmlScene.Clear()
    assert exporting.ui.exportLabel.text == ""


def test_cancelled_is_nothing_written(exporting, tmp_path):
    exporting.press("exportButton")
    assert exporting.ui.exportLabel.text == "Writing..."
    exporting.press("exportButton")
    exporting.wait(lambda: exporting.ui.exportButton.text == "Export")
    assert exporting.ui.exportLabel.text == "Cancelled; nothing was written." and not (tmp_path / "out").exists()
