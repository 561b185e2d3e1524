"""What goes wrong with the worker process: each ends in one message, and leaves nothing."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from AmbiguousSegBridge.worker import arrays as job_arrays
from AmbiguousSegBridge.worker.runner import Job, Listener
from SlicerHost import lifecycle
from SlicerHost.processes import alive
from worker_driver import FAULTY, HERE, begin, do, ended, posix_only, until_progress

SAMPLE = '{"type":"sample","job":1,"index":0,"mask":{"file":"NAME","start":[0,0,0],"shape":[1,1,1]}}\n'
READY = '{"type":"ready","protocol":2,"pid":PID,"python":"","torch":"","devices":[],"device_note":""}\n'


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
        ('{"type":"progress","job":1}\n', "progress.share"),
        ('{"type":"progress","job":1,"share":NaN}\n', "share must be from 0 to 1"),
        ('{"type":"progress","job":true,"share":0.5}\n', "progress.job must be int"),
        ('{"type":"progress","job":1,"share":0.5,"cheer":1}\n', "Unknown key progress.cheer"),
        ('{"type":"progress","job":1,"share":0.5}\n', None),  # a message like any other
        (SAMPLE.replace("NAME", "none.npy"), "none.npy"),
        (SAMPLE.replace("NAME", "../none.npy"), "'../none.npy'"),
        ('{"type":"finished","job":77,"result":{}}\n', "job 77"),
        ('{"type":"finished","job":1}\n', "finished.result"),
        ('{"type":"finished","job":1,"result":[]}\n', "finished.result must be a mapping"),
        ('{"type":"dances","job":1}\n', "dances"),
        ('{"type":"failed","job":null,"failure":{"kind":"internal"},"fatal":true}\n', "failed.failure.message"),
        ('{"type":"ready","protocol":2}\n', "Missing key ready."),
        (READY.replace("PID", "-1"), "pid must be that of a process"),
        (READY.replace("PID", "12345"), "ready again"),  # somebody else's, which must not be killed
        ("\xff\xfe\n", "got: "),
        ("[" * 100_000 + "\n", "got: [[["),
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


@pytest.mark.parametrize(("package", "remedy"), [("torch", "PyTorch Utils"), ("safetensors", "pip install")])
def test_a_missing_package(make_runner, tmp_path_factory, package, remedy):
    shim = tmp_path_factory.mktemp("shim")
    (shim / "sitecustomize.py").write_text(
        f"import sys\nclass Hide:\n def find_spec(self, name, *_):\n  if name == {package!r}:\n"
        f"   raise ModuleNotFoundError('No module named ' + repr(name), name=name)\nsys.meta_path.insert(0, Hide())\n",
        encoding="utf-8",
    )
    places = os.pathsep.join([str(shim), os.environ.get("PYTHONPATH", "")])
    runner = make_runner(script=None, environment={"PYTHONPATH": places})
    heard, waiting = begin(runner, "answers"), begin(runner, "answers")
    ended(heard, waiting)
    for failure in (heard.failure, waiting.failure):
        assert failure.kind == "missing_package" and f"No module named '{package}'" in failure.message
        assert remedy in failure.remedy and "Traceback" in failure.details


@pytest.mark.parametrize(
    ("error", "values", "kind", "message"),
    [
        ("torch", [], "out_of_memory", "The GPU has not enough memory (20.00 GiB more were asked for); nothing was"),
        ("MemoryError", [], "out_of_memory", "memory"),
        ("RuntimeError", ["DefaultCPUAllocator: not enough memory: you tried"], "out_of_memory", "This computer has"),
        ("ValueError", ["The seed is odd."], "bad_input", "The seed is odd."),
        ("FileNotFoundError", ["No such thing."], "bad_input", "No such thing."),
        ("OSError", [errno.ENOSPC, "No space left on device"], "bad_input", "no space left on device"),
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
    assert failure.kind == "device" and runner.about["pid"] != pid and not alive(pid)


def test_a_result_that_cannot_be_told_is_a_failure_and_the_worker_stays(make_runner):
    runner = make_runner()
    failure, pid = fails(runner, "tells_nothing_plain")
    assert failure.kind == "internal" and "float32" in failure.message and runner.about["pid"] == pid


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
    write = job_arrays.write

    def full(folder, arrays):
        yield from write(folder, arrays)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_arrays, "write", full)
    heard = do(runner, "sums", {}, {"a.npy": np.zeros(10)})
    assert heard.failure.kind == "bad_input" and "No space left" in heard.failure.message and heard.failure.remedy
    monkeypatch.setattr(job_arrays, "write", write)
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
