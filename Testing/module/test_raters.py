"""The section "Raters": two and ten raters, empty ones, other grids, overlapping segments; tables, export."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from AmbiguousSegBridge.scene import checksums
from AmbiguousSegBridge.scene.grid import ijk_to_ras
from AmbiguousSegBridge.scene.masks import crops_of, mask_ids
from AmbiguousSegBridge.scene.sample_sets import add_volume, save_scene
from AmbiguousSegBridge.scene.segments import add_segment, place_on_grid, replace_mask
from AmbiguousSegBridge.scene.tables import read_table
from AmbiguousSegBridge.worker import packages
from dicom_files import write_series
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from SlicerHost import dialogs
from tiny_models import tiny_model

from AmbiguousSegLib.labels import LESION_TERMINOLOGY
from AmbiguousSegLib.metrics.figures import compare
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.image import read_image


def balls(geometry: Geometry, count: int, empty: int = 0) -> np.ndarray:
    """Concentric balls, each larger than the last, and then empty masks: bool (count + empty, Z, Y, X)."""
    z, y, x = np.indices(geometry.shape)
    centre = [n // 2 for n in geometry.shape]
    distance = np.hypot(np.hypot((z - centre[0]) * 2, y - centre[1]), x - centre[2])
    masks = [distance < 5 + k for k in range(count)] + [np.zeros(geometry.shape, bool)] * empty
    return np.stack(masks)


def add_raters(driver, masks: np.ndarray, geometry: Geometry, name: str = "raters"):
    """One node, a segment for each mask; they overlap."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    place_on_grid(node, geometry, None)
    for number, mask in enumerate(masks, 1):
        segment = f"r{number}", f"doctor {number}", (1.0, 0.0, 0.0), LESION_TERMINOLOGY
        add_segment(node, *segment, Crop.of(mask), ijk_to_ras(geometry))
    driver.settle()
    return node


def choose(driver, node) -> None:
    segments = list(node.GetSegmentation().GetSegmentIDs())
    driver.parameters.raterNodes = [node] * len(segments)
    driver.parameters.raterSegments = segments
    driver.settle()


def figures(driver) -> dict[str, float]:
    """The summary's column for the whole volume, by figure."""
    rows = read_table(driver.run.tables["comparison summary"])["rows"]
    return {row["figure"]: row["whole volume"] for row in rows}


GRID = Geometry((20, 20, 12), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
SIGNS = {Qt.Checked: "x", Qt.PartiallyChecked: "-", Qt.Unchecked: " "}


def lines(driver) -> list[str]:
    """The tree as text: tick, and name, of each line; those below another are indented."""
    found = []
    for n in range(driver.ui.raterTree.topLevelItemCount):
        top = driver.ui.raterTree.topLevelItem(n)
        found.append((top, ""))
        found += [(top.child(k), "    ") for k in range(top.childCount())]
    return [f"{indent}[{SIGNS[item.checkState(0)]}] {item.text(0)}" for item, indent in found]


def tick(driver, top: int, child: int | None = None) -> None:
    """Toggle a line's tick as a user does, with the space bar."""
    item = driver.ui.raterTree.topLevelItem(top)
    driver.ui.raterTree.setCurrentItem(item if child is None else item.child(child))
    QTest.keyClick(driver.ui.raterTree, Qt.Key_Space)
    driver.settle()


def visible(node) -> list[bool]:
    return [node.GetDisplayNode().GetSegmentVisibility(i) for i in node.GetSegmentation().GetSegmentIDs()]


@pytest.fixture
def sampled(driver):
    driver.sampled(3, 8, 15)
    return driver


@pytest.mark.parametrize(("count", "empty"), [(2, 0), (10, 0), (2, 2), (0, 2)])
def test_figures_are_those_of_the_library(sampled, count, empty):
    masks = balls(sampled.run.geometry, count, empty)
    choose(sampled, add_raters(sampled, masks, sampled.run.geometry))
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables)
    samples = np.stack([crop.full() for crop in crops_of(sampled.run)])
    expected = compare(samples, masks)
    found = figures(sampled)
    for title, key in (("GED v", "ged_v"), ("HM-IoU", "hm_iou"), ("D_max", "dice_max"), ("CI harm.", "ci_harmonic")):
        if expected[key] is None or np.isnan(expected[key]):
            assert found[title] is None
        else:
            assert found[title] == pytest.approx(expected[key], abs=1e-6)
    dice = read_table(sampled.run.tables["comparison dice"])
    assert len(dice["rows"]) == count + empty and len(dice["columns"]) == 1 + 3
    assert sampled.ui.comparisonTable.mrmlTableNode() is sampled.run.tables["comparison summary"]
    fused = sampled.run.nodes["raters majority"]
    majority = masks.mean(0) > 0.5
    np.testing.assert_array_equal(
        slicer.util.arrayFromSegmentBinaryLabelmap(
            fused, fused.GetSegmentation().GetNthSegmentID(0), sampled.parameters.channel1
        ).astype(bool)
        if majority.any()
        else majority,
        majority,
    )


def test_another_grid_is_refused_and_resampled_when_asked_for(sampled):
    own = sampled.run.geometry
    spacing = (own.spacing_mm[0] / 2, own.spacing_mm[1] / 2, own.spacing_mm[2])
    finer = Geometry(
        (own.size[0] * 2, own.size[1] * 2, own.size[2]),
        spacing,
        tuple(own.to_mm(np.array([-0.25, -0.25, 0.0]))),
        own.direction,
    )
    masks = balls(own, 2)
    choose(sampled, add_raters(sampled, masks.repeat(2, axis=2).repeat(2, axis=3), finer))
    sampled.press("compareButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "Resample" in text and "doctor 1" in text
    assert "comparison summary" not in sampled.run.tables
    sampled.ui.resampleCheckBox.checked = True
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables)
    samples = np.stack([crop.full() for crop in crops_of(sampled.run)])
    assert figures(sampled)["GED v"] == pytest.approx(compare(samples, masks)["ged_v"], abs=1e-6)


def test_the_samples_own_nodes_are_no_raters_and_the_button_says_what_is_missing(sampled):
    assert len(lines(sampled)) == 1 + 4  # those of the sample data
    tick(sampled, 0, 0)
    assert len(sampled.parameters.raterSegments) == 3
    sampled.parameters.raterNodes, sampled.parameters.raterSegments = [], []
    sampled.settle()
    assert not sampled.ui.compareButton.enabled and "Tick" in sampled.ui.compareButton.toolTip


def test_without_the_packages_nothing_is_compared_and_one_message_says_why(sampled, monkeypatch):
    def ensure(_interactive):
        raise packages.PackagesError("PyTorch is not installed.", "Install the extension PyTorch.")

    monkeypatch.setattr(packages, "ensure", ensure)
    sampled.press("compareButton")
    (text,) = dialogs.texts("errorDisplay")
    assert text == "The raters were not compared.\n\nPyTorch is not installed.\n\nInstall the extension PyTorch."
    assert sampled.ui.compareButton.text.startswith("Compare with")


def test_export_of_the_tables(sampled, tmp_path):
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables)
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    sampled.press("exportComparisonButton")
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert set(content["tables"]) == {"summary", "slices", "dice", "hd95", "dice_max", "consensus", "disagreement"}
    with (tmp_path / "comparison_dice.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stored = read_table(sampled.run.tables["comparison dice"])["rows"]
    assert [float(row["sample 01"]) for row in rows] == [row["sample 01"] for row in stored]
    (tmp_path / "comparison.json").write_text("mine", encoding="utf-8")
    for answer, text in ((False, "mine"), (True, json.dumps(content, indent=2) + "\n")):  # asked before it is replaced
        dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
        dialogs.expect("confirmOkCancelDisplay", answer)
        sampled.press("exportComparisonButton")
        assert (tmp_path / "comparison.json").read_text(encoding="utf-8") == text
    slicer.mrmlScene.RemoveNode(sampled.run.tables["comparison dice"])
    sampled.press("disagreementPlotButton")
    (chart,) = [n for n in sampled.nodes("vtkMRMLPlotChartNode") if n.GetTitle() == "Disagreement per slice"]
    assert chart.GetNumberOfPlotSeriesNodes() == 2


def test_files_for_other_programs(sampled, tmp_path):
    from AmbiguousSegLib.volume.segments import read_segments

    sampled.parameters.exportFolder = tmp_path / "out"
    sampled.press("exportButton")
    sampled.wait(lambda: "written" in sampled.ui.exportLabel.text)
    for number, crop in enumerate(crops_of(sampled.run), 1):
        (mask,) = read_segments(tmp_path / "out" / f"sample_{number:02d}.seg.nrrd")[0].values()
        np.testing.assert_array_equal(mask, crop.full())
    assert (tmp_path / "out" / "mean.nrrd").is_file() and (tmp_path / "out" / "consensus.seg.nrrd").is_file()
    index = sampled.ui.exportFormSelector.findText("DICOM SEG")
    sampled.ui.exportFormSelector.activated.emit(index)
    sampled.settle()
    assert not sampled.ui.exportButton.enabled and "DICOM" in sampled.ui.exportButton.toolTip


def test_dicom_segmentation_of_a_series(driver, tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    files = write_series(tmp_path / "series", slices=4)
    image = read_image(tmp_path / "series")
    headers = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID): str(file) for file in files}
    voxels = sitk.GetArrayFromImage(image)
    volume = add_volume(slicer.mrmlScene, voxels, Geometry.of(image), "series")
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(headers))
    monkeypatch.setattr(slicer, "dicomDatabase", SimpleNamespace(fileForInstance=headers.get), raising=False)
    save_model(tiny_model(), tmp_path / "model")
    driver.parameters.model = str(tmp_path / "model")
    driver.parameters.channel1 = volume
    driver.generate(2, limitSlices=False)
    driver.parameters.exportForm, driver.parameters.exportFolder = "dicom", tmp_path / "out"
    driver.press("exportButton")
    driver.wait(lambda: "written" in driver.ui.exportLabel.text or dialogs.texts("errorDisplay"))
    assert dialogs.texts("errorDisplay") == []
    (file,) = (tmp_path / "out").iterdir()
    written = pydicom.dcmread(file)
    labels = [segment.SegmentLabel for segment in written.SegmentSequence]
    assert labels == ["lesion 1", "lesion 2", "lesion (consensus)"]
    assert "mean" in driver.ui.exportLabel.text  # what a DICOM segmentation cannot hold is said


def test_a_rater_that_is_deleted_takes_no_other_along(driver):
    nodes = [add_raters(driver, balls(GRID, 1), GRID, name) for name in ("anna", "ben", "chloe")]
    (segment,) = nodes[0].GetSegmentation().GetSegmentIDs()  # all three bear the same id
    driver.parameters.raterNodes = nodes[:2]
    driver.parameters.raterSegments = [segment] * 2
    driver.settle()
    slicer.mrmlScene.RemoveNode(nodes[0])
    driver.settle()
    assert [rater.name for rater in driver.widget.context.snapshot().raters] == ["ben"]


def test_a_segmentation_of_several_raters_is_ticked_as_a_whole_or_in_part(driver):
    many, one = add_raters(driver, balls(GRID, 3), GRID, "many"), add_raters(driver, balls(GRID, 1), GRID, "one")
    writes = []
    node = driver.parameters.parameterNode
    tag = node.AddObserver("ModifiedEvent", lambda *_: writes.append(1))

    def state():
        written = [n.GetName() for n in driver.parameters.raterNodes], list(driver.parameters.raterSegments)
        return written, [line.split("]")[0][-1] for line in lines(driver)], writes.clear()

    assert lines(driver) == ["[ ] many", "    [ ] doctor 1", "    [ ] doctor 2", "    [ ] doctor 3", "[ ] one"]
    assert driver.ui.raterTree.topLevelItem(0).isExpanded()
    steps = [  # what is ticked, what is written, what is shown
        ((0,), (["many"] * 3, ["r1", "r2", "r3"]), "xxxx "),
        ((0, 1), (["many"] * 2, ["r1", "r3"]), "-x x "),
        ((1,), (["many", "many", "one"], ["r1", "r3", "r1"]), "-x xx"),
        ((0,), (["many"] * 3 + ["one"], ["r1", "r2", "r3", "r1"]), "xxxxx"),  # a part becomes the whole
        ((0,), (["one"], ["r1"]), "    x"),
        ((0, 2), (["many", "one"], ["r3", "r1"]), "-  xx"),
        ((0, 2), (["one"], ["r1"]), "    x"),
    ]
    for line, written, shown in steps:
        tick(driver, *line)
        assert len(writes) == 1, line
        assert state() == (written, list(shown), None)
    driver.parameters.raterNodes, driver.parameters.raterSegments = [many], ["r2"]
    driver.settle()
    assert state() == ((["many"], ["r2"]), list("- x  "), None)
    assert one.GetDisplayNode() is not None
    node.RemoveObserver(tag)


def test_the_tree_is_built_anew_only_for_other_raters(driver):
    add_raters(driver, balls(GRID, 2), GRID, "many")
    mark = Qt.UserRole + 1
    driver.ui.raterTree.topLevelItem(0).setData(0, mark, "mine")
    driver.ui.raterTree.topLevelItem(0).setExpanded(False)
    driver.settle()
    tick(driver, 0)
    driver.widget.refresh()
    assert driver.ui.raterTree.topLevelItem(0).data(0, mark) == "mine"
    twin = add_raters(driver, balls(GRID, 1), GRID, "many")
    assert driver.ui.raterTree.topLevelItem(0).data(0, mark) is None
    assert not driver.ui.raterTree.topLevelItem(0).isExpanded()  # as the user left it
    assert lines(driver) == ["[x] many", "    [x] doctor 1", "    [x] doctor 2", "[ ] many"]
    twin.GetSegmentation().AddEmptySegment("r2", "doctor 2")
    driver.widget.refresh()  # as when the module is entered
    assert lines(driver)[3:] == ["[ ] many", "    [ ] doctor 1 (2)", "    [ ] doctor 2 (2)"]  # as tables name them
    twin.SetName("other")
    driver.widget.refresh()
    assert lines(driver)[3:] == ["[ ] other", "    [ ] doctor 1", "    [ ] doctor 2"]


def test_hidden_raters_come_back(driver, tmp_path):
    node = add_raters(driver, balls(GRID, 3), GRID)
    node.GetDisplayNode().SetSegmentVisibility("r3", False)  # by the user, who does not tick it
    tick(driver, 0, 0)
    assert visible(node) == [True, True, False]
    driver.ui.showRatersCheckBox.checked = False
    driver.settle()
    assert visible(node) == [False, True, False]
    tick(driver, 0, 1)
    assert visible(node) == [False, False, False]
    tick(driver, 0, 0)
    assert visible(node) == [True, False, False]
    node.GetDisplayNode().SetSegmentVisibility("r2", True)  # in the module Data
    driver.widget.refresh()
    assert visible(node) == [True, True, False]
    driver.ui.showRatersCheckBox.checked = True
    driver.settle()
    assert visible(node) == [True, True, False]
    driver.ui.showRatersCheckBox.checked = False
    driver.settle()
    assert visible(node) == [True, False, False]
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    driver.settle()
    (node,) = driver.nodes("vtkMRMLSegmentationNode")
    assert visible(node) == [True, False, False] and not driver.ui.showRatersCheckBox.checked
    tick(driver, 0, 1)
    assert visible(node) == [True, True, False]


def test_a_rater_that_is_removed_while_hidden_is_no_trouble(driver):
    nodes = [add_raters(driver, balls(GRID, 2), GRID, name) for name in ("anna", "ben")]
    driver.ui.showRatersCheckBox.checked = False
    tick(driver, 0)
    tick(driver, 1)
    assert visible(nodes[1]) == [False, False]
    slicer.mrmlScene.RemoveNode(nodes[0])
    nodes[1].GetSegmentation().RemoveSegment("r1")
    driver.ui.showRatersCheckBox.checked = True
    driver.settle()
    assert visible(nodes[1]) == [True]
    assert not nodes[1].GetDisplayNode().GetSegmentVisibility("r1")  # nothing is said of what is gone


def test_what_was_hidden_in_one_scene_is_not_shown_in_the_next(driver, tmp_path):
    node = add_raters(driver, balls(GRID, 2), GRID)
    node.GetDisplayNode().SetSegmentVisibility("r1", False)
    tick(driver, 0)
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    driver.ui.showRatersCheckBox.checked = False
    driver.settle()
    assert visible(node) == [False, False]
    driver.widget.parent._entered = False  # another module is open
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    driver.widget.parent._entered = True
    driver.widget.enter()
    driver.settle()
    (node,) = driver.nodes("vtkMRMLSegmentationNode")
    assert driver.ui.showRatersCheckBox.checked and visible(node) == [False, True]


SAMPLES_CHANGED = "The samples have changed since; compare again."
RATERS_CHANGED = "Raters have changed since; compare again."


def warned(driver) -> list[str]:
    """What the label says of changes, when the module is entered."""
    driver.widget.refresh()
    driver.settle()
    return [text for text in driver.ui.comparisonLabel.text.splitlines() if text.endswith("compare again.")]


def compare_again(driver) -> None:
    driver.press("compareButton")
    driver.wait(lambda: driver.ui.compareButton.text.startswith("Compare"))
    assert warned(driver) == []


def test_changes_after_a_comparison_are_told(sampled, tmp_path):
    geometry = sampled.run.geometry
    masks = balls(geometry, 4)
    node = add_raters(sampled, masks[:3], geometry)
    other = add_raters(sampled, masks[:1], geometry, "other")
    choose(sampled, node)
    compare_again(sampled)

    def redraw(segmentation, segment_id, mask):
        replace_mask(segmentation, segment_id, Crop.of(mask), ijk_to_ras(geometry))

    tick(sampled, 1, 0)  # other raters are chosen, drawn, hidden: those compared are the same
    tick(sampled, 2)
    assert list(sampled.parameters.raterNodes) == [node, node, other]
    redraw(other, "r1", masks[3])
    sampled.ui.showRatersCheckBox.checked = False
    sampled.ui.resampleCheckBox.checked = True
    assert warned(sampled) == []
    redraw(node, "r2", masks[3])
    assert warned(sampled) == [RATERS_CHANGED]
    redraw(node, "r2", masks[1])  # undone
    assert warned(sampled) == []
    node.GetSegmentation().GetSegment("r2").SetName("professor")
    assert warned(sampled) == [RATERS_CHANGED]
    node.GetSegmentation().GetSegment("r2").SetName("doctor 2")
    assert warned(sampled) == []
    sample = sampled.run.samples[1]
    mask, segment_id = crops_of(sampled.run)[1].full(), mask_ids(sample, sampled.run.labels)[0]
    mask[2, 3, 4] ^= True
    redraw(sample, segment_id, mask)
    assert warned(sampled) == [SAMPLES_CHANGED]
    node.GetSegmentation().RemoveSegment("r3")
    assert warned(sampled) == [SAMPLES_CHANGED, RATERS_CHANGED]

    for key in ("dice", "slices"):  # whichever table is shown says so
        sampled.parameters.comparisonTable = key
        assert warned(sampled) == [SAMPLES_CHANGED, RATERS_CHANGED]
    choose(sampled, node)
    compare_again(sampled)
    slicer.mrmlScene.RemoveNode(sampled.run.samples[2])
    sampled.settle()
    assert warned(sampled) == [SAMPLES_CHANGED]
    compare_again(sampled)

    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    sampled.settle()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    sampled.settle()
    assert len(sampled.run.samples) == 2 and warned(sampled) == []
    (node,) = [found for found in sampled.nodes("vtkMRMLSegmentationNode") if found.GetName() == "raters"]
    redraw(node, "r1", masks[3])
    assert warned(sampled) == [RATERS_CHANGED]


def test_an_edit_that_was_saved_is_told_when_there_was_time_to_read_the_masks(sampled, tmp_path, monkeypatch):
    compare_again(sampled)
    node = sampled.parameters.raterNodes[0]
    segment = node.GetSegmentation().GetNthSegmentID(0)
    mask = np.zeros(sampled.run.geometry.shape, bool)
    mask[10, 20:30, 20:30] = True
    replace_mask(node, segment, Crop.of(mask), ijk_to_ras(sampled.run.geometry))
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")  # nothing in the tables says that it was changed
    slicer.mrmlScene.Clear()
    sampled.settle()
    ticks = iter(range(10**6))  # time for one mask each time
    monkeypatch.setattr(checksums, "time", SimpleNamespace(monotonic=lambda: next(ticks) * checksums.READING_S))
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    sampled.widget.refresh()
    assert RATERS_CHANGED not in sampled.ui.comparisonLabel.text
    for _ in range(10):  # 3 samples and 4 raters
        sampled.settle()
    assert RATERS_CHANGED in sampled.ui.comparisonLabel.text
