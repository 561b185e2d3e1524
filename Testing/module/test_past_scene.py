"""A scene that earlier code saved (Testing/Past) in the panels of today; of its nodes: Testing/bridge."""

from __future__ import annotations

import json

import pytest
import slicer
from AmbiguousSegBridge.generation import request_of
from AmbiguousSegBridge.worker import packages
from PySide6.QtCore import Qt
from shared_data import REPOSITORY

PAST = REPOSITORY / "Testing" / "Past"
EXPECTED = json.loads((PAST / "scene_expected.json").read_text(encoding="utf-8"))


class JobsKept:
    """A runner that keeps its jobs and does none."""

    about = None

    def __init__(self) -> None:
        self.jobs = []

    def start(self, job, _listener) -> int:
        self.jobs.append(job)
        return len(self.jobs)

    def cancel(self, number: int) -> None:
        pass


@pytest.fixture
def opened(driver, monkeypatch):
    """The module with the scene, and a runner that does nothing."""
    monkeypatch.setattr(packages, "ensure", lambda _interactive: None)
    monkeypatch.setattr(driver.widget.context, "runner", JobsKept())
    assert slicer.mrmlScene.ReadFromMRB(str(PAST / "scene.mrb"), True, None)
    driver.settle()
    return driver


def test_the_panels_show_what_was_shown(opened):
    ui, run = opened.ui, EXPECTED["runs"][0]
    assert [ui.runSelector.itemText(k) for k in range(ui.runSelector.count)] == [r["name"] for r in EXPECTED["runs"]]
    assert opened.run.name == run["name"] and ui.thresholdSlider.visible and not ui.classSelector.visible
    rows = run["tables"]["volumes"]
    shown = [ui.sampleTable.item(k, 1).text() for k in range(ui.sampleTable.rowCount)]
    assert shown == [f"{row['volume_ml']:.3f}" for row in rows]
    assert ui.modeTable.rowCount == len(run["tables"]["modes"])
    assert opened.parameters.comparisonTable == "dice"
    assert ui.comparisonTable.mrmlTableNode() is opened.run.tables["comparison dice"]
    assert ui.comparisonSelector.count == 7 and "compare again" not in ui.comparisonLabel.text
    raters = [ui.raterTree.topLevelItem(k) for k in range(ui.raterTree.topLevelItemCount)]
    assert [item.text(0) for item in raters] == EXPECTED["raters"]
    assert [item.checkState(0) for item in raters] == [Qt.Checked] * 2
    assert ui.compareButton.enabled and ui.compareButton.text == "Compare with 2 raters"


def test_a_format_of_files_as_earlier_scenes_name_it(opened):
    for saved, title in (("SEG_NRRD", "Slicer segmentation"), ("NIFTI", "NIfTI"), ("gone", "Slicer segmentation")):
        opened.parameters.exportForm = saved
        opened.settle()
        assert opened.ui.exportFormSelector.currentText.startswith(title)


def test_more_segmentations_are_asked_for_as_the_others_were_made(opened):
    asked = request_of(opened.run)
    opened.press("moreButton")
    job = next(job for job in reversed(opened.widget.context.runner.jobs) if job.kind == "sample")
    assert job.arguments["sampler"] == {**asked["sampler"], "grid": "both_ends", "options": {}}
    assert job.arguments["seed"] == asked["seed"] and job.arguments["first_sample"] == len(opened.run.samples)
