"""The section Models: what a user sees of models that are installed, verified, chosen and removed."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import slicer
from module_driver import FakeRunner
from shared_data import REPOSITORY
from SlicerHost import dialogs

from AmbiguousSegLib.resources import DEFAULT_MODEL, installed_models

PAST = REPOSITORY / "Testing" / "Past" / "model"
OTHER = REPOSITORY / "Testing" / "Past" / "model_probabilistic_unet"


@pytest.fixture
def models(driver, tmp_path, monkeypatch):
    """The section, open, with an empty store."""
    monkeypatch.setenv("AMBIGUOUSSEG_MODELS", str(tmp_path / "store"))
    driver.open_sections("modelsSection")
    return driver


def rows(driver) -> list[list[str]]:
    driver.settle()
    table = driver.ui.modelsTable
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def busy(driver) -> bool:
    return driver.widget.panels[-1]._work is not None


def install(driver, source, button="installFolderButton") -> None:
    name = {"installFolderButton": "getExistingDirectory", "installZipButton": "getOpenFileName"}[button]
    dialogs.expect(f"QFileDialog.{name}", str(source))
    driver.press(button)
    driver.wait(lambda: not busy(driver))


def choose(driver, name: str) -> None:
    driver.ui.modelsTable.cellClicked.emit([row[0] for row in rows(driver)].index(name), 0)
    driver.settle()


def slowly(monkeypatch) -> None:
    """Two steps of 64 bytes for each look at the mouse, by a clock that goes on whenever it is looked at."""
    monkeypatch.setattr("AmbiguousSegLib.model_store.store._BLOCK", 64)
    clock = SimpleNamespace(perf_counter=iter(range(10**9)).__next__)
    monkeypatch.setattr("AmbiguousSegBridge.panels.models.time", clock)
    monkeypatch.setattr("AmbiguousSegBridge.panels.models.AT_ONCE_S", 3)


def test_the_bundled_models_are_listed_and_the_one_in_use_is_described(models):
    assert rows(models) == [
        ["lung-nodule", "nodule", "CT", "bundled", "not verified"],
        ["phantom-cimd-64", "nodule", "CT", "bundled", "not verified"],
    ]
    ui = models.ui
    assert "lung-nodule" in ui.modelsCardLabel.text and not ui.deviceNoteLabel.visible
    assert not ui.removeModelButton.enabled and "Only installed" in ui.removeModelButton.toolTip
    assert not ui.useModelButton.enabled and "in use" in ui.useModelButton.toolTip
    choose(models, "phantom-cimd-64")
    assert "phantom-cimd-64" in ui.modelsCardLabel.text
    models.press("useModelButton")
    models.settle()
    assert models.parameters.model == models.ui.modelSelector.currentText == "phantom-cimd-64"


def test_from_a_zip_to_samples_and_away_again_without_a_terminal(models, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "nodules of ours"), "zip", PAST)
    install(models, archive, "installZipButton")
    assert rows(models)[-1][0] == "nodules of ours" and rows(models)[-1][3:] == ["installed", "verified"]
    assert "was installed" in models.ui.modelsStateLabel.text
    selector = models.ui.modelSelector
    assert "nodules of ours" in [selector.itemText(number) for number in range(selector.count)]
    models.press("useModelButton")
    models.load_sample_data()
    models.parameters.model = "nodules of ours"
    models.generate(1)
    assert len(models.run.samples) == 1
    dialogs.expect("confirmYesNoDisplay", False)
    models.press("removeModelButton")
    assert installed_models()
    dialogs.expect("confirmYesNoDisplay", True)
    models.press("removeModelButton")
    models.settle()
    assert not installed_models() and models.parameters.model == ""
    assert models.ui.modelSelector.currentText == DEFAULT_MODEL and len(rows(models)) == 2
    assert models.ui.modelsStateLabel.text == "The model nodules of ours was removed."


def test_a_damaged_model_is_told_with_what_is_wrong_and_cannot_be_used(models):
    install(models, PAST)
    with (installed_models()[0] / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x7f\x7f")
    models.widget.scheduleRefresh()
    assert rows(models)[-1][-1] == "not verified", "what was verified are other files"
    models.press("verifyModelButton")
    models.wait(lambda: not busy(models))
    assert rows(models)[-1][-1] == "damaged"
    assert "the weights are not those that model.json names" in models.ui.modelsStateLabel.text
    assert not models.ui.useModelButton.enabled and "not those" in models.ui.useModelButton.toolTip
    (installed_models()[0] / "model.json").write_text("{}", encoding="utf-8")
    models.widget.scheduleRefresh()
    assert rows(models)[-1] == ["model", "", "", "installed", "damaged"]
    assert "not a model description" in models.ui.modelsStateLabel.text and models.ui.modelsCardLabel.text == ""
    choose(models, "lung-nodule")
    assert models.ui.modelsStateLabel.text == ""


@pytest.mark.parametrize("agreed", [True, False])
def test_another_model_of_the_same_name_is_asked_for(models, tmp_path, agreed):
    install(models, PAST)
    shutil.copytree(OTHER, tmp_path / "model")
    dialogs.expect("confirmYesNoDisplay", agreed)
    install(models, tmp_path / "model")
    kept = (OTHER if agreed else PAST) / "model.json"
    assert (installed_models()[0] / "model.json").read_bytes() == kept.read_bytes()
    assert not dialogs.unasked() and not dialogs.texts("errorDisplay")


def test_what_is_no_model_is_refused_in_one_message(models, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "setup.py").write_text("evil", encoding="utf-8")
    install(models, tmp_path / "odd")
    (text,) = dialogs.texts("errorDisplay")
    assert text.startswith("The model was not installed.") and "'setup.py' belongs to no model" in text
    assert len(rows(models)) == 2 and models.ui.installFolderButton.enabled
    install(models, "")  # the dialog was closed
    assert len(dialogs.texts("errorDisplay")) == 1


def test_while_a_model_is_installed_events_go_on_and_it_can_be_stopped(models, monkeypatch, tmp_path):
    slowly(monkeypatch)
    dialogs.expect("QFileDialog.getExistingDirectory", str(PAST))
    models.press("installFolderButton")
    models.settle()
    ui = models.ui
    assert busy(models) and ui.modelsProgressBar.visible and ui.stopModelsButton.visible
    assert not any(getattr(ui, f"{name}Button").enabled for name in ("installZip", "verifyModel", "removeModel"))
    assert [p.name[:12] for p in (tmp_path / "store").iterdir()] == [".unfinished-"]
    models.press("stopModelsButton")
    models.settle()
    assert not busy(models) and not (tmp_path / "store").exists() and not ui.modelsProgressBar.visible
    assert ui.modelsStateLabel.text == "Stopped before the end: nothing was changed."


def test_closing_the_scene_takes_back_what_is_half_done(models, monkeypatch, tmp_path):
    slowly(monkeypatch)
    dialogs.expect("QFileDialog.getExistingDirectory", str(PAST))
    models.press("installFolderButton")
    assert busy(models)
    slicer.mrmlScene.Clear()
    assert not busy(models) and not (tmp_path / "store").exists()


def test_what_the_worker_says_of_the_device_is_shown(models, monkeypatch):
    note = "The GPU is not used: PyTorch is built for the CPU alone. Install a CUDA build."
    monkeypatch.setattr(models.widget.context, "runner", FakeRunner(device_note=note, devices=[]))
    models.widget.scheduleRefresh()
    models.settle()
    assert models.ui.deviceNoteLabel.text == note and models.ui.deviceNoteLabel.visible
    monkeypatch.setattr(models.widget.context, "runner", FakeRunner(devices=[]))
    models.widget.scheduleRefresh()
    models.settle()
    assert models.ui.deviceNoteLabel.text == "" and not models.ui.deviceNoteLabel.visible


def test_a_closed_section_reads_no_models(driver, monkeypatch):
    driver.open_sections()
    monkeypatch.setattr("AmbiguousSegBridge.panels.models.list_models", lambda _folders: pytest.fail("read"))
    driver.widget.scheduleRefresh()
    driver.settle()
