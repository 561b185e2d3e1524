"""The worker process and its runner, with real processes: what is done, and everything that can go wrong.

After each test nothing may be left: no process, no folder, no exception that nobody saw.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from AmbiguousSegBridge import job_folder, messages
from AmbiguousSegBridge.runner import Job, Listener, crops_argument
from SlicerHost import errors, lifecycle, qt
from SlicerHost.processes import alive
from tiny_models import tiny_model

from AmbiguousSegLib.model import load_model, save_model
from AmbiguousSegLib.sampling.volume import SampleRequest, sample_volume
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry

with pytest.MonkeyPatch.context() as patch:  # the runner needs no more of Slicer than this
    patch.setitem(sys.modules, "qt", qt)
    from AmbiguousSegBridge.worker_process import WorkerRunner

HERE = Path(__file__).resolve().parent
FAULTY = HERE / "faulty_worker.py"
QUICK = {"FAULTS": "quick"}
GRID = Geometry((16, 16, 6), (1.0, 1.0, 2.0), (3.0, -4.0, 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
CHANNEL = (np.random.default_rng(0).random((6, 16, 16)) > 0.5).astype(np.int16)
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs signals")


class Heard:
    """A listener that keeps everything; ``steps`` gives what it returns when it hears of the end."""

    def __init__(self, on_progress=lambda _heard: None, steps=lambda _heard: None) -> None:
        self.progress, self.samples, self.endings = [], [], []
        self.on_progress, self.steps, self.started = on_progress, steps, False
        self.listener = Listener(self._progress, self._sample, self._finished, self._failed, self._cancelled)

    def _progress(self, progress):
        self.progress.append(progress)
        self.on_progress(self)

    def _sample(self, index, crop):
        self.samples.append((index, crop))

    def _finished(self, result, folder):
        self.end("finished", result, folder)
        if "file" in result:
            self.file = np.load(folder / result["file"])
        self.folder = folder
        return self.steps(self)

    def _failed(self, failure):
        self.end("failed", failure)
        return self.steps(self)

    def _cancelled(self):
        self.end("cancelled")
        return self.steps(self)

    def end(self, *ending):
        assert self.started, "told from inside start()"
        self.endings.append(ending)

    @property
    def ending(self) -> str:
        assert len(self.endings) == 1
        return self.endings[0][0]

    @property
    def failure(self):
        assert self.ending == "failed", self.endings
        return self.endings[0][1]

    @property
    def result(self):
        assert self.ending == "finished", self.endings
        return self.endings[0][1]


def begin(runner, kind, arguments=None, arrays=None, **options) -> Heard:
    heard = Heard(**options)
    heard.number = runner.start(Job(kind, arguments or {}, arrays or {}), heard.listener)
    heard.started = True
    return heard


def ended(*heard):
    lifecycle.process_events(lambda: all(h.endings for h in heard), 120)


def do(runner, *arguments, **options) -> Heard:
    heard = begin(runner, *arguments, **options)
    ended(heard)
    return heard


def until_progress(heard, count=1):
    lifecycle.process_events(lambda: len(heard.progress) >= count or heard.endings, 120)
    assert not heard.endings


@pytest.fixture(scope="module", autouse=True)
def application():
    """Qt's; it is made once per process."""
    return qt.QApplication.instance() or qt.QApplication(["Slicer"])


@pytest.fixture
def folder_of_folders(tmp_path, monkeypatch):
    """Where private folders are made; empty at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def make_runner(folder_of_folders, monkeypatch):
    """Makes runners; at the end none of the workers that they ever had, and no folder, is left."""
    runners, pids, meaning = [], [], WorkerRunner._meaning

    def note(runner, message):
        pids.extend([message["pid"]] if message["type"] == "ready" and "pid" in message else [])
        return meaning(runner, message)

    monkeypatch.setattr(WorkerRunner, "_meaning", note)

    def make(script=FAULTY, environment=QUICK, **options):
        runner = WorkerRunner(script=script, environment=environment, **options)
        runners.append(runner)
        return runner

    yield make
    errors.check()
    for runner in runners:
        runner.stop()
    lifecycle.process_events(lambda: not any(map(alive, pids)), 30)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model(), folder)
    return folder


def sampling(model_folder, **changes) -> dict:
    arguments = {
        "model": str(model_folder),
        "device": "cpu",
        "channels": ["ct.npy"],
        "geometry": {key: list(value) for key, value in asdict(GRID).items()},
        "samples": 3,
        "first_sample": 0,
        "seed": 5,
        "sampler": None,
        "slice_range": None,
        "region": None,
    }
    return {**arguments, **changes}


def for_ever(model_folder) -> dict:
    """Sampling that takes minutes, in steps of milliseconds."""
    return sampling(model_folder, samples=200, sampler={"name": "ddpm", "steps": 1000})


def masks_of(heard) -> np.ndarray:
    assert heard.ending == "finished", heard.endings
    return np.stack([crop.full() for _, crop in heard.samples])


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
    assert first.result["label"]["name"] == "lesion" and len(first.result["label"]["color"]) == 3
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
    monkeypatch.setattr(job_folder, "SLAB_BYTES", 1000)
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
        for _ in job_folder.write(tmp_path, {"a.npy": given}):
            sizes.append((tmp_path / "a.npy").stat().st_size)
        assert 5 <= len(sizes) <= 7 and max(np.diff(sizes)) <= job_folder.SLAB_BYTES
        assert np.array_equal(np.load(tmp_path / "a.npy"), given)


@pytest.mark.parametrize("name, array", [("../a", np.zeros(1)), ("", np.zeros(1)), ("a", np.array([None]))])
def test_unsafe_arrays_are_refused(make_runner, name, array):
    with pytest.raises(ValueError, match="file names with plain arrays"):
        make_runner().start(Job("sums", {}, {name: array}), Listener())


def test_crops_as_arguments_are_read_again(tmp_path):
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 1:3] = True
    crops = [Crop.of(mask), Crop.of(~mask), Crop.of(np.zeros_like(mask))]
    entries, arrays = crops_argument("mask", crops)
    for _ in job_folder.write(tmp_path, arrays):
        pass
    read = [Crop.load(tmp_path / entry["file"], entry) for entry in entries]
    assert all(np.array_equal(crop.full(), wanted) for crop, wanted in zip(read, [mask, ~mask, np.zeros_like(mask)]))


def test_what_libraries_print_is_no_message(make_runner):
    runner = make_runner()
    assert do(runner, "prints").result == {"read": ""}
    assert do(runner, "answers").ending == "finished"


# What a listener has still to do when a job has ended.

ENDS = {
    "finished": ("answers", {}),
    "failed": ("raises", {"error": "ValueError", "values": []}),
    "cancelled": ("waits", {}),
}


def until(condition):
    """Steps that are done until something else has made it true."""
    for _ in range(100_000):
        if condition():
            return
        yield
    raise AssertionError("nothing else has happened between the steps")


def end_with(runner, ending, steps) -> Heard:
    """A job that has ended in this way, and whose listener has that to do; the steps are not waited for."""
    heard = begin(runner, *ENDS[ending], steps=steps)
    if ending == "cancelled":
        until_progress(heard)
        runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == ending
    return heard


@pytest.mark.parametrize("ending", ENDS)
def test_the_steps_of_an_ending_are_done_between_other_events(make_runner, folder_of_folders, ending):
    runner, folders = make_runner(), []

    def steps(heard):
        for _ in range(3):
            fired = []
            qt.QTimer.singleShot(0, lambda fired=fired: fired.append(True))
            yield from until(lambda fired=fired: fired)
            runner.cancel(heard.number)  # which comes too late
            folders.append(len(list(folder_of_folders.iterdir())))

    heard = end_with(runner, ending, steps)
    lifecycle.process_events(lambda: list(folder_of_folders.iterdir()) == [])
    assert folders == [1, 1, 1] and heard.ending == ending
    assert do(runner, "answers").ending == "finished"


def test_another_job_goes_on_between_the_steps_of_an_ending(make_runner):
    runner, done = make_runner(), []
    running = begin(runner, "waits")
    until_progress(running)

    def steps(_heard):
        for _ in range(3):
            told = len(running.progress)
            yield from until(lambda told=told: len(running.progress) > told)
        done.append(True)

    dropped = begin(runner, "answers", steps=steps)
    runner.cancel(dropped.number)
    lifecycle.process_events(lambda: done)
    assert dropped.ending == "cancelled" and not running.endings
    runner.cancel(running.number)
    ended(running)
    assert running.ending == "cancelled"


def test_files_stay_until_the_last_step(make_runner, folder_of_folders):
    runner, sums = make_runner(), []

    def steps(heard):
        for _ in range(4):
            yield
            sums.append(int(np.load(heard.folder / heard.result["file"]).sum()))

    heard = end_with(runner, "finished", steps)
    lifecycle.process_events(lambda: not heard.folder.exists())
    assert sums == [3, 3, 3, 3] and list(folder_of_folders.iterdir()) == []


@pytest.mark.parametrize("ending", ENDS)
def test_a_step_that_raises_leaves_everything_in_order(make_runner, folder_of_folders, ending):
    runner, seen = make_runner(), []

    def broken(_heard):
        yield from until(lambda: "go" in seen)
        seen.append("raised")
        raise ZeroDivisionError("in a step")

    end_with(runner, ending, broken)
    seen.append("go")
    following = begin(runner, "answers", steps=lambda _heard: (seen.append("next") for _ in range(2)))
    with pytest.raises(errors.StandInError, match="ZeroDivisionError: in a step"):
        lifecycle.process_events(lambda: following.endings)
    lifecycle.process_events(lambda: following.endings and list(folder_of_folders.iterdir()) == [])
    assert following.ending == "finished" and seen == ["go", "raised", "next", "next"]


@pytest.mark.parametrize("ending", ENDS)
def test_stop_does_the_rest_of_an_ending_at_once(make_runner, folder_of_folders, ending):
    runner, seen = make_runner(), []

    def steps(_heard):
        seen.append("step")
        yield from until(lambda: "stop" in seen)
        for _ in range(3):
            seen.append(len(list(folder_of_folders.iterdir())))
            yield

    heard = end_with(runner, ending, steps)
    waiting = begin(runner, "answers", steps=lambda _heard: (seen.append("waiting") for _ in range(2)))
    lifecycle.process_events(lambda: seen)
    pid = runner.about["pid"]
    seen.append("stop")
    runner.stop()
    assert seen[seen.index("stop") :] == ["stop", 1, 1, 1, "waiting", "waiting"]
    assert list(folder_of_folders.iterdir()) == [] and not alive(pid)
    assert (heard.ending, waiting.ending) == (ending, "cancelled")
    assert do(runner, "answers").ending == "finished"


@pytest.mark.parametrize("kind, arguments", [("answers", {}), ("exits", {"code": 1})])
@pytest.mark.parametrize("at", [0, 1])
def test_stop_from_inside_an_ending(make_runner, folder_of_folders, kind, arguments, at):
    """As the end is told, or in a step; with a worker, and when it has gone by itself."""
    runner, seen = make_runner(), []

    def rest():
        for number in range(1, 4):
            if number == at:
                runner.stop()
            seen.append(number)
            yield

    def steps(_heard):
        if at == 0:
            runner.stop()
        return rest()

    begin(runner, kind, arguments, steps=steps)
    lifecycle.process_events(lambda: seen == [1, 2, 3] and list(folder_of_folders.iterdir()) == [])


def test_a_step_that_raises_while_it_is_stopped_takes_no_other_along(make_runner, folder_of_folders):
    runner, seen = make_runner(), []

    def broken(_heard):
        yield from until(lambda: seen)
        raise ZeroDivisionError("in a step")

    end_with(runner, "finished", broken)
    waiting = begin(runner, "answers")
    seen.append("stop")
    with pytest.raises(ZeroDivisionError):
        runner.stop()
    assert waiting.ending == "cancelled" and list(folder_of_folders.iterdir()) == []
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
    monkeypatch.setattr(job_folder, "SLAB_BYTES", 100)
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
        heard.started, meaning = True, runner._meaning

        def late(message, heard=heard, meaning=meaning, runner=runner):
            if message["type"] == "finished":
                runner.cancel(heard.number)
            return meaning(message)

        runner._meaning = late
        ended(heard)
        assert heard.ending == ending


def test_twenty_cancels_in_a_row_at_random_moments(make_runner, model_folder, folder_of_folders, monkeypatch):
    monkeypatch.setattr(job_folder, "SLAB_BYTES", 500)
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


# What goes wrong.


def fails(runner, kind, *arguments) -> tuple:
    """The failure, and the worker before it; the next job must find everything fresh."""
    heard = do(runner, kind, *arguments)
    pid = (runner.about or {}).get("pid")
    assert do(runner, "answers").ending == "finished"
    assert len(heard.endings) == 1
    return heard.failure, pid


@pytest.mark.parametrize("script", [FAULTY, HERE / "launcher.py"])
@pytest.mark.parametrize("code", [0, 1, 3, 139])
def test_a_worker_that_exits(make_runner, script, code):
    runner = make_runner(script=script)
    failure, pid = fails(runner, "exits", {"code": code})
    assert failure.kind == "crashed" and f"exit code {code}" in failure.message and failure.remedy
    assert failure.details.endswith("last words") and not alive(pid)


@posix_only
@pytest.mark.parametrize("script", [FAULTY, HERE / "launcher.py"])
def test_a_worker_that_crashes(make_runner, script):
    failure, pid = fails(make_runner(script=script), "segfaults")
    how = f"signal {int(signal.SIGSEGV)}" if script == FAULTY else "exit code 1"
    assert failure.kind == "crashed" and how in failure.message and not alive(pid)
    assert "Segmentation fault" in failure.details and "segfaults" in failure.details  # where it happened


@posix_only
@pytest.mark.parametrize("script", [FAULTY, HERE / "launcher.py"])
def test_a_worker_that_is_killed_from_outside(make_runner, script):
    runner = make_runner(script=script)
    heard, waiting = begin(runner, "waits"), begin(runner, "answers")
    until_progress(heard)
    pid = runner.about["pid"]
    os.kill(pid, signal.SIGKILL)
    ended(heard, waiting)
    assert heard.failure.kind == "killed" and "memory" in heard.failure.message and not alive(pid)
    assert waiting.ending == "finished"  # by a new worker


@posix_only
def test_an_idle_worker_that_is_killed_is_replaced(make_runner):
    runner = make_runner()
    do(runner, "answers")
    pid = runner.about["pid"]
    os.kill(pid, signal.SIGKILL)
    lifecycle.process_events(lambda: runner._worker is None)
    assert do(runner, "answers").ending == "finished" and runner.about["pid"] != pid


@posix_only
def test_a_worker_that_dies_while_it_is_cancelled(make_runner):
    runner = make_runner(patience_ms=10**6)
    heard = begin(runner, "hangs")
    until_progress(heard)
    runner.cancel(heard.number)
    os.kill(runner.about["pid"], signal.SIGKILL)
    ended(heard)
    assert heard.ending == "cancelled" and do(runner, "answers").ending == "finished"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Traceback: " + "x" * 500 + "\n", "Traceback: " + "x" * 189),
        ('{"type":"progress","job":1}\n', None),  # a listener would be given nothing
        ('{"type":"sample","job":1,"index":0,"file":"none.npy","start":[0,0,0],"shape":[1,1,1]}\n', "none.npy"),
        ('{"type":"finished","job":77,"result":{}}\n', "job 77"),
        ('{"type":"finished","job":1}\n', "'result'"),
        ('{"type":"dances","job":1}\n', "dances"),
        ('{"type":"error","kind":"internal"}\n', "'message'"),
        ('{"type":"ready","protocol":1}\n', "'pid'"),
        ("\xff\xfe\n", "got: "),
    ],
)
def test_a_worker_that_writes_garbage(make_runner, text, quoted):
    runner = make_runner()
    heard = begin(runner, "writes", {"bytes": text})
    if quoted is None:
        until_progress(heard, 2)
        runner.stop()
        return
    ended(heard)
    assert heard.failure.kind == "garbage" and quoted in heard.failure.message
    pid = runner.about["pid"]
    assert do(runner, "answers").ending == "finished" and runner.about["pid"] != pid and not alive(pid)


def test_garbage_before_the_worker_is_ready(make_runner):
    heard = do(make_runner(environment={"FAULTS": "garbage"}), "answers")
    assert heard.failure.kind == "garbage" and "Welcome to Python!" in heard.failure.message


def test_a_worker_of_another_version(make_runner):
    assert "version" in do(make_runner(environment={"FAULTS": "older"}), "answers").failure.message


@pytest.mark.parametrize("package, remedy", [("torch", "PyTorch Utils"), ("safetensors", "pip install")])
def test_a_missing_package(make_runner, tmp_path_factory, package, remedy):
    shim = tmp_path_factory.mktemp("shim")
    (shim / "sitecustomize.py").write_text(
        f"import sys\nclass Hide:\n def find_spec(self, name, *_):\n  if name == {package!r}:\n"
        f"   raise ModuleNotFoundError('No module named ' + repr(name), name=name)\nsys.meta_path.insert(0, Hide())\n",
        encoding="utf-8",
    )
    runner = make_runner(script=None, environment={"PYTHONPATH": str(shim)})
    heard, waiting = begin(runner, "answers"), begin(runner, "answers")
    ended(heard, waiting)
    for failure in (heard.failure, waiting.failure):
        assert failure.kind == "missing_package" and f"No module named '{package}'" in failure.message
        assert remedy in failure.remedy and "Traceback" in failure.details


@pytest.mark.parametrize(
    ("error", "values", "kind", "message"),
    [
        ("torch", [], "out_of_memory", "20.00 GiB"),
        ("MemoryError", [], "out_of_memory", "memory"),
        ("RuntimeError", ["DefaultCPUAllocator: not enough memory: you tried"], "out_of_memory", "DefaultCPU"),
        ("ValueError", ["The seed is odd."], "bad_input", "The seed is odd."),
        ("FileNotFoundError", ["No such thing."], "bad_input", "No such thing."),
        ("OSError", [errno.ENOSPC, "No space left on device"], "bad_input", "No space"),
        ("ImportError", ["No module named 'x'", "x"], "missing_package", "x"),
        ("ZeroDivisionError", ["division\nby zero"], "internal", "ZeroDivisionError: division"),
    ],
)
def test_a_job_that_raises(make_runner, error, values, kind, message):
    runner = make_runner()
    failure, pid = fails(runner, "raises", {"error": error, "values": values[:1] if error == "ImportError" else values})
    assert failure.kind == kind and message in failure.message and "\n" not in failure.message
    assert "Traceback" in failure.details and (failure.remedy or kind == "bad_input")
    assert runner.about["pid"] == pid  # the worker goes on


def test_a_lost_device_ends_the_worker(make_runner):
    runner = make_runner()
    failure, pid = fails(runner, "raises", {"error": "RuntimeError", "values": ["CUDA error: device-side assert"]})
    assert failure.kind == "internal" and runner.about["pid"] != pid and not alive(pid)


def test_an_unknown_job(make_runner):
    failure, _ = fails(make_runner(), "dance")
    assert failure.kind == "bad_input" and "Unknown job 'dance'" in failure.message and "sample" in failure.message


def test_an_interpreter_that_is_not_there(make_runner, tmp_path_factory):
    nowhere = tmp_path_factory.mktemp("none") / "python"
    runner = make_runner(python=nowhere)
    heard, waiting = begin(runner, "answers"), begin(runner, "answers")
    ended(heard, waiting)
    assert heard.failure.kind == waiting.failure.kind == "not_started" and str(nowhere) in heard.failure.message
    runner._python = Path(sys.executable)
    assert do(runner, "answers").ending == "finished"


def test_a_full_disk(make_runner, monkeypatch):
    runner = make_runner()
    write = job_folder.write

    def full(folder, arrays):
        yield from write(folder, arrays)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_folder, "write", full)
    heard = do(runner, "sums", {}, {"a.npy": np.zeros(10)})
    assert heard.failure.kind == "bad_input" and "No space left" in heard.failure.message and heard.failure.remedy
    monkeypatch.setattr(job_folder, "write", write)
    assert do(runner, "answers").ending == "finished"


def test_no_temporary_folder(make_runner, folder_of_folders, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder_of_folders / "none"))
    assert do(make_runner(), "answers").failure.kind == "bad_input"


def test_a_listener_that_raises_leaves_everything_in_order(make_runner):
    runner = make_runner()

    def broken(*_):
        raise ZeroDivisionError("in the panel")

    runner.start(Job("answers", {}), Listener(sample=broken, finished=broken))
    runner.start(Job("raises", {"error": "ValueError", "values": []}), Listener(failed=broken))
    number = runner.start(Job("waits", {}), Listener(cancelled=broken))
    runner.cancel(number)
    heard = begin(runner, "answers")
    seen = []
    while not heard.endings:
        try:
            lifecycle.process_events(lambda: heard.endings)
        except AssertionError as error:  # the stand-in's way to show what nobody caught
            seen.append(str(error))
    assert "\n".join(seen).count("ZeroDivisionError: in the panel") == 4


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
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as gui:
        pid = int(gui.stdout.readline())
        assert alive(pid) and len(list(folder_of_folders.iterdir())) == 1
        gui.kill()
    lifecycle.process_events(lambda: not alive(pid) or is_zombie(pid))


def test_the_worker_removes_a_folder_that_it_has_not_yet_heard_of(folder_of_folders):
    """The other side has died before the worker was ready: there is nobody to write to, but still something to read."""
    folder = folder_of_folders / "job"
    folder.mkdir()
    (folder / "a.npy").write_bytes(b"half a file")
    environment, pipe = {**os.environ, "FAULTS": "deaf"}, subprocess.PIPE
    with subprocess.Popen([sys.executable, str(FAULTY)], env=environment, stdin=pipe, stdout=pipe) as process:
        process.stdout.close()
        process.stdin.write(messages.encode({"type": "folder", "folder": str(folder)}))
    assert process.returncode == 0 and not folder.exists()


@pytest.mark.parametrize("line", [b"hello\n", b'{"type":"dance"}\n', b'{"type":"cancel"}\n'])
def test_a_worker_that_is_told_garbage_ends(line):
    environment, pipe = {**os.environ, **QUICK}, subprocess.PIPE
    command = [sys.executable, str(FAULTY)]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        process.stdin.write(line)
        process.stdin.flush()
        assert process.wait(60) == 2
        assert b"Expected messages" in process.stderr.read()


def is_zombie(pid) -> bool:
    """Dead, but not fetched by the container's first process, which is none of ours."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "Z"
