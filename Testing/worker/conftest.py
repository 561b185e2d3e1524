"""Runners, of which nothing may be left after a test: no process, no folder, no exception that nobody saw."""

from __future__ import annotations

import tempfile

import pytest
from AmbiguousSegBridge.worker.messages import Ready
from SlicerHost import errors, lifecycle, qt
from SlicerHost.processes import alive
from tiny_models import tiny_model
from worker_driver import FAULTY, QUICK, WorkerRunner

from AmbiguousSegLib.model import save_model


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
    runners, pids, hear = [], [], WorkerRunner._hear

    def note(runner, message, crop):
        pids.extend([message.pid] if isinstance(message, Ready) else [])
        return hear(runner, message, crop)

    monkeypatch.setattr(WorkerRunner, "_hear", note)
    monkeypatch.setattr("AmbiguousSegBridge.worker.link.STOP_MS", 60_000)  # killed, it could not clear up

    def make(script=FAULTY, environment=QUICK, **options):
        options = {"patience_ms": 10**6} | options  # a machine under load is no worker that hangs
        runner = WorkerRunner(script=script, environment=environment, **options)
        runners.append(runner)
        return runner

    yield make
    errors.check()
    for runner in runners:
        runner.stop()
    lifecycle.process_events(lambda: not any(map(alive, pids)))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_model(), folder)
    return folder
