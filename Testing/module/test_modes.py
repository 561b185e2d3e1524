"""The section "Modes" shows the modes of the run shown at the cut of the slider, and asks for them once."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from AmbiguousSegBridge.scene import tables
from AmbiguousSegBridge.scene.folders import remove_nodes
from AmbiguousSegBridge.scene.runs import writer_of
from AmbiguousSegBridge.scene.sample_sets import add_sample_set, add_volume, save_scene
from AmbiguousSegBridge.scene.segments import replace_mask
from AmbiguousSegBridge.worker import packages
from AmbiguousSegBridge.worker.runner import Failure
from module_driver import Driver
from SlicerHost.samples import PLAIN

from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.metrics.order_statistics import frequency_interval
from AmbiguousSegLib.volume.crops import Crop


class Jobs:
    """A runner that only notes what it is asked; ``finish`` and ``fail`` answer the latest job about modes."""

    about = None

    def __init__(self) -> None:
        self.modes, self.cancelled = [], []

    def start(self, job, listener) -> int:
        if job.kind == "modes":
            self.modes.append((job, listener))
        return len(self.modes)

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def finish(self, labels: list[int]) -> None:
        """Samples of one label are one mode, whose first one represents it."""
        job, listener = self.modes[-1]
        count = max(labels) + 1
        result = {"labels": labels, "representatives": [labels.index(mode) for mode in range(count)]}
        result |= {"frequencies": [labels.count(mode) / len(labels) for mode in range(count)]}
        result |= {"intervals": [frequency_interval(labels.count(mode), len(labels)) for mode in range(count)]}
        listener.finished(result | {"cut": job.arguments["cut"]}, None)

    def fail(self, message: str) -> None:
        self.modes[-1][1].failed(Failure("internal", message))


@pytest.fixture
def jobs(driver, monkeypatch):
    """In place of the worker."""
    found = Jobs()
    monkeypatch.setattr(driver.widget.context, "runner", found)
    return found


def add_run(driver, name: str):
    """A run of three samples, the second one half of the first; it is shown."""
    volume = slicer.mrmlScene.GetFirstNodeByName("scan")
    volume = volume or add_volume(slicer.mrmlScene, np.zeros(PLAIN.shape, np.int16), PLAIN, "scan")
    masks = np.zeros((3, *PLAIN.shape), bool)
    masks[0, 1, 2:4, 2:4] = masks[1, 1, 2, 2:4] = masks[2, 4, 2:4, 2:4] = True
    run = add_sample_set(slicer.mrmlScene, SampleSet(masks, PLAIN), name, volume)
    driver.select(run)
    at_rest(driver)
    return run


def at_rest(driver) -> None:
    driver.settle()
    controller = driver.widget.controller
    driver.wait(lambda: not controller._cut_timer.active and not controller.modes._reader.active)


def cut_to(driver, value: float) -> None:
    driver.ui.modeCutSlider.value = value
    at_rest(driver)


def row_count(driver) -> int:
    return driver.ui.modeTable.rowCount


def test_a_run_that_came_without_modes_gets_them(driver, jobs):
    add_run(driver, "batch")
    at_rest(driver)
    assert len(jobs.modes) == 1 and "being found" in driver.ui.modesLabel.text
    jobs.finish([0, 0, 1])
    at_rest(driver)
    assert row_count(driver) == 2 and driver.ui.modesLabel.text.startswith("2 distinct")
    assert len(jobs.modes) == 1


def test_another_run_is_cut_where_the_slider_is(driver, jobs):
    first = add_run(driver, "first")
    jobs.finish([0, 0, 1])
    second = add_run(driver, "second")
    jobs.finish([0, 0, 1])
    cut_to(driver, 0.3)
    jobs.finish([0, 1, 2])
    assert row_count(driver) == 3
    before = len(jobs.modes)
    driver.select(first)
    at_rest(driver)
    assert [job.arguments["cut"] for job, _ in jobs.modes[before:]] == [0.3]
    jobs.finish([0, 1, 2])
    at_rest(driver)
    assert row_count(driver) == 3 and "0.3" in tables.read_table(driver.run.tables["modes"])["notes"][0]
    driver.select(second)
    at_rest(driver)
    assert len(jobs.modes) == before + 1


def test_modes_that_another_run_cancelled_come_when_theirs_is_shown_again(driver, jobs):
    first = add_run(driver, "first")
    second = add_run(driver, "second")
    assert len(jobs.modes) == 2 and jobs.cancelled == [1]
    jobs.finish([0, 0, 1])
    jobs.modes[0][1].cancelled()
    driver.select(first)
    at_rest(driver)
    assert len(jobs.modes) == 3
    jobs.finish([0, 1, 2])
    at_rest(driver)
    assert row_count(driver) == 3
    driver.select(second)
    at_rest(driver)
    assert row_count(driver) == 2 and len(jobs.modes) == 3


def test_the_slider_at_rest_asks_once(driver, jobs):
    add_run(driver, "run")
    jobs.finish([0, 0, 1])
    for cut in (0.6, 0.7, 0.8):
        driver.ui.modeCutSlider.value = cut
        driver.settle()
    at_rest(driver)
    assert [job.arguments["cut"] for job, _ in jobs.modes] == [0.5, 0.8]


def test_other_samples_make_other_modes(driver, jobs):
    run = add_run(driver, "run")
    jobs.finish([0, 0, 1])
    remove_nodes(slicer.mrmlScene, [run.samples[1]])
    at_rest(driver)
    assert len(jobs.modes) == 2 and len(jobs.modes[-1][0].arguments["masks"]) == 2
    jobs.finish([0, 1])
    to_ras = writer_of(slicer.mrmlScene, driver.run).to_ras
    replace_mask(driver.run.samples[0], "sample_01", Crop.of(np.ones(PLAIN.shape, bool)), to_ras)
    driver.widget.enter()  # from the Segment Editor
    at_rest(driver)
    assert len(jobs.modes) == 3


def test_what_cannot_be_found_is_asked_for_once_and_says_why(driver, jobs):
    first = add_run(driver, "first")
    jobs.fail("The worker has crashed.")
    for _ in range(2):
        driver.widget.enter()
        at_rest(driver)
    assert len(jobs.modes) == 1 and driver.ui.modesLabel.text == "The worker has crashed."
    cut_to(driver, 0.4)
    assert len(jobs.modes) == 2
    jobs.finish([0, 0, 1])
    assert "crashed" not in driver.ui.modesLabel.text
    add_run(driver, "second")
    jobs.fail("No memory.")
    driver.select(first)
    at_rest(driver)
    assert driver.ui.modesLabel.text.startswith("2 distinct")


def test_nothing_is_asked_while_the_worker_samples_or_the_module_is_left(driver, jobs):
    driver.widget.parent._entered = False
    add_run(driver, "run")
    driver.widget.parent._entered, driver.widget.context.generating = True, True
    driver.widget.enter()
    cut_to(driver, 0.4)
    assert jobs.modes == []
    driver.widget.context.generating = False
    driver.widget.enter()
    at_rest(driver)
    assert len(jobs.modes) == 1


def test_a_scene_that_is_opened_shows_its_modes_and_asks_for_none(driver, jobs, slicer_host, tmp_path, monkeypatch):
    add_run(driver, "run")
    cut_to(driver, 0.35)
    jobs.finish([0, 0, 1])
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer_host.unload_all()
    slicer_host.new_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True, None)
    started = []
    monkeypatch.setattr("AmbiguousSegBridge.worker.client.WorkerRunner.start", lambda *of: started.append(of[1].kind))
    opened = Driver(slicer_host, tmp_path / "temporary")
    at_rest(opened)
    assert row_count(opened) == 2 and opened.ui.modeCutSlider.value == 0.35
    assert opened.ui.modesLabel.text.startswith("2 distinct") and "modes" not in started


def test_without_the_packages_no_worker_is_started(driver, jobs, monkeypatch):
    first = add_run(driver, "first")
    jobs.finish([0, 0, 1])
    monkeypatch.setattr(packages, "torch_missing", lambda: True)
    driver.widget.enter()
    assert driver.ui.modesLabel.text == "2 distinct hypotheses; frequencies are shares of the samples."
    add_run(driver, "second")
    assert driver.ui.modesLabel.text == "Finding modes needs packages that are not installed yet."
    driver.select(first)
    cut_to(driver, 0.3)
    assert row_count(driver) == 2 and driver.ui.modesLabel.text.endswith("needs packages that are not installed yet.")
    assert len(jobs.modes) == 1
    monkeypatch.undo()
    driver.widget.context.runner = jobs
    driver.widget.enter()
    at_rest(driver)
    assert len(jobs.modes) == 2
