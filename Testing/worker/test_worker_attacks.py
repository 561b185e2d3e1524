"""Whatever stands in the worker's input, it ends cleanly, and removes nothing that its client has not made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from AmbiguousSegBridge.worker import job_folder, messages
from AmbiguousSegBridge.worker.job_folder import OWNER, PREFIX, JobFolder
from AmbiguousSegBridge.worker.messages import Folder, Start
from worker_driver import FAULTY, QUICK, posix_only

from AmbiguousSegLib.locks import only_one


def told(temporary, data: bytes) -> tuple[int, str]:
    """Exit code and log of a worker that reads this and then the end of its input."""
    command = [sys.executable, str(FAULTY), str(temporary)]
    run = subprocess.run(command, input=data, env={**os.environ, **QUICK}, capture_output=True, timeout=300)
    return run.returncode, run.stderr.decode("utf-8", "replace")


GARBAGE = {
    "text": b"hello\n",
    "half a line": b'{"type":"cancel","jo',
    "an unknown type": b'{"type":"dance"}\n',
    "a key left out": b'{"type":"cancel"}\n',
    "a number that is text": b'{"type":"cancel","job":"1"}\n',
    "a message of the other side": b'{"type":"cancelled","job":1}\n',
    "a job without folder": messages.encode(Start(1, "waits", {})),
    "brackets": b"[" * 10**6 + b"\n",
    "no text": bytes(range(256)) * 10 + b"\n",
    "a line of 100 MB": b"x" * 10**8 + b"\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_a_worker_that_is_told_garbage_ends_without_a_traceback(tmp_path, data):
    code, log = told(tmp_path, data)
    assert code == 2 and "Standard input cannot be understood" in log and "Traceback" not in log


@pytest.mark.parametrize("data", [b"", b'{"type":"cancel","job":1}\n'])
def test_end_of_input_ends_the_worker(tmp_path, data):
    assert told(tmp_path, data)[0] == 0


def test_only_folders_of_the_client_are_taken(tmp_path):
    temporary, elsewhere = tmp_path / "temporary", tmp_path / f"{PREFIX}elsewhere"
    for folder in (temporary / "other", temporary / f"{PREFIX}1" / "inner", elsewhere):
        folder.mkdir(parents=True)
        (folder / OWNER).write_text("", encoding="utf-8")
    paths = ["", ".", "/", "a\0b", str(temporary), f"{temporary}/other", str(elsewhere), f"{temporary}/{PREFIX}1/inner"]
    paths += [f"{temporary}/../{PREFIX}elsewhere", f"{temporary}/{PREFIX}1/../../{PREFIX}elsewhere"]
    if os.name == "posix":
        (temporary / f"{PREFIX}link").symlink_to(elsewhere)
        paths.append(f"{temporary}/{PREFIX}link")
    for path in paths:
        with pytest.raises(ValueError, match=f"Expected a folder {PREFIX}… of this program"):
            job_folder.checked(path, temporary)
    code, log = told(temporary, messages.encode(Folder(1, paths[-1])))
    assert code == 2 and (elsewhere / OWNER).exists() and "Traceback" not in log
    assert job_folder.checked(f"{temporary}/{PREFIX}1", temporary) == (temporary / f"{PREFIX}1").resolve()


def test_the_worker_removes_a_folder_whose_client_has_died_before_it_was_ready(tmp_path):
    folder = tmp_path / f"{PREFIX}1"
    folder.mkdir()
    (folder / OWNER).write_text("", encoding="utf-8")
    (folder / "a.npy").write_bytes(b"half a file")
    assert told(tmp_path, messages.encode(Folder(1, str(folder))))[0] == 0 and not folder.exists()


def test_folders_of_dead_processes_are_swept_and_no_others(folder_of_folders):
    code = "import sys, os\nfrom AmbiguousSegBridge.worker.job_folder import JobFolder\nimport tempfile\n"
    code += "tempfile.tempdir = sys.argv[1]\nkept = JobFolder()\nprint(kept.path)\nsys.stdout.flush()\nos._exit(9)"
    places = os.pathsep.join([str(FAULTY.parents[2] / "AmbiguousSeg"), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, "-c", code, str(folder_of_folders)], {**os.environ, "PYTHONPATH": places}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    dead = Path(run.stdout.strip())
    living, unknown = JobFolder(), folder_of_folders / f"{PREFIX}unknown"
    unknown.mkdir()  # of an earlier version, or of a process that has not locked it yet
    assert dead.is_dir()
    job_folder.sweep(folder_of_folders)
    assert not dead.exists() and living.path.is_dir() and (living.path / OWNER).exists() and unknown.is_dir()
    with pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()} on"), only_one(living.path, OWNER):
        pass
    living.remove()
    unknown.rmdir()


@posix_only
def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(folder_of_folders, monkeypatch):
    tries = []

    def swept_once(folder, file):
        tries.append(folder)
        if len(tries) == 1:
            raise BlockingIOError("a sweep has it")
        return only_one(folder, file)

    monkeypatch.setattr(job_folder, "only_one", swept_once)
    folder = JobFolder()
    assert len(tries) == 2 and not tries[0].exists() and folder.path == tries[1]
    folder.remove()
