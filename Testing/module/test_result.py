"""The section "Result" speaks of the run shown, and follows what the user does to its nodes elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene import masks, side_by_side, tables, upkeep
from AmbiguousSegBridge.scene.folders import remove_nodes
from AmbiguousSegBridge.scene.masks import crops_of, mask_ids, read_mask
from AmbiguousSegBridge.scene.runs import find_runs, writer_of
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, add_volume, save_scene
from AmbiguousSegBridge.scene.segments import count_voxels, replace_mask
from AmbiguousSegBridge.scene.views import arriving_samples
from AmbiguousSegBridge.worker import packages
from module_driver import Driver
from SlicerHost import dialogs
from SlicerHost.samples import PLAIN

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.volume.crops import Crop

THRESHOLDS = (0.2, 0.7)


@pytest.fixture
def module(driver, monkeypatch):
    """The module where PyTorch is missing: with no worker, nothing but the panel changes a run."""
    monkeypatch.setattr(packages, "torch_missing", lambda: True)
    return driver


@pytest.fixture
def two_runs(module):
    """Two runs of one volume, of other samples and thresholds; the second one is shown."""
    volume = add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, "scan")
    for number, threshold in enumerate(THRESHOLDS):
        add_run(f"run {number}", volume, threshold, number)
    show(module, 1)
    return module


def add_run(name: str, volume, threshold: float = 0.5, first_slice: int = 0):
    """A run of four samples: sample k marks 3 x 3 voxels in the k + 1 slices from the first one on."""
    masks = np.zeros((4, *PLAIN.shape), bool)
    for number, mask in enumerate(masks):
        mask[first_slice : first_slice + number + 1, 2:5, 2:5] = True
    return add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN), name, volume, consensus_threshold=threshold)


def show(driver, index: int) -> None:
    driver.settle()
    driver.ui.runSelector.activated.emit(index)
    at_rest(driver)


def at_rest(driver) -> None:
    """Let whatever is begun, such as by a slider, come to its end."""
    driver.settle()
    driver.wait(lambda: not driver.widget.controller._threshold_timer.active)


def edited(node, run, corner: int = 5) -> np.ndarray:
    """Give a segmentation of a run another mask, as the Segment Editor does."""
    mask = np.zeros(run.geometry.shape, bool)
    mask[1, corner : corner + 2, corner : corner + 2] = True
    replace_mask(node, mask_ids(node, run.labels)[0], Crop.of(mask), writer_of(slicer.mrmlScene, run).to_ras)
    return mask


def consensus(run) -> np.ndarray:
    return read_mask(run.consensus, run.geometry, run.labels).full()


def test_what_is_to_know_of_the_samples_stands_below_their_volumes(module):
    """That they are one mask, of a model that draws nothing."""
    volume = add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, "scan")
    told, masks = (
        {"input_warnings": ["Pixels are large."], "notes": ["All are one mask."]},
        np.ones((2, *PLAIN.shape), bool),
    )
    add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN, told), "run", volume)
    show(module, 0)
    assert module.ui.volumeLabel.text.splitlines()[1:] == ["Pixels are large.", "All are one mask."]


def titles(driver) -> list[str]:
    return [driver.ui.runSelector.itemText(index) for index in range(driver.ui.runSelector.count)]


def test_an_edited_consensus_outlives_looking_at_another_run(two_runs):
    mask = edited(two_runs.run.consensus, two_runs.run)
    show(two_runs, 0)
    show(two_runs, 1)
    np.testing.assert_array_equal(consensus(two_runs.run), mask)


@pytest.mark.parametrize("session", ["the same", "a new one"])
def test_an_edited_consensus_outlives_saving_and_loading(two_runs, session, slicer_host, tmp_path):
    mask = edited(two_runs.run.consensus, two_runs.run)
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    if session == "the same":
        slicer.mrmlScene.Clear()
        two_runs.settle()
        two_runs.ui.thresholdSlider.value = 0.33
        at_rest(two_runs)
        module = two_runs
    else:
        slicer_host.unload_all()
        slicer_host.new_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    if session == "a new one":
        module = Driver(slicer_host, tmp_path / "temporary")
    at_rest(module)
    np.testing.assert_array_equal(consensus(module.run), mask)
    assert module.ui.thresholdSlider.value == THRESHOLDS[1]


def test_a_consensus_that_was_deleted_stays_so(two_runs):
    remove_nodes(slicer.mrmlScene, [two_runs.run.consensus])
    show(two_runs, 0)
    show(two_runs, 1)
    assert two_runs.run.name == "run 1" and two_runs.run.consensus is None


@pytest.mark.parametrize("way", ["selected", "the other one deleted"])
def test_the_slider_says_the_threshold_of_the_run_shown(two_runs, way):
    assert two_runs.ui.thresholdSlider.value == THRESHOLDS[1]
    if way == "selected":
        show(two_runs, 0)
    else:
        dialogs.expect("confirmOkCancelDisplay", True)
        two_runs.press("removeRunButton")
        at_rest(two_runs)
    assert two_runs.run.name == "run 0" and two_runs.ui.thresholdSlider.value == THRESHOLDS[0]
    assert two_runs.run.consensus_threshold == THRESHOLDS[0]


def test_a_threshold_finer_than_the_slider_stays_as_it_is(module):
    volume = add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, "scan")
    for name, threshold in (("third", 1 / 3), ("all but none", 0.999)):
        run = add_run(name, volume, threshold)
        module.select(run)
        at_rest(module)
        assert module.run.consensus_threshold == threshold
        assert module.ui.thresholdSlider.value == pytest.approx(threshold, abs=0.01)


def test_moving_the_slider_and_then_to_another_run_changes_neither(two_runs):
    two_runs.ui.thresholdSlider.value = 0.4
    two_runs.ui.runSelector.activated.emit(0)
    at_rest(two_runs)
    assert [run.consensus_threshold for run in find_runs(slicer.mrmlScene)] == list(THRESHOLDS)


def test_maps_and_volumes_follow_an_edited_sample(two_runs):
    mask = edited(two_runs.run.samples[0], two_runs.run)
    mask_of_another = edited(two_runs.run.samples[2], two_runs.run, corner=7)
    two_runs.widget.enter()  # from the Segment Editor
    two_runs.settle()
    masks = [crop.full() for crop in crops_of(two_runs.run)]
    np.testing.assert_array_equal(masks[0], mask)
    np.testing.assert_array_equal(masks[2], mask_of_another)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(two_runs.run.mean), np.mean(masks, 0, dtype=np.float32))
    np.testing.assert_array_equal(consensus(two_runs.run), np.mean(masks, 0) > THRESHOLDS[1])
    assert [two_runs.ui.sampleTable.item(row, 1).text() for row in range(4)] == ["0.004", "0.018", "0.004", "0.036"]


def test_a_sample_edited_again_is_noticed_again(two_runs):
    for side in (2, 3):
        mask = np.zeros(PLAIN.shape, bool)
        mask[3, :side, :side] = True
        node, to_ras = two_runs.run.samples[0], writer_of(slicer.mrmlScene, two_runs.run).to_ras
        replace_mask(node, mask_ids(node, two_runs.run.labels)[0], Crop.of(mask), to_ras)
        two_runs.widget.enter()
        assert float(two_runs.ui.sampleTable.item(0, 1).text()) == side**2 / 1000


def test_masks_are_counted_once(two_runs, monkeypatch):
    two_runs.widget.enter()
    counted = []
    monkeypatch.setattr(masks, "count_voxels", lambda *of: counted.append(of) or 0)
    two_runs.widget.enter()
    assert counted == []


def test_counting_the_masks_of_a_scene_stops_nobody(module, monkeypatch):
    add_run("run", None)
    counted = []  # each takes two thirds of the time that there is
    now = SimpleNamespace(monotonic=lambda: len(counted) * upkeep.COUNTING_S * 2 / 3)
    monkeypatch.setattr(upkeep, "time", now)
    monkeypatch.setattr(masks, "count_voxels", lambda *of: (counted.append(of), count_voxels(*of))[1])
    asked = []
    monkeypatch.setattr(module.widget.context, "refresh_soon", lambda: asked.append(len(counted)))
    for number in (2, 4, 4):
        module.widget.refresh()
        assert len(counted) == number
    assert asked == [2]


def test_masks_are_left_alone_while_they_are_edited_elsewhere(two_runs):
    before = slicer.util.arrayFromVolume(two_runs.run.mean).copy()
    two_runs.widget.parent._entered = False
    edited(two_runs.run.samples[0], two_runs.run)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    two_runs.settle()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(two_runs.run.mean), before)


def test_opening_a_scene_with_an_edited_sample_renews_its_maps(two_runs, tmp_path):
    edited(two_runs.run.samples[3], two_runs.run)
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    at_rest(two_runs)
    masks = [crop.full() for crop in crops_of(two_runs.run)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(two_runs.run.mean), np.mean(masks, 0, dtype=np.float32))


@pytest.mark.parametrize("sample_too", [False, True])
def test_a_deleted_table_of_volumes_comes_back(two_runs, sample_too):
    run = two_runs.run
    mask = edited(run.consensus, run)
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    remove_nodes(slicer.mrmlScene, [run.tables[tables.VOLUMES], *run.samples[:sample_too]])
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    two_runs.settle()
    run = two_runs.run
    rows = tables.read_table(run.tables[tables.VOLUMES])["rows"][: -tables.SUMMARY_ROWS]
    assert [row[tables.NAME] for row in rows] == [f"sample 0{n}" for n in range(1 + sample_too, 5)]
    masks = [crop.full() for crop in crops_of(run)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.mean), np.mean(masks, 0, dtype=np.float32))
    if not sample_too:  # the maps were those of the samples: nothing is overwritten
        np.testing.assert_array_equal(consensus(run), mask)
    remove_nodes(slicer.mrmlScene, [run.samples[-1]])
    two_runs.settle()
    assert two_runs.ui.sampleTable.rowCount == len(run.samples) - 1 + tables.SUMMARY_ROWS


@pytest.mark.parametrize("end", ["another run", "no run", "no scene", "fewer samples"])
def test_the_slice_of_disagreement_named_is_one_of_the_run_shown(two_runs, end):
    two_runs.press("moreDisagreementButton")
    assert two_runs.ui.disagreementLabel.text == "slice 3, 1 of 4"  # half of them mark it
    if end == "another run":
        show(two_runs, 0)
    elif end == "no run":
        for _ in range(2):
            dialogs.expect("confirmOkCancelDisplay", True)
            two_runs.press("removeRunButton")
    elif end == "no scene":
        slicer.mrmlScene.Clear()
    else:
        remove_nodes(slicer.mrmlScene, [two_runs.run.samples[3]])
    two_runs.settle()
    assert two_runs.ui.disagreementLabel.text == ""
    if end == "another run":
        two_runs.press("moreDisagreementButton")
        assert two_runs.ui.disagreementLabel.text == "slice 2, 1 of 4"


def test_runs_of_one_name_are_told_apart(module):
    for scan in ("CT", "PET", "PET"):
        add_run("samples", add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, scan))
    add_run("others", None)
    module.settle()
    assert titles(module) == ["samples (CT)", "samples (PET) #1", "samples (PET) #2", "others"]


@pytest.mark.parametrize("grid", [True, False])
def test_more_samples_lie_over_no_view_of_the_grid(driver, grid):
    driver.load_sample_data()
    driver.generate(2, firstSlice=10, lastSlice=11)
    if grid:
        driver.press("sideBySideButton")
        driver.settle()
    run, seen = driver.run, []
    show_arriving = driver.widget.controller.display.arrived

    def look() -> None:
        show_arriving()
        new = [n for n in driver.nodes("vtkMRMLSegmentationNode") if n.GetAttribute("AmbiguousSeg.Role") == "sample 03"]
        seen.append((new[0].GetDisplayVisibility(), [node.GetDisplayVisibility() for node in run.samples]))

    driver.widget.controller.sampling.arrived = look
    driver.parameters.moreSamples = 1
    driver.press("moreButton")
    driver.wait(lambda: not driver.busy)
    assert seen == [(int(not grid), [1, 1])]
    views = [node.GetDisplayNode().GetViewNodeIDs() for node in driver.run.samples]
    assert [len(ids) for ids in views] == [int(grid)] * 3
    if grid:
        assert len({ids[0] for ids in views}) == 3
        driver.press("sideBySideButton")
        driver.settle()
        assert not side_by_side.is_shown(slicer.mrmlScene)
    assert all(node.GetDisplayVisibility() for node in driver.run.samples)


def test_samples_of_a_new_run_that_comes_to_nothing_leave_the_views_as_they_were(driver):
    driver.load_sample_data()
    driver.generate(1, firstSlice=10, lastSlice=11)
    (sample,) = driver.run.samples
    driver.widget.controller.sampling.arrived = lambda: (
        driver.widget.controller.display.arrived(),
        delete_and_cancel(),
    )

    def delete_and_cancel() -> None:
        assert not sample.GetDisplayVisibility()
        remove_nodes(slicer.mrmlScene, arriving_samples(slicer.mrmlScene))
        driver.widget.controller.sampling._generation.cancel()

    driver.generate(3, seed=1)
    assert driver.run.samples == (sample,) and sample.GetDisplayVisibility()


def test_a_slider_moved_without_a_run_is_no_trouble_when_the_scene_is_closed(driver):
    driver.ui.thresholdSlider.value = 0.3
    driver.widget.parent._entered = False
    slicer.mrmlScene.Clear()
    driver.wait(lambda: not driver.widget.controller._threshold_timer.active)
