"""A model of two classes, through the real worker to the panels: samples, maps, modes, raters, files, a saved scene."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.generation import REQUEST
from AmbiguousSegBridge.scene.masks import crops_of, map_array, mask_of
from AmbiguousSegBridge.scene.sample_sets import save_scene
from AmbiguousSegBridge.scene.tables import read_table
from AmbiguousSegBridge.scene.views import Overlay
from SlicerHost.samples import CORE_AND_HALO
from tiny_models import randomised, tiny_model

from AmbiguousSegLib.ensemble.modes import find_modes
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters
from AmbiguousSegLib.evaluation.rater_tables import TABLE_TITLES
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.methods.cimd import CIMD
from AmbiguousSegLib.metrics.overlap import pairwise_label_iou
from AmbiguousSegLib.model import Model, load_model, save_model
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.volume.io import read_label_map
from AmbiguousSegLib.volume.segments import read_rater_maps

NAMES = ["core", "the halo"]


def model_of_two_classes() -> Model:
    """As ``tiny_model``, with a core and a halo."""
    model = tiny_model()
    method = randomised(CIMD(replace(model.method.config, classes=2)))
    return Model(method, model.preprocessing, model.sampling, model.card, CORE_AND_HALO)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "two classes"
    save_model(model_of_two_classes(), folder)
    return folder


@pytest.fixture
def sampled(driver, model_folder):
    """A run of three samples of the sample data, with its modes."""
    driver.parameters.model = str(model_folder)
    driver.sampled(3, 8, 10)
    return driver


def masks_of(run) -> np.ndarray:
    return np.stack([crop.full() for crop in crops_of(run)])


def as_raters(driver, count: int = 2) -> None:
    """Copies of samples, ticked as raters."""
    for shown in range(1, 1 + count):
        driver.parameters.shownSample = shown
        driver.press("useSampleButton")
    parts = [n for n in driver.nodes("vtkMRMLSegmentationNode") if n.GetName().startswith("core + the halo, from")]
    assert len(parts) == count
    driver.parameters.raterNodes = [node for node in parts for _ in NAMES]
    driver.parameters.raterSegments = ["core", "the_halo"] * count
    driver.settle()


def test_masks_maps_and_tables_are_those_of_the_library(sampled, model_folder):
    run, model = sampled.run, load_model(model_folder)
    assert run.labels == CORE_AND_HALO
    volume = slicer.util.arrayFromVolume(sampled.parameters.channel1)[None].astype(np.float32)
    request = SampleRequest(3, sampler=sampler_of(Quality.FAST, model.training_steps), slice_range=(8, 10))
    expected = sample_volume(model, volume, run.geometry, request)
    assert all((expected.masks == label).any() for label in (1, 2))
    np.testing.assert_array_equal(masks_of(run), expected.masks)
    for label in (1, 2):
        np.testing.assert_array_equal(map_array(run.means[label - 1]), expected.mean(label))
        np.testing.assert_array_equal(map_array(run.variances[label - 1]), expected.variance(label))
    np.testing.assert_array_equal(map_array(run.entropy), expected.entropy())
    np.testing.assert_array_equal(mask_of(run.consensus, run).full(), expected.consensus())
    table = sampled.ui.sampleTable
    shown = [[float(table.item(row, column).text()) for column in (1, 2, 3)] for row in range(3)]
    volumes = np.stack([expected.volumes_ml(label) for label in (1, 2, None)], axis=1)
    np.testing.assert_allclose(shown, volumes, atol=5e-4)
    assert sampled.ui.volumeLabel.text.startswith("All classes together:\nMean")
    iou = pairwise_label_iou(expected.masks, expected.masks, 2)
    rows = read_table(run.tables["modes"])["rows"]
    assert [row["frequency"] for row in rows] == pytest.approx(find_modes(iou, 0.5).frequencies.tolist())


def test_the_panel_shows_what_several_classes_need(sampled):
    ui, run = sampled.ui, sampled.run
    assert not ui.thresholdSlider.visible and ui.classSelector.visible
    assert [ui.classSelector.itemText(k) for k in range(ui.classSelector.count)] == NAMES
    assert "Marks: core, the halo." in ui.modelLabel.text
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    expected = {
        (Overlay.MEAN, 2): run.means[1],
        (Overlay.MEAN, 1): run.means[0],
        (Overlay.VARIANCE, 2): run.variances[1],
        (Overlay.ENTROPY, 2): run.entropy,
    }
    for (overlay, label), node in expected.items():
        sampled.parameters.overlay, sampled.parameters.shownClass = overlay, label
        sampled.settle()
        assert composite.GetForegroundVolumeID() == node.GetID()
        assert ui.classSelector.currentIndex == label - 1
    sampled.parameters.consensusThreshold = 0.9  # of the hidden slider
    before = mask_of(run.consensus, run)
    sampled.widget.controller.apply_threshold()
    assert mask_of(run.consensus, run).same(before)


def test_more_of_them_are_those_of_a_larger_run(sampled):
    first = masks_of(sampled.run)
    sampled.parameters.moreSamples = 2
    sampled.press("moreButton")
    sampled.wait(lambda: not sampled.busy)
    run, masks = sampled.run, masks_of(sampled.run)
    assert len(masks) == 5 and json.loads(run.node.GetAttribute(REQUEST))["sampler"]["grid"] == "trailing"
    np.testing.assert_array_equal(masks[:3], first)
    samples = SampleSet(masks, run.geometry, labels=CORE_AND_HALO)
    np.testing.assert_array_equal(map_array(run.means[1]), samples.mean(2))


def test_raters_are_compared_class_by_class(sampled):
    as_raters(sampled)
    assert sampled.ui.compareButton.text == "Compare with 2 raters"
    sampled.press("compareButton")
    sampled.wait(lambda: "comparison summary" in sampled.run.tables and "samples STAPLE" in sampled.run.nodes)
    run, masks = sampled.run, masks_of(sampled.run)
    names = [f"core + the halo, from sample {number:02d}" for number in (1, 2)]
    samples = [f"sample {number:02d}" for number in (1, 2, 3)]
    expected = compare_with_raters(masks, masks[:2], run.geometry, names, samples, labels=NAMES)
    for key in TABLE_TITLES:
        if key != "summary":  # it stands upright in the panel
            assert read_table(run.tables["comparison " + key]) == json.loads(json.dumps(expected.tables[key].as_dict()))
    labels = [row["label"] for row in expected.tables["summary"].rows]
    standing = read_table(run.tables["comparison summary"])["rows"]
    assert list(dict.fromkeys(row["label"] for row in standing)) == list(dict.fromkeys(labels)) == [*NAMES, labels[-1]]
    for row in expected.tables["summary"].rows:
        (value,) = (r[row["scope"]] for r in standing if (r["label"], r["figure"]) == (row["label"], "GED u"))
        assert value == pytest.approx(row["ged_u"])
    for name, fused in expected.fused.items():
        np.testing.assert_array_equal(mask_of(run.nodes[name], run).full(), fused)
    sampled.press("disagreementPlotButton")
    slices = {row["slice"] for row in expected.tables["disagreement"].rows}
    points = sampled.run.nodes["disagreement plot, points, values"].GetTable().GetNumberOfRows()
    assert 1 <= points <= len(slices)  # not once for each class


def test_what_segments_are_can_be_said_and_a_mixture_is_refused(sampled):
    from AmbiguousSegBridge.parameters import SegmentsAre

    as_raters(sampled, 1)
    node = sampled.parameters.raterNodes[0]
    sampled.parameters.segmentsAre = SegmentsAre.RATERS
    sampled.settle()
    assert sampled.ui.compareButton.text == "Compare with 2 raters"
    assert "taken for core, the first label" in sampled.ui.compareButton.toolTip
    sampled.parameters.segmentsAre = SegmentsAre.AUTO
    node.GetSegmentation().GetSegment("the_halo").SetName("rim")
    sampled.widget.enter()
    sampled.settle()
    assert not sampled.ui.compareButton.enabled and "'rim'" in sampled.ui.compareButton.toolTip
    node.GetSegmentation().GetSegment("the_halo").SetName("the halo")
    sampled.widget.enter()
    sampled.settle()
    assert sampled.ui.compareButton.enabled and sampled.ui.compareButton.text == "Compare with 1 raters"


def test_files_for_other_programs(sampled, tmp_path):
    run, masks = sampled.run, masks_of(sampled.run)
    for form, folder in (("seg_nrrd", tmp_path / "slicer"), ("nifti", tmp_path / "others")):
        sampled.parameters.exportForm, sampled.parameters.exportFolder = form, folder
        sampled.ui.exportLabel.text = ""
        sampled.press("exportButton")
        sampled.wait(lambda: "written" in sampled.ui.exportLabel.text)
    for number, mask in enumerate(masks, 1):
        read = read_rater_maps(tmp_path / "slicer" / f"sample_{number:02d}.seg.nrrd", NAMES).masks
        np.testing.assert_array_equal(next(iter(read.values())), mask)
        read = read_label_map(tmp_path / "others" / f"sample_{number:02d}.nii.gz", run.geometry, 2)
        np.testing.assert_array_equal(read, mask)
    maps = {f"{kind}_{name}.nrrd" for kind in ("mean", "variance") for name in ("core", "the_halo")}
    assert {path.name for path in (tmp_path / "slicer").glob("*.nrrd") if ".seg." not in path.name} == {
        *maps,
        "entropy.nrrd",
    }


def test_a_saved_scene_shows_them_again(sampled, tmp_path):
    masks = masks_of(sampled.run)
    sampled.parameters.overlay, sampled.parameters.shownClass = Overlay.VARIANCE, 2
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    sampled.settle()
    np.testing.assert_array_equal(masks_of(sampled.run), masks)
    assert sampled.run.labels == CORE_AND_HALO and sampled.ui.classSelector.currentIndex == 1
    assert not sampled.ui.thresholdSlider.visible and sampled.ui.moreButton.enabled
    assert [asdict(label) for label in sampled.run.labels] == [asdict(label) for label in CORE_AND_HALO]
