"""The button: what arrives in the scene, that all doors give the same, more, cancel, failures."""

from __future__ import annotations

import os
import random
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.grid import geometry_of, ijk_to_ras, read_channels
from AmbiguousSegBridge.identity import remove_nodes
from AmbiguousSegBridge.live_run import LiveRun
from AmbiguousSegBridge.runner import Failure
from AmbiguousSegBridge.runs import crops_of, find_runs
from AmbiguousSegBridge.segments import labelmap_of
from SlicerHost import dialogs

from AmbiguousSegLib.__main__ import main as command_line
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.io import read_segments, write_volume


def test_one_click_of_sample_data_makes_the_button_ready(driver):
    assert not driver.ui.generateButton.enabled
    assert "CT" in driver.ui.generateButton.toolTip
    driver.load_sample_data()
    assert driver.ui.generateButton.enabled
    assert driver.ui.generateButton.text == "Generate 8 segmentations"
    assert driver.parameters.channel1 is driver.nodes("vtkMRMLScalarVolumeNode")[0]
    assert len(driver.parameters.raterSegments) == 4


def test_samples_arrive_one_by_one_and_the_maps_are_theirs(driver):
    driver.load_sample_data()
    seen = []
    driver.widget.generate._on_sample = lambda: seen.append(len(find_runs(slicer.mrmlScene)))
    driver.generate(3, seed=5)
    assert seen == [0, 0, 0]  # each was there before the run was complete
    run = driver.run
    assert [node.GetName() for node in run.samples] == [
        f"AmbiguousSeg phantom samples - sample {number:02d}" for number in (1, 2, 3)
    ]
    masks = np.stack([crop.full() for crop in crops_of(run)])
    assert masks.any()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.mean), masks.mean(0, dtype=np.float32))
    assert run.provenance["seed"] == 5
    assert driver.ui.sampleTable.rowCount >= 3
    driver.wait(lambda: "modes" in driver.run.tables)
    assert driver.ui.modeTable.rowCount >= 1


def test_button_and_command_line_and_batch_give_identical_masks(driver, tmp_path):
    driver.load_sample_data()
    driver.generate(2, seed=3, limitSlices=True, firstSlice=8, lastSlice=13)
    from_button = [crop.full() for crop in crops_of(driver.run)]
    assert any(mask.any() for mask in from_button)
    (voxels,), geometry = read_channels([driver.parameters.channel1])
    write_volume(tmp_path / "scan.nrrd", voxels, geometry)
    asked = [str(tmp_path / "scan.nrrd"), "--samples", "2", "--seed", "3", "--quality", "fast", "--device", "cpu"]
    assert command_line(["sample", *asked, "--slices", "8", "13", "--out", str(tmp_path / "cli")]) == 0
    (tmp_path / "study.csv").write_text("name,CT,slice_first,slice_last\nscan,scan.nrrd,8,13\n", encoding="utf-8")
    batch = runpy.run_path(str(driver.batch_script))
    batch_arguments = [str(tmp_path / "study.csv"), *asked[1:], "--out", str(tmp_path / "batch")]
    assert batch["main"](batch_arguments) == 0
    for folder in (tmp_path / "cli", tmp_path / "batch" / "scan"):
        for number, expected in enumerate(from_button, 1):
            (mask,) = read_segments(folder / f"sample_{number:02d}.seg.nrrd")[0].values()
            np.testing.assert_array_equal(mask, expected)


def test_more_segmentations_are_those_a_larger_run_would_have(driver):
    driver.load_sample_data()
    driver.generate(2, seed=1)
    first = driver.run
    driver.parameters.moreSamples = 2
    driver.press("moreButton")
    driver.wait(lambda: not driver.widget.generate.busy)
    assert len(find_runs(slicer.mrmlScene)) == 1
    extended = [crop.full() for crop in crops_of(driver.run)]
    assert driver.run.samples[:2] == first.samples and len(extended) == 4
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(driver.run.mean), np.mean(extended, 0, dtype=np.float32))
    driver.generate(4, seed=1)  # the same request in one go replaces it
    assert len(find_runs(slicer.mrmlScene)) == 1
    for mask, crop in zip(extended, crops_of(driver.run), strict=True):
        np.testing.assert_array_equal(crop.full(), mask)


def test_another_seed_is_a_run_beside_the_first(driver):
    driver.load_sample_data()
    driver.generate(1, seed=1)
    driver.generate(1, seed=2)
    assert [run.name for run in find_runs(slicer.mrmlScene)] == [
        "AmbiguousSeg phantom samples",
        "AmbiguousSeg phantom samples 2",
    ]
    first, second = find_runs(slicer.mrmlScene)
    assert second.samples[0].GetDisplayVisibility() and not first.samples[0].GetDisplayVisibility()
    driver.ui.runSelector.activated.emit(0)
    driver.settle()
    assert first.samples[0].GetDisplayVisibility() and not second.samples[0].GetDisplayVisibility()
    assert driver.run.provenance["seed"] == 1


def test_region_of_interest_is_where_samples_may_lie(driver):
    driver.load_sample_data()
    volume = driver.parameters.channel1
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    middle = [(low + high) / 2 for low, high in zip(bounds[0::2], bounds[1::2])]
    roi.SetCenter(middle)
    roi.SetSize(bounds[1] - bounds[0], bounds[3] - bounds[2], 6.0)
    driver.generate(2, region=roi)
    box = [crop.box[0] for crop in crops_of(driver.run) if not crop.empty]
    spacing, size = geometry_of(volume).spacing_mm[2], geometry_of(volume).size[2]
    slices = round(6.0 / spacing) + 1
    assert box and all(span.start >= (size - slices) // 2 - 1 and span.stop <= (size + slices) // 2 + 1 for span in box)


def test_twenty_cancels_leave_nothing(driver):
    """At moments that are counted in progress messages, never in seconds."""
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    before, choose, heard, shown = driver.node_names(), random.Random(0), [], []
    panel = driver.widget.generate
    show = panel._show_progress
    panel._show_progress = lambda progress: (heard.append(progress), show(progress))
    for attempt in range(20):
        heard.clear()
        moment = choose.choice((0, 0, 0, 1, 1, 2, 3, 5))
        driver.start(8, seed=attempt)
        driver.wait(lambda: len(heard) >= moment)
        if attempt in (7, 14):
            driver.wait(lambda: panel._generation._run.samples)
        samples = len(panel._generation._run.samples)
        panel._on_generate()
        driver.wait(lambda: not panel.busy)
        runs = find_runs(slicer.mrmlScene)
        assert [len(run.samples) for run in runs] == ([samples] if samples else [])
        shown.append(samples)
        for run in runs:  # what was shown stays, with maps over just these
            masks = [crop.full() for crop in crops_of(run)]
            np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.mean), np.mean(masks, 0, dtype=np.float32))
            dialogs.expect("confirmOkCancelDisplay", True)
            driver.press("removeRunButton")
            driver.settle()
        assert driver.node_names() == before
    assert 0 in shown and max(shown) > 0
    driver.widget.stopWork()
    assert list(driver.temporary.iterdir()) == []


@pytest.mark.parametrize("kind", ["crashed", "out_of_memory"])
def test_a_failure_is_one_message_and_leaves_the_scene(driver, kind, monkeypatch):
    driver.load_sample_data()
    before = driver.node_names()
    failure = Failure(kind, "The worker ended.", "Press again.", "last line of the log")

    def start(_job, listener):
        import qt

        qt.QTimer.singleShot(0, lambda: listener.failed(failure))
        return 1

    failing = SimpleNamespace(start=start, about=None)
    monkeypatch.setattr(driver.widget.context, "runner", failing)
    driver.start(2)
    driver.wait(lambda: not driver.widget.generate.busy)
    assert driver.node_names() == before
    (text,) = dialogs.texts("errorDisplay")
    assert "The worker ended." in text and "Press again." in text and "No segmentations were made." in text
    assert driver.ui.generateButton.text.startswith("Generate")


def test_missing_packages_end_in_one_message(driver, monkeypatch):
    from AmbiguousSegBridge import packages

    def ensure(interactive, requirements):
        raise packages.PackagesError("PyTorch is not installed.", "Install the extension PyTorch.")

    driver.load_sample_data()
    monkeypatch.setattr(packages, "ensure", ensure)
    driver.press("generateButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "PyTorch is not installed." in text and "Install the extension PyTorch." in text
    assert not driver.widget.generate.busy


def test_closing_the_scene_ends_the_worker_and_leaves_nothing(driver):
    driver.load_sample_data()
    driver.start(8)
    driver.wait(lambda: driver.ui.progressBar.value > 0)
    slicer.mrmlScene.Clear()
    driver.settle()
    assert not driver.widget.generate.busy
    assert list(driver.temporary.iterdir()) == []
    assert driver.nodes("vtkMRMLSegmentationNode") == []
    driver.load_sample_data()
    driver.generate(1)
    assert len(driver.run.samples) == 1


def test_the_test_that_runs_inside_slicer(driver):
    """Here it runs in the stand-in, so that at least its own code is right."""
    sys.modules["AmbiguousSeg"].AmbiguousSegTest().runTest()


def test_a_worker_killed_from_outside_loses_nothing_that_was_shown(driver):
    driver.load_sample_data()
    driver.start(30)
    driver.wait(lambda: driver.widget.generate._generation._run.samples)
    os.kill(driver.widget.logic.runner.about["pid"], 9)
    driver.wait(lambda: not driver.widget.generate.busy)
    (text,) = dialogs.texts("errorDisplay")
    assert "what is there stays" in text
    kept = len(driver.run.samples)
    assert 1 <= kept < 30 and driver.run.mean is not None
    driver.wait(lambda: "modes" in driver.run.tables)  # by a fresh worker
    driver.generate(1, seed=9)
    assert len(driver.run.samples) == 1
    driver.widget.stopWork()
    assert list(driver.temporary.iterdir()) == []


@pytest.mark.parametrize("what", ["further samples", "edited mask", "comparison"])
def test_the_same_request_again_loses_nothing(driver, what):
    driver.load_sample_data()
    driver.generate(2, seed=1, limitSlices=True, firstSlice=9, lastSlice=12)
    first = driver.run
    edited = np.ones((4, 4, 4), bool)
    if what == "comparison":
        driver.press("compareButton")
        driver.wait(lambda: "comparison summary" in driver.run.tables)
    elif what == "edited mask":
        driver.wait(lambda: "modes" in driver.run.tables)
        node, geometry = first.samples[0], first.geometry
        (segment,) = node.GetSegmentation().GetSegmentIDs()
        labelmap = labelmap_of(Crop(edited, (0, 0, 0), geometry.shape), ijk_to_ras(geometry))
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(labelmap, node, segment)
    driver.generate(1 if what == "further samples" else 2)
    runs = find_runs(slicer.mrmlScene)
    assert len(runs) == 2 and runs[0].samples == first.samples and driver.run.name.endswith(" 2")
    if what == "edited mask":
        assert crops_of(runs[0])[0].voxels.sum() == edited.sum() != crops_of(runs[1])[0].voxels.sum()


def test_adding_to_a_run_whose_sample_lost_its_mask_is_refused(driver):
    driver.load_sample_data()
    driver.generate(2, limitSlices=True, firstSlice=9, lastSlice=12)
    driver.wait(lambda: "modes" in driver.run.tables)
    driver.run.samples[0].GetSegmentation().RemoveAllSegments()
    driver.press("moreButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "sample 01" in text and "lost its mask" in text and not driver.widget.generate.busy


def test_an_end_that_fails_is_told_and_leaves_the_scene(driver, monkeypatch):
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    before = driver.node_names()

    def complete(*_, **__):
        raise RuntimeError("no maps")

    with monkeypatch.context() as faulty:
        faulty.setattr(LiveRun, "complete", complete)
        driver.generate(1, limitSlices=True, firstSlice=10, lastSlice=10)
    (text,) = dialogs.texts("errorDisplay")
    assert "no maps" in text and driver.node_names() == before
    driver.generate(1)
    assert len(driver.run.samples) == 1


def test_all_samples_deleted_as_they_arrive(driver):
    driver.load_sample_data()
    driver.start(2, limitSlices=True, firstSlice=10, lastSlice=10)
    live = driver.widget.generate._generation._run
    driver.widget.generate._on_sample = lambda: remove_nodes(slicer.mrmlScene, live.samples)
    driver.wait(lambda: not driver.widget.generate.busy)
    assert driver.run is None and dialogs.texts("errorDisplay") == []
    assert driver.ui.generateButton.text.startswith("Generate")


def test_an_input_that_is_moved_leaves_the_samples_where_it_was(driver):
    driver.load_sample_data()
    volume = driver.parameters.channel1
    before = geometry_of(volume)
    driver.start(2, limitSlices=True, firstSlice=9, lastSlice=12)
    volume.SetOrigin(*(coordinate + 20.3 for coordinate in volume.GetOrigin()))
    driver.wait(lambda: not driver.widget.generate.busy)
    assert driver.run.geometry.same_grid(before) and geometry_of(driver.run.mean).same_grid(before)
    masks = [crop.full() for crop in crops_of(driver.run)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(driver.run.mean), np.mean(masks, 0, dtype=np.float32))
