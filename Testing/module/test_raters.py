"""The section "Raters": two and ten raters, empty ones, other grids, overlapping segments; tables, export."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from AmbiguousSegBridge.grid import ijk_to_ras
from AmbiguousSegBridge.runs import crops_of
from AmbiguousSegBridge.scene import add_volume
from AmbiguousSegBridge.segments import add_segment, place_on_grid
from AmbiguousSegBridge.tables import read_table
from dicom_files import write_series
from SlicerHost import dialogs
from tiny_models import tiny_model

from AmbiguousSegLib.metrics.distribution import compare
from AmbiguousSegLib.model import save_model
from AmbiguousSegLib.sampling.export import Form
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.image import read_image
from AmbiguousSegLib.volume.io import LESION_TERMINOLOGY


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


@pytest.fixture
def sampled(driver):
    driver.load_sample_data()
    driver.generate(3, limitSlices=True, firstSlice=8, lastSlice=15)
    driver.wait(lambda: "modes" in driver.run.tables)
    return driver


@pytest.mark.parametrize("count, empty", [(2, 0), (10, 0), (2, 2), (0, 2)])
def test_figures_are_those_of_the_library(sampled, count, empty):
    masks = balls(sampled.run.geometry, count, empty)
    choose(sampled, add_raters(sampled, masks, sampled.run.geometry))
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables)
    samples = np.stack([crop.full() for crop in crops_of(sampled.run)])
    expected = compare(samples, masks).as_dict()
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
    assert figures(sampled)["GED v"] == pytest.approx(compare(samples, masks).as_dict()["ged_v"], abs=1e-6)


def test_the_samples_own_nodes_are_no_raters_and_the_button_says_what_is_missing(sampled):
    assert sampled.ui.raterTree.topLevelItemCount == 4  # those of the sample data
    import qt

    sampled.ui.raterTree.topLevelItem(0).setCheckState(0, qt.Qt.Unchecked)
    sampled.settle()
    assert len(sampled.parameters.raterSegments) == 3
    sampled.parameters.raterNodes, sampled.parameters.raterSegments = [], []
    sampled.settle()
    assert not sampled.ui.compareButton.enabled and "Tick" in sampled.ui.compareButton.toolTip


def test_export_of_the_tables(sampled, tmp_path):
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables)
    dialogs.expect("QFileDialog.getExistingDirectory", str(tmp_path))
    sampled.press("exportComparisonButton")
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert set(content["tables"]) == {"summary", "dice", "hd95", "dice_max", "consensus", "disagreement"}
    with (tmp_path / "comparison_dice.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stored = read_table(sampled.run.tables["comparison dice"])["rows"]
    assert [float(row["sample 01"]) for row in rows] == [row["sample 01"] for row in stored]
    (tmp_path / "comparison.json").write_text("mine")
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
    from AmbiguousSegLib.volume.io import read_segments

    sampled.parameters.exportFolder = tmp_path / "out"
    sampled.press("exportButton")
    sampled.wait(lambda: "written" in sampled.ui.exportLabel.text)
    for number, crop in enumerate(crops_of(sampled.run), 1):
        (mask,) = read_segments(tmp_path / "out" / f"sample_{number:02d}.seg.nrrd")[0].values()
        np.testing.assert_array_equal(mask, crop.full())
    assert (tmp_path / "out" / "mean.nrrd").is_file() and (tmp_path / "out" / "consensus.seg.nrrd").is_file()
    index = sampled.ui.exportFormSelector.findText("DICOM SEG")
    sampled.ui.exportFormSelector.currentIndex = index
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
    driver.generate(2)
    driver.parameters.exportForm, driver.parameters.exportFolder = Form.DICOM, tmp_path / "out"
    driver.press("exportButton")
    driver.wait(lambda: "written" in driver.ui.exportLabel.text or dialogs.texts("errorDisplay"))
    assert dialogs.texts("errorDisplay") == []
    (file,) = (tmp_path / "out").iterdir()
    written = pydicom.dcmread(file)
    labels = [segment.SegmentLabel for segment in written.SegmentSequence]
    assert labels == ["lesion 1", "lesion 2", "lesion (consensus)"]
    assert "mean" in driver.ui.exportLabel.text  # what a DICOM segmentation cannot hold is said


def test_a_rater_that_is_deleted_takes_no_other_along(driver):
    geometry = Geometry((20, 20, 12), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    nodes = [add_raters(driver, balls(geometry, 1), geometry, name) for name in ("anna", "ben", "chloe")]
    (segment,) = nodes[0].GetSegmentation().GetSegmentIDs()  # all three bear the same id
    driver.parameters.raterNodes = nodes[:2]
    driver.parameters.raterSegments = [segment] * 2
    driver.settle()
    slicer.mrmlScene.RemoveNode(nodes[0])
    driver.settle()
    assert [rater.name for rater in driver.widget.raters.chosen()] == ["ben"]
