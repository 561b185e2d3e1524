"""The button: what arrives in the scene, that all doors give the same, more, cancel, failures."""

from __future__ import annotations

import logging
import os
import random
import runpy
import sys

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene.folders import hierarchy_of, remove_nodes
from AmbiguousSegBridge.scene.grid import geometry_of, ijk_to_ras, read_channels
from AmbiguousSegBridge.scene.live_run import LiveRun
from AmbiguousSegBridge.scene.masks import crops_of
from AmbiguousSegBridge.scene.runs import find_runs
from AmbiguousSegBridge.scene.segments import labelmap_of
from AmbiguousSegBridge.worker.runner import Failure
from module_driver import FakeRunner
from SlicerHost import dialogs
from SlicerHost.processes import alive

from AmbiguousSegLib.__main__ import main as command_line
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.segments import read_segments
from AmbiguousSegLib.volume.writing import write_volume


@pytest.fixture
def runner(driver, monkeypatch) -> FakeRunner:
    """A fake in place of the worker, with the sample data loaded."""
    runner = FakeRunner(
        devices=[
            {"name": "cpu", "title": "CPU, 8 cores", "free_bytes": None},
            {"name": "cuda:0", "title": "Some GPU", "free_bytes": 11_940_000_000},
        ]
    )
    monkeypatch.setattr(driver.widget.context, "runner", runner)
    driver.load_sample_data()
    return runner


def progress(share: float, **changes) -> dict:
    told = {"seconds_left": None, "slices": 24, "slices_done": 3, "samples": 8, "samples_done": 1}
    return {"share": share, **told, **changes}


def watch_workers(monkeypatch) -> set[int]:
    """Ids of all processes of all workers that are started from now on, ready or not."""
    from AmbiguousSegBridge.worker import client as worker_process

    pids, meaning = set(), worker_process.WorkerRunner._hear

    class Link(worker_process.WorkerLink):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            pids.add(self._process.processId())

    def note(runner, message, crop):
        if isinstance(message, worker_process.Ready):
            pids.add(message.pid)
        return meaning(runner, message, crop)

    monkeypatch.setattr(worker_process, "WorkerLink", Link)
    monkeypatch.setattr(worker_process.WorkerRunner, "_hear", note)
    return pids


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
    driver.widget.controller.sampling.arrived = lambda: seen.append(len(find_runs(slicer.mrmlScene)))
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
    driver.generate(2, seed=3, firstSlice=10, lastSlice=11)
    from_button = [crop.full() for crop in crops_of(driver.run)]
    assert any(mask.any() for mask in from_button)
    (voxels,), geometry = read_channels([driver.parameters.channel1])
    write_volume(tmp_path / "scan.nrrd", voxels, geometry)
    asked = [str(tmp_path / "scan.nrrd"), "--samples", "2", "--seed", "3", "--quality", "fast", "--device", "cpu"]
    asked += ["--model", driver.parameters.model]
    assert command_line(["sample", *asked, "--slices", "10", "11", "--out", str(tmp_path / "cli")]) == 0
    (tmp_path / "study.csv").write_text("name,CT,slice_first,slice_last\nscan,scan.nrrd,10,11\n", encoding="utf-8")
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
    driver.wait(lambda: not driver.busy)
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
    driver.generate(2, region=roi, limitSlices=False)
    box = [crop.box[0] for crop in crops_of(driver.run) if not crop.empty]
    spacing, size = geometry_of(volume).spacing_mm[2], geometry_of(volume).size[2]
    slices = round(6.0 / spacing) + 1
    assert box and all(span.start >= (size - slices) // 2 - 1 and span.stop <= (size + slices) // 2 + 1 for span in box)


def test_more_segmentations_are_told_as_they_arrive(driver):
    driver.load_sample_data()
    driver.generate(1, firstSlice=10, lastSlice=10)
    seen = []
    driver.widget.controller.sampling.arrived = lambda: seen.append(len(driver.nodes("vtkMRMLSegmentationNode")))
    before = len(driver.nodes("vtkMRMLSegmentationNode"))
    driver.parameters.moreSamples = 2
    driver.press("moreButton")
    driver.wait(lambda: not driver.busy)
    assert seen == [before + 1, before + 2] and len(driver.run.samples) == 3


def test_the_panel_tells_how_far_it_is_and_its_button_cancels(driver, runner):
    ui = driver.ui
    driver.start(8)
    number, _, listener = runner.last("sample")
    assert (ui.generateButton.text, ui.statusLabel.text, ui.progressBar.maximum) == ("Cancel", "Starting...", 0)
    assert ui.progressBar.visible and not ui.moreButton.enabled
    for seconds, told in ((None, ""), (75.4, ", 75 s left"), (600, ", 10 min left")):
        listener.progress(progress(0.25, seconds_left=seconds))
        assert ui.statusLabel.text == "Slice 3 of 24, sample 1 of 8" + told
        assert 4 * ui.progressBar.value == ui.progressBar.maximum
    driver.press("generateButton")
    assert runner.cancelled == [number]
    assert (ui.generateButton.text, ui.generateButton.enabled) == ("Cancelling...", False)
    for _ in listener.cancelled():
        pass
    assert ui.statusLabel.text == "Cancelled; nothing was added." and not ui.progressBar.visible
    assert (ui.generateButton.text, ui.generateButton.enabled) == ("Generate 8 segmentations", True)


def test_in_what_the_volume_differs_from_training_is_kept_with_the_run(driver, runner):
    """Of a run that was stopped, too; one that is complete has what the worker found."""
    volume, hierarchy = driver.parameters.channel1, hierarchy_of(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(volume), "DICOM.Modality", "MR")
    note = "This is MR: the model was trained on phantom; outlines may be unreliable."
    driver.parameters.model = "phantom-cimd-64"
    driver.start(2)
    _, job, listener = runner.last("sample")
    assert (job.arguments["modality"], job.arguments["picture"]) == ("MR", False)
    assert driver.ui.inputWarningLabel.text == note
    listener.sample(0, Crop.of(np.ones(geometry_of(volume).shape, bool)))
    list(listener.cancelled())
    driver.settle()
    assert driver.run.provenance["input_warnings"] == [note]
    assert driver.ui.volumeLabel.text.startswith("Mean ") and driver.ui.volumeLabel.text.endswith(note)


def test_the_chosen_device_samples(driver, runner):
    driver.widget.refresh()
    selector = driver.ui.deviceSelector
    texts = [selector.itemText(index) for index in range(selector.count)]
    assert texts == ["Automatic: a GPU if there is one", "CPU, 8 cores", "Some GPU, 11.9 GB free"]
    selector.currentIndex = 2
    selector.activated.emit(2)
    driver.start(2)
    assert runner.last("sample")[1].arguments["device"] == driver.parameters.device == "cuda:0"
    driver.settle()
    assert selector.currentText == "Some GPU, 11.9 GB free"


def test_borders_are_refined_if_the_box_is_checked(driver, runner):
    box = driver.ui.refineCheckBox
    assert not box.checked
    driver.start(2)
    assert runner.last("sample")[1].arguments["refine"] is None
    list(runner.last("sample")[2].cancelled())
    driver.settle()
    box.click()
    assert driver.parameters.refineBorders
    driver.start(2)
    assert runner.last("sample")[1].arguments["refine"] == vars(DenseCRFConfig())


def test_no_more_than_a_hundred_are_sampled_at_a_time(driver):
    for box, name in ((driver.ui.samplesSpinBox, "samples"), (driver.ui.moreSpinBox, "moreSamples")):
        for typed, taken in ((1000, 100), (0, 1), (-5, 1), (7, 7)):
            box.value = typed
            assert box.value == getattr(driver.parameters, name) == taken


def test_sampling_does_not_wait_for_an_estimate(driver, runner):
    driver.widget.controller.request.ask()
    estimate = runner.last("estimate")[0]
    driver.start(2)
    assert runner.cancelled == [estimate]


def test_the_status_speaks_of_no_run_that_is_gone(driver):
    driver.load_sample_data()
    driver.generate(2, firstSlice=10, lastSlice=10)
    assert driver.ui.statusLabel.text == "2 samples in run AmbiguousSeg phantom samples"
    driver.generate(1, seed=1)
    assert driver.ui.statusLabel.text == "1 samples in run AmbiguousSeg phantom samples 2"
    for remaining in ("AmbiguousSeg phantom samples", ""):
        dialogs.expect("confirmOkCancelDisplay", True)
        driver.press("removeRunButton")
        driver.settle()
        assert (driver.run.name if driver.run else "") == remaining and driver.ui.statusLabel.text == ""
    driver.generate(1, seed=1)
    assert driver.ui.statusLabel.text.startswith("1 samples")
    slicer.mrmlScene.Clear()
    assert driver.ui.statusLabel.text == ""


def test_closing_the_scene_while_it_cancels_leaves_no_message(driver, runner):
    driver.start(2)
    driver.press("generateButton")
    slicer.mrmlScene.Clear()
    list(runner.last("sample")[2].cancelled())
    assert driver.ui.statusLabel.text == ""


def test_twenty_cancels_leave_nothing(driver, monkeypatch):
    """At moments that are counted in progress messages, never in seconds; some while the worker starts."""
    pids, starting = watch_workers(monkeypatch), 0
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    before, choose, heard, shown = driver.node_names(), random.Random(0), [], []
    sampling = driver.widget.controller.sampling
    show = sampling._progress
    sampling._progress = lambda progress: (heard.append(progress), show(progress))
    for attempt in range(20):
        heard.clear()
        moment = choose.choice((0, 0, 0, 1, 1, 2, 3, 5))
        if attempt in (4, 11, 18):
            driver.widget.logic.runner.stop()
            moment = 0
        driver.start(8, seed=attempt)
        driver.wait(lambda: len(heard) >= moment)
        if attempt in (7, 14):
            driver.wait(lambda: sampling._generation._run.samples)
        assert driver.ui.generateButton.text == "Cancel"
        driver.press("generateButton")
        samples = len(sampling._generation._run.samples)
        starting += driver.widget.logic.runner._worker is None or not driver.widget.logic.runner._worker.ready
        driver.wait(lambda: not sampling.busy)
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
    assert 0 in shown and max(shown) > 0 and starting >= 3
    driver.widget.stopWork()
    assert list(driver.temporary.iterdir()) == []
    assert len(pids) >= 4 and not any(map(alive, pids))


@pytest.mark.parametrize("kind", ["crashed", "out_of_memory"])
def test_a_failure_is_one_message_with_the_log_in_its_details_and_leaves_the_scene(driver, runner, kind):
    before = driver.node_names()
    driver.start(2)
    list(runner.last("sample")[2].failed(Failure(kind, "The worker ended.", "Press again.", "last line of the log")))
    driver.settle()
    assert driver.node_names() == before and not driver.busy
    (text,) = dialogs.texts("errorDisplay")
    assert "The worker ended." in text and "Press again." in text and "No segmentations were made." in text
    assert dialogs.details == [("errorDisplay", "last line of the log")]
    assert driver.ui.generateButton.text.startswith("Generate") and driver.ui.statusLabel.text == ""


def test_missing_packages_end_in_one_message(driver, monkeypatch):
    from AmbiguousSegBridge.worker import packages

    def ensure(interactive):
        assert interactive
        raise packages.PackagesError("PyTorch is not installed.", "Install the extension PyTorch.")

    driver.load_sample_data()
    monkeypatch.setattr(packages, "ensure", ensure)
    driver.press("generateButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "PyTorch is not installed." in text and "Install the extension PyTorch." in text
    assert not driver.busy


def test_closing_the_scene_ends_the_worker_and_leaves_nothing(driver):
    driver.load_sample_data()
    driver.start(8)
    driver.wait(lambda: driver.ui.progressBar.value > 0)
    pid = driver.widget.logic.runner.about["pid"]
    assert alive(pid)
    slicer.mrmlScene.Clear()
    assert not alive(pid)
    driver.settle()
    assert not driver.busy
    assert list(driver.temporary.iterdir()) == []
    assert driver.nodes("vtkMRMLSegmentationNode") == []
    driver.load_sample_data()
    driver.generate(1)
    assert len(driver.run.samples) == 1


@pytest.mark.parametrize("way", ["unloaded", "quitting"])
def test_the_worker_ends_with_the_module_and_with_slicer(driver, way):
    driver.load_sample_data()
    driver.start(8)
    driver.wait(lambda: driver.ui.progressBar.value > 0)
    pid = driver.widget.logic.runner.about["pid"]
    assert alive(pid)
    if way == "unloaded":
        driver.host.unload_module(driver.widget)
    else:
        slicer.app.aboutToQuit.emit()
    assert not alive(pid)
    assert list(driver.temporary.iterdir()) == []


def test_closing_the_scene_between_the_steps_of_an_ending_leaves_nothing(driver, monkeypatch):
    prepare, steps, pids = LiveRun.prepare, [], watch_workers(monkeypatch)

    def prepare_until_it_is_closed(run, threshold):
        yield from prepare(run, threshold)
        while len(steps) < 100_000:
            steps.append(len(list(driver.temporary.iterdir())))
            yield

    driver.load_sample_data()
    with monkeypatch.context() as endless:
        endless.setattr(LiveRun, "prepare", prepare_until_it_is_closed)
        driver.start(2, limitSlices=True, firstSlice=9, lastSlice=12)
        driver.wait(lambda: steps)
        assert driver.busy and len(driver.nodes("vtkMRMLSegmentationNode")) == 1 + 2
        slicer.mrmlScene.Clear()
    assert len(steps) < 100_000 and steps[0] == 1  # the folder was there
    driver.settle()
    assert not driver.busy and dialogs.texts("errorDisplay") == []
    assert driver.nodes("vtkMRMLSegmentationNode") == driver.nodes("vtkMRMLScalarVolumeNode") == []
    assert driver.nodes("vtkMRMLTableNode") == [] and list(driver.temporary.iterdir()) == []
    assert pids and not any(map(alive, pids))
    driver.load_sample_data()
    driver.generate(1)
    assert len(driver.run.samples) == 1


def test_a_failure_that_nobody_listens_to_is_logged(driver, caplog):
    """From the Python console there is no other way to hear of it."""
    driver.load_sample_data()
    before, logic, fake = driver.node_names(), driver.widget.logic, FakeRunner()
    logic.generate([driver.parameters.channel1], device="cuda:7")
    driver.wait(lambda: logic.runner._current is None and not logic.runner._waiting and not logic.runner._endings)
    sys.modules["AmbiguousSeg"].AmbiguousSegLogic(fake).generate([driver.parameters.channel1])
    list(fake.last("sample")[2].failed(Failure("crashed", "The worker ended.", "Press again.")))
    of_device, of_worker = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "cuda:7" in of_device and of_worker == "The worker ended. Press again."
    assert driver.node_names() == before


def test_the_test_that_runs_inside_slicer(driver):
    """Here it runs in the stand-in, so that at least its own code is right."""
    sys.modules["AmbiguousSeg"].AmbiguousSegTest().runTest()


def test_a_worker_killed_from_outside_loses_nothing_that_was_shown(driver):
    driver.load_sample_data()
    driver.start(30)
    driver.wait(lambda: driver.widget.controller.sampling._generation._run.samples)
    os.kill(driver.widget.logic.runner.about["pid"], 9)
    driver.wait(lambda: not driver.busy)
    (text,) = dialogs.texts("errorDisplay")
    assert "the samples made so far are kept" in text
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
    driver.generate(2, seed=1)
    first = driver.run
    edited = np.ones((4, 4, 4), bool)
    if what == "comparison":
        driver.press("compareButton")
        driver.wait(lambda: "comparison summary" in driver.run.tables)
    elif what == "edited mask":
        driver.wait(lambda: "modes" in driver.run.tables)
        node, geometry = first.samples[0], first.geometry
        (segment,) = node.GetSegmentation().GetSegmentIDs()
        labelmap = labelmap_of(Crop.of(edited).placed((0, 0, 0), geometry.shape), ijk_to_ras(geometry))
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(labelmap, node, segment)
    driver.generate(1 if what == "further samples" else 2)
    runs = find_runs(slicer.mrmlScene)
    assert len(runs) == 2 and runs[0].samples == first.samples and driver.run.name.endswith(" 2")
    if what == "edited mask":
        assert crops_of(runs[0])[0].voxels.sum() == edited.sum() != crops_of(runs[1])[0].voxels.sum()


def test_adding_to_a_run_whose_sample_lost_its_mask_is_refused(driver):
    driver.load_sample_data()
    driver.generate(2)
    driver.wait(lambda: "modes" in driver.run.tables)
    driver.run.samples[0].GetSegmentation().RemoveAllSegments()
    driver.press("moreButton")
    (text,) = dialogs.texts("errorDisplay")
    assert "sample 01" in text and "lost its mask" in text and not driver.busy


def test_an_end_that_fails_is_told_and_leaves_the_scene(driver, monkeypatch):
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    before = driver.node_names()

    def complete(*_, **__):
        raise RuntimeError("no maps")

    with monkeypatch.context() as faulty:
        faulty.setattr(LiveRun, "complete", complete)
        driver.generate(1, firstSlice=10, lastSlice=10)
    (text,) = dialogs.texts("errorDisplay")
    assert "no maps" in text and driver.node_names() == before
    driver.generate(1)
    assert len(driver.run.samples) == 1


def test_all_samples_deleted_as_they_arrive(driver):
    driver.load_sample_data()
    driver.start(2, limitSlices=True, firstSlice=10, lastSlice=10)
    live = driver.widget.controller.sampling._generation._run
    driver.widget.controller.sampling.arrived = lambda: remove_nodes(slicer.mrmlScene, live.samples)
    driver.wait(lambda: not driver.busy)
    assert driver.run is None and dialogs.texts("errorDisplay") == []
    assert driver.ui.generateButton.text.startswith("Generate")


def test_an_input_that_is_moved_leaves_the_samples_where_it_was(driver):
    driver.load_sample_data()
    volume = driver.parameters.channel1
    before = geometry_of(volume)
    driver.start(2, limitSlices=True, firstSlice=9, lastSlice=12)
    volume.SetOrigin(*(coordinate + 20.3 for coordinate in volume.GetOrigin()))
    driver.wait(lambda: not driver.busy)
    assert driver.run.geometry.same_grid(before) and geometry_of(driver.run.mean).same_grid(before)
    masks = [crop.full() for crop in crops_of(driver.run)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(driver.run.mean), np.mean(masks, 0, dtype=np.float32))
