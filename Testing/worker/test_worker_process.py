"""The worker process and its runner, with real processes: what is done, what is cancelled, and what is left."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from AmbiguousSegBridge.worker import arrays as job_arrays
from AmbiguousSegBridge.worker import messages
from AmbiguousSegBridge.worker.runner import Job, Listener, crops_argument
from SlicerHost import lifecycle, qt
from SlicerHost.processes import alive
from worker_driver import (
    CHANNEL,
    FAULTY,
    GRID,
    HERE,
    QUICK,
    Heard,
    WorkerRunner,
    begin,
    do,
    ended,
    for_ever,
    masks_of,
    sampling,
    until_progress,
)

from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import load_model
from AmbiguousSegLib.volume.crops import Crop

# What is done.


def test_samples_are_those_of_the_library_and_more_can_follow(make_runner, model_folder):
    runner = make_runner(script=None, environment=None)
    assert runner.about is None
    arrays = {"ct.npy": CHANNEL}
    first = do(runner, "sample", sampling(model_folder), arrays)
    pid = runner.about["pid"]
    more = do(runner, "sample", sampling(model_folder, samples=2, first_sample=3), arrays)

    model, volume = load_model(model_folder), CHANNEL[None].astype(np.float32)
    expected = sample_volume(model, volume, GRID, SampleRequest(3, seed=5))
    expected_more = sample_volume(model, volume, GRID, SampleRequest(2, first_sample=3, seed=5))
    assert 0.02 < expected.masks.mean() < 0.98
    assert [index for index, _ in first.samples] == [0, 1, 2] and [index for index, _ in more.samples] == [3, 4]
    assert np.array_equal(masks_of(first), expected.masks)
    assert np.array_equal(masks_of(more), expected_more.masks)
    assert first.result["provenance"] == expected.provenance and more.result["provenance"]["first_sample"] == 3
    (label,) = first.result["labels"]
    assert label["name"] == "lesion" and len(label["color"]) == 3
    last = first.progress[-1]
    assert set(last) == {"share", "seconds_left", "slices_done", "slices", "samples_done", "samples"}
    assert (last["share"], last["slices"], last["samples"]) == (1.0, 6, 3)
    assert runner.about["pid"] == pid and alive(pid)  # the same process
    assert runner.about["devices"][0]["name"] == "cpu" and runner.about["torch"]

    estimated = do(runner, "estimate", sampling(model_folder, channels=[])).result
    assert estimated["slices"] == 6 and estimated["evaluations"] == 3 and estimated["seconds"] > 0

    missing = do(runner, "sample", sampling(model_folder / "elsewhere"), arrays).failure
    assert missing.kind == "bad_input" and "no model here" in missing.message
    unfit = do(runner, "sample", sampling(model_folder, slice_range=[2, 9]), arrays).failure
    assert unfit.kind == "bad_input" and "Slice range 2 to 9" in unfit.message and "\n" not in unfit.message
    assert runner.about["pid"] == pid and alive(pid)


def test_jobs_are_done_in_line(make_runner):
    runner, order = make_runner(), []
    jobs = [begin(runner, "answers") for _ in range(4)]
    for heard in jobs:
        heard._finished, end = None, heard.end
        heard.end = lambda *ending, number=heard.number, end=end: (order.append(number), end(*ending))
    assert not any(heard.endings for heard in jobs)
    ended(*jobs)
    assert order == sorted(order) and len({heard.number for heard in jobs}) == 4
    for heard in jobs:
        ((index, crop),) = heard.samples
        assert index == 7 and crop.start == (1, 2, 3) and crop.shape == (4, 5, 6) and crop.full().sum() == 2 * 1 * 3
        assert heard.file.tolist() == [0, 1, 2] and not heard.folder.exists()


def test_arrays_arrive_whatever_their_kind(make_runner, monkeypatch):
    monkeypatch.setattr(job_arrays, "SLAB_BYTES", 1000)
    random = np.random.default_rng(0)
    arrays = {
        "a.npy": random.integers(-1000, 1000, (5, 40, 30)).astype(np.int16),
        "b.npy": random.random((7, 11, 13)).astype(">f8"),
        "c.npy": np.asfortranarray(random.random((9, 8, 50), dtype=np.float32)),
        "d.npy": random.integers(0, 255, (20, 20, 20)).astype(np.uint8)[::2, ::-1, 3::4],
        "e.npy": random.random((12, 12)) > 0.5,
        "f.npy": np.zeros((0, 0, 0), bool),
        "g.npy": np.broadcast_to(np.float32(3), (100, 100)),
    }
    result = do(make_runner(), "sums", {}, arrays).result
    assert result == {
        name: [a.dtype.newbyteorder("=").str, list(a.shape), float(a.sum(dtype=np.float64))]
        for name, a in arrays.items()
    }


def test_arrays_are_written_in_slabs(tmp_path):
    array = np.arange(5 * 2**20, dtype=np.int16).reshape(5, 1024, 1024)  # 10 MiB
    for given in (array, array.transpose(2, 1, 0), array.astype(">i2")):
        sizes = []
        for _ in job_arrays.write(tmp_path, {"a.npy": given}):
            sizes.append((tmp_path / "a.npy").stat().st_size)
        assert 5 <= len(sizes) <= 7 and max(np.diff(sizes)) <= job_arrays.SLAB_BYTES
        assert np.array_equal(np.load(tmp_path / "a.npy"), given)


UNSAFE = [*((name, np.zeros(1)) for name in ("../a.npy", "", "/a.npy", "a\\b.npy", "c:a.npy", "owner.lock"))]
UNSAFE += [("a.npy", np.array([None]))]


@pytest.mark.parametrize(("name", "array"), UNSAFE)
def test_unsafe_arrays_are_refused(make_runner, name, array):
    with pytest.raises(
        ValueError, match="Expected (the name of a file in the job's folder|plain arrays for files .npy)"
    ):
        make_runner().start(Job("sums", {}, {name: array}), Listener())


def test_crops_as_arguments_are_read_again(tmp_path):
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 1:3] = True
    crops = [Crop.of(mask), Crop.of(~mask), Crop.of(np.zeros_like(mask))]
    entries, arrays = crops_argument("mask", crops)
    for _ in job_arrays.write(tmp_path, arrays):
        pass
    read = [Crop.load(tmp_path / entry["file"], entry) for entry in entries]
    assert all(np.array_equal(crop.full(), wanted) for crop, wanted in zip(read, [mask, ~mask, np.zeros_like(mask)]))


def test_what_libraries_print_is_no_message(make_runner):
    runner = make_runner()
    assert do(runner, "prints").result == {"read": ""}
    assert do(runner, "answers").ending == "finished"


# What is cancelled.


def test_a_running_job_is_cancelled_and_the_worker_stays(make_runner, model_folder):
    runner = make_runner(script=None, environment=None)
    heard = begin(runner, "sample", for_ever(model_folder), {"ct.npy": CHANNEL})
    until_progress(heard, 3)
    pid, told = runner.about["pid"], len(heard.progress)
    runner.cancel(heard.number)
    runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == "cancelled" and len(heard.progress) == told and alive(pid)
    assert heard.progress[2]["seconds_left"] > 0
    assert len(do(runner, "sample", sampling(model_folder), {"ct.npy": CHANNEL}).samples) == 3
    assert runner.about["pid"] == pid


def test_a_waiting_job_is_dropped(make_runner):
    runner = make_runner()
    first, second, third = begin(runner, "waits"), begin(runner, "answers"), begin(runner, "answers")
    until_progress(first)
    runner.cancel(second.number)
    ended(second)
    assert second.ending == "cancelled" and not first.endings and not third.endings
    runner.cancel(first.number)
    ended(first, third)
    assert (first.ending, third.ending, second.samples) == ("cancelled", "finished", [])


def test_a_job_that_has_ended_or_never_was_is_passed_over(make_runner):
    runner = make_runner()
    heard = do(runner, "answers")
    runner.cancel(heard.number)
    runner.cancel(99)
    assert do(runner, "answers").ending == heard.ending == "finished"


def test_cancel_before_anything_has_begun(make_runner):
    runner = make_runner()
    heard = begin(runner, "answers")
    runner.cancel(heard.number)
    assert not heard.endings
    ended(heard)
    assert heard.ending == "cancelled" and do(runner, "answers").ending == "finished"


def test_cancel_while_arrays_are_written(make_runner, folder_of_folders, monkeypatch):
    monkeypatch.setattr(job_arrays, "SLAB_BYTES", 100)
    runner = make_runner()
    heard = begin(runner, "sums", {}, {"a.npy": np.zeros(100_000)})
    lifecycle.process_events(lambda: any(p.stat().st_size > 0 for p in folder_of_folders.glob("*/a.npy")))
    runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == "cancelled" and do(runner, "answers").ending == "finished"


def test_cancel_while_the_worker_is_starting(make_runner):
    runner = make_runner(environment={"FAULTS": "stuck"}, patience_ms=50)
    heard = begin(runner, "answers")
    lifecycle.process_events(lambda: runner._worker is not None and runner._steps.active is False)
    runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == "cancelled"
    lifecycle.process_events(lambda: runner._worker is None)  # and the worker that never got ready is killed
    runner._environment = QUICK
    assert do(runner, "answers").ending == "finished"


@pytest.mark.parametrize("script", [FAULTY, HERE / "launcher.py"])
def test_a_worker_that_ignores_cancel_is_killed(make_runner, script):
    runner = make_runner(script=script, patience_ms=50)
    heard = begin(runner, "hangs")
    until_progress(heard)
    pid = runner.about["pid"]
    runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == "cancelled"
    lifecycle.process_events(lambda: not alive(pid))
    assert do(runner, "answers").ending == "finished" and runner.about["pid"] != pid


def test_a_worker_that_answered_while_this_process_was_busy_is_not_killed(make_runner):
    runner = make_runner(patience_ms=10**6)
    heard = begin(runner, "waits")
    until_progress(heard)
    pid = runner.about["pid"]
    runner.cancel(heard.number)
    waiting = begin(runner, "answers")
    runner._worker._process.waitForBytesWritten(5000)
    while not any(b"cancelled" in line for line in runner._worker.lines):
        assert runner._worker._process.waitForReadyRead(60_000)
    runner._on_patience()  # before anything was read
    ended(heard, waiting)
    assert heard.ending == "cancelled" and waiting.ending == "finished" and runner.about["pid"] == pid


def test_a_job_that_has_finished_is_not_called_cancelled_if_it_lasts(make_runner):
    for lasting, ending in ((True, "finished"), (False, "cancelled")):
        runner, heard = make_runner(), Heard()
        heard.number = runner.start(Job("answers", {}, lasting=lasting), heard.listener)
        heard.started, hear = True, runner._hear

        def late(message, crop, heard=heard, hear=hear, runner=runner):
            if isinstance(message, messages.Finished):
                runner.cancel(heard.number)
            return hear(message, crop)

        runner._hear = late
        ended(heard)
        assert heard.ending == ending


def test_twenty_cancels_in_a_row_at_random_moments(make_runner, model_folder, folder_of_folders, monkeypatch):
    monkeypatch.setattr(job_arrays, "SLAB_BYTES", 500)
    random = np.random.default_rng(0)
    runner, arrays = make_runner(script=None, environment=None), {"ct.npy": CHANNEL}
    assert do(runner, "dance").failure.kind == "bad_input"  # it has started
    heard_before = 0
    for turn in range(20):
        heard = begin(runner, "sample", for_ever(model_folder), arrays)
        if turn % 2:
            until_progress(heard, int(random.integers(1, 6)))
            heard_before += 1
        else:
            for _ in range(int(random.integers(0, 30))):
                qt.QApplication.processEvents()
        runner.cancel(heard.number)
        ended(heard)
        assert heard.ending == "cancelled" and list(folder_of_folders.iterdir()) == []
    assert heard_before == 10
    assert len(do(runner, "sample", sampling(model_folder), arrays).samples) == 3


# What is left when it is over.


@pytest.mark.parametrize("kind", ["waits", "hangs", "answers"])
def test_stop_ends_the_worker_and_all_jobs(make_runner, folder_of_folders, kind):
    runner = make_runner()
    first, second = begin(runner, kind), begin(runner, "answers")
    if kind == "answers":
        ended(first, second)
    else:
        until_progress(first)
    pid = runner.about["pid"]
    runner.stop()
    assert not alive(pid) and list(folder_of_folders.iterdir()) == []
    assert first.ending == second.ending == ("finished" if kind == "answers" else "cancelled")
    runner.stop()
    assert do(runner, "answers").ending == "finished"


def test_stop_leaves_nothing_half_written_for_the_user(make_runner, tmp_path):
    runner, out = make_runner(), tmp_path / "new" / "out"
    heard = begin(runner, "exports", {"folder": str(out)})
    until_progress(heard)
    assert [path.name for path in out.rglob("*.txt")] == ["first.txt"]
    runner.stop()
    assert heard.ending == "cancelled" and not out.parent.exists()


def test_stop_from_inside_a_listener(make_runner):
    runner = make_runner()
    heard = begin(runner, "waits", on_progress=lambda heard: runner.stop())
    ended(heard)
    assert heard.ending == "cancelled" and len(heard.progress) == 1


def test_a_runner_that_is_forgotten_ends_its_worker(folder_of_folders):
    runner = WorkerRunner(script=FAULTY, environment=QUICK)
    heard = begin(runner, "waits")
    until_progress(heard)
    pid = runner.about["pid"]
    del runner
    gc.collect()
    assert not alive(pid) and heard.ending == "cancelled"


@pytest.mark.parametrize("kind", ["hangs", "waits"])
def test_the_worker_ends_with_the_program_that_started_it(folder_of_folders, kind):
    """Which cannot say goodbye: it is killed, and its worker removes the folder."""
    paths = [HERE.parent, HERE.parents[1] / "AmbiguousSeg", HERE.parents[1]]
    places = {"TMPDIR": str(folder_of_folders), "TEMP": str(folder_of_folders)}
    environment = {**os.environ, **QUICK, **places, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, str(HERE / "dying_gui.py"), kind]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8") as gui:
        pid = int(gui.stdout.readline())
        assert alive(pid) and len(list(folder_of_folders.iterdir())) == 1
        gui.kill()
    lifecycle.process_events(lambda: not alive(pid) or is_zombie(pid))


def is_zombie(pid) -> bool:
    """Dead, but not fetched by the container's first process, which is none of ours."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "Z"
