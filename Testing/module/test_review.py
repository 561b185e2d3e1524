"""The section "Review" as a person uses it: by keys and by clicks, and what of it is kept and written."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene import review
from AmbiguousSegBridge.scene.runs import find_runs
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, save_scene
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from SlicerHost import dialogs
from SlicerHost.samples import PLAIN, input_volume

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.evaluation.table import Column, Table

WHEN = "2026-11-27T08:30:00+00:00"
LENGTHS = {"calm": {2: (10, 10)}, "wide": {1: (10, 12), 4: (10, 13)}, "small": {3: (1, 4)}}  # in voxels, of two samples


@pytest.fixture
def reviewer(driver, monkeypatch):
    """Three lesions, the section open, the reviewer's name entered."""
    monkeypatch.setattr(review, "now", lambda: WHEN)
    for name, slices in LENGTHS.items():
        masks = np.zeros((2, *PLAIN.shape), bool)
        for z, both in slices.items():
            for sample, length in enumerate(both):
                masks[sample, z, 5, :length] = True
        add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN), name, input_volume(slicer.mrmlScene, PLAIN, name))
    driver.ui.reviewSection.collapsed = False
    driver.ui.reviewerEdit.text = "Ann"
    driver.settle()
    driver.widget.parent.activateWindow()
    driver.ui.reviewTable.setFocus()
    driver.settle()
    return driver


def key(driver, name: str, widget: str = "reviewTable") -> None:
    code = getattr(Qt, f"Key_{name}")
    QTest.keyClick(getattr(driver.ui, widget), code)
    driver.settle()


def cells(driver) -> list[list[str]]:
    table = driver.ui.reviewTable
    return [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]


def decided(driver) -> dict[str, str]:
    made = {run.name: review.decisions(run) for run in find_runs(slicer.mrmlScene)}
    return {name: some[-1].mask for name, some in made.items() if some}


def where() -> list[float]:
    """The middle of the red view, in RAS."""
    view = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    return [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]


def test_the_queue_is_in_order_and_says_what_was_accepted(reviewer):
    assert cells(reviewer) == [["wide", "4", "0.001", ""], ["small", "3", "0.001", ""], ["calm", "2", "0.000", ""]]
    reviewer.parameters.reviewBy = type(reviewer.parameters.reviewBy).INTERVAL_SHARE
    reviewer.settle()
    assert [row[0::2] for row in cells(reviewer)] == [["small", "1.20"], ["wide", "0.22"], ["calm", "0.00"]]
    reviewer.parameters.reviewOf = type(reviewer.parameters.reviewOf).SLICES
    reviewer.settle()
    assert [row[:2] for row in cells(reviewer)] == [["wide", "4"], ["small", "3"], ["wide", "1"], ["calm", "2"]]
    assert not reviewer.ui.reviewBySelector.enabled


def test_a_review_by_keyboard_alone(reviewer):
    """Three lesions: a sample, the consensus, and one taken back."""
    key(reviewer, "N")
    assert reviewer.run.name == "wide" and where()[2] == pytest.approx(4)
    key(reviewer, "2")
    assert reviewer.parameters.shownSample == 2 and reviewer.ui.reviewChoiceSelector.currentText == "sample 02"
    key(reviewer, "Return")
    assert decided(reviewer) == {"wide": "sample 02"} and cells(reviewer)[0][3] == "sample 02"
    key(reviewer, "N")
    assert reviewer.run.name == "small" and where()[2] == pytest.approx(3) and reviewer.parameters.shownSample == 0
    key(reviewer, "1")
    key(reviewer, "C")
    key(reviewer, "Enter")
    key(reviewer, "N")
    key(reviewer, "Enter")
    key(reviewer, "N")  # there is no further one
    assert decided(reviewer) == {"wide": "sample 02", "small": "consensus", "calm": "consensus"}
    key(reviewer, "Backspace")
    key(reviewer, "P")
    assert reviewer.run.name == "small" and decided(reviewer) == {"wide": "sample 02", "small": "consensus"}
    key(reviewer, "P")
    assert reviewer.ui.reviewChoiceSelector.currentText == "sample 02"  # what was accepted is what is seen
    assert reviewer.ui.reviewLabel.text == f"Accepted: sample 02, by Ann, {WHEN}."


def test_modes_follow_each_other(reviewer):
    from AmbiguousSegBridge.scene import tables

    key(reviewer, "N")
    columns = tuple(Column(name, name) for name in ("mode", "frequency", "samples", "representative", "members"))
    rows = [
        {"mode": k, "frequency": 0.5, "samples": 1, "representative": f"sample 0{k}", "members": f"sample 0{k}"}
        for k in (1, 2)
    ]
    tables.write_table(slicer.mrmlScene, reviewer.run, "modes", Table(columns, tuple(rows)))
    reviewer.settle()
    shown = []
    for _ in range(3):
        key(reviewer, "M")
        shown.append((reviewer.ui.reviewChoiceSelector.currentText, reviewer.parameters.shownSample))
    first, second = ((f"mode {k}, 50 % of the samples: sample 0{k}", k) for k in (1, 2))
    assert shown == [first, second, first]
    key(reviewer, "Return")
    assert review.decisions(reviewer.run)[-1].mode == 1 and cells(reviewer)[0][3] == "mode 1, sample 01"


def test_keys_are_letters_where_somebody_types(reviewer):
    key(reviewer, "N")
    reviewer.ui.reviewCommentEdit.setFocus()
    for name in ("N", "1", "C"):
        key(reviewer, name, "reviewCommentEdit")
    assert reviewer.ui.reviewCommentEdit.text == "n1c" and reviewer.run.name == "wide"
    key(reviewer, "Backspace", "reviewCommentEdit")
    key(reviewer, "Return", "reviewCommentEdit")
    assert reviewer.ui.reviewCommentEdit.text == "n1" and decided(reviewer) == {}
    assert reviewer.ui.reviewTable.focus
    key(reviewer, "Return")
    assert review.decisions(reviewer.run)[-1].comment == "n1" and reviewer.ui.reviewCommentEdit.text == ""


def test_a_closed_section_takes_no_keys(reviewer):
    reviewer.ui.reviewSection.collapsed = True
    reviewer.settle()
    before = reviewer.run.name
    for name in ("N", "Return"):
        key(reviewer, name, "runSelector")
    assert reviewer.run.name == before and decided(reviewer) == {}


def test_nobody_accepts_nothing(reviewer):
    key(reviewer, "N")
    reviewer.ui.reviewerEdit.text = "  "
    reviewer.ui.reviewerEdit.editingFinished.emit()
    reviewer.settle()
    assert not reviewer.ui.reviewAcceptButton.enabled
    assert reviewer.ui.reviewAcceptButton.toolTip == "Enter who reviews first"
    key(reviewer, "Return")
    assert decided(reviewer) == {}


def test_decided_lesions_can_be_left_out(reviewer):
    reviewer.parameters.reviewOpenOnly = True
    reviewer.settle()
    key(reviewer, "N")
    key(reviewer, "Return")
    assert [row[0] for row in cells(reviewer)] == ["small", "calm"]
    key(reviewer, "N")
    assert reviewer.run.name == "small"


def test_a_click_on_the_bar_goes_to_the_slice(reviewer):
    """The wide lesion is in slices 1 and 4: of four columns, the second half is nearer to 4, the first to 1."""
    key(reviewer, "N")
    bar = reviewer.ui.reviewBar
    for share, z in ((0.1, 1), (0.6, 4), (0.3, 1), (0.9, 4)):
        QTest.mouseClick(bar, Qt.LeftButton, Qt.NoModifier, QPoint(int(share * bar.width), 10))
        reviewer.settle()
        assert where()[2] == pytest.approx(z)
        assert reviewer.ui.reviewPlaceLabel.text.startswith(f"slice {z}: ")


def test_the_bar_is_as_high_as_the_samples_disagree(reviewer):
    """Slice 4 has three voxels of variance 1/4, slice 1 two, those between none: 34, 23 and 0 of 36 pixels."""
    key(reviewer, "N")
    picture = reviewer.ui.reviewBar.pixmap.toImage()
    heights = []
    for column in range(4):
        x = int((column + 0.4) * picture.width() / 4)
        strip = [picture.pixelColor(x, y) for y in range(picture.height())]
        heights.append(sum(colour.red() > 2 * colour.blue() for colour in strip))
    assert heights == [round(34 * 2 / 3), 0, 0, 34]


def test_an_edited_copy_is_accepted_as_it_was_edited(reviewer):
    key(reviewer, "N")
    key(reviewer, "2")
    key(reviewer, "E")
    assert dialogs.texts("selectModule") == ["SegmentEditor"]
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSourceVolumeNode() is reviewer.run.input
    node, reference = editor.GetSegmentationNode(), reviewer.run.input
    drawn = np.zeros(PLAIN.shape, np.uint8)
    drawn[2, 3, 4:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, node.GetSegmentation().GetNthSegmentID(0), reference)
    assert reviewer.ui.reviewChoiceSelector.currentText == "edited 1"
    key(reviewer, "Return")
    (decision,) = review.decisions(reviewer.run)
    assert (decision.mask, decision.voxels) == ("edited 1", (5,))
    drawn[2, 3, 4] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, node.GetSegmentation().GetNthSegmentID(0), reference)
    reviewer.widget.refresh()
    assert cells(reviewer)[0][3] == "edited 1 (changed since)"
    slicer.mrmlScene.RemoveNode(node)
    reviewer.settle()
    assert cells(reviewer)[0][3] == "edited 1 (deleted since)"


def test_decisions_are_written_as_csv_and_json(reviewer, tmp_path):
    key(reviewer, "N")
    reviewer.ui.reviewCommentEdit.text = "=cmd"
    key(reviewer, "Return")
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    reviewer.press("reviewExportButton")
    with (tmp_path / "review.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["wide"]["accepted"] == "consensus" and rows["wide"]["comment"] == "'=cmd"
    assert rows["wide"]["reviewer"] == "Ann" and rows["wide"]["decided_at"] == WHEN and rows["calm"]["accepted"] == ""
    runs = json.loads((tmp_path / "review.json").read_text(encoding="utf-8"))["runs"]
    assert [run["run"] for run in runs] == list(LENGTHS) and runs[1]["decision"]["comment"] == "=cmd"
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    dialogs.expect("confirmOkCancelDisplay", False)
    before = (tmp_path / "review.csv").read_bytes()
    key(reviewer, "Backspace")
    reviewer.press("reviewExportButton")
    assert (tmp_path / "review.csv").read_bytes() == before


def test_a_review_goes_on_in_a_scene_that_was_loaded(reviewer, tmp_path):
    key(reviewer, "N")
    key(reviewer, "Return")
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    reviewer.settle()
    assert cells(reviewer) == []
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    reviewer.settle()
    assert [row[3] for row in cells(reviewer)] == ["consensus", "", ""]
    key(reviewer, "N")
    assert reviewer.ui.reviewLabel.text == f"Accepted: consensus, by Ann, {WHEN}."
    slicer.mrmlScene.RemoveNode(reviewer.run.consensus)
    reviewer.settle()
    assert cells(reviewer)[0][3] == "consensus (deleted since)"
