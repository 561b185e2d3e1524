"""A user of the runner: starts jobs with real worker processes, and hears everything."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from AmbiguousSegBridge.worker.runner import Job, Listener
from SlicerHost import lifecycle, qt

from AmbiguousSegLib.volume.geometry import Geometry

with pytest.MonkeyPatch.context() as patch:  # the runner needs no more of Slicer than this
    patch.setitem(sys.modules, "qt", qt)
    from AmbiguousSegBridge.worker.client import WorkerRunner  # noqa: F401

HERE = Path(__file__).resolve().parent / "worker"
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
    lifecycle.process_events(lambda: all(h.endings for h in heard))


def do(runner, *arguments, **options) -> Heard:
    heard = begin(runner, *arguments, **options)
    ended(heard)
    return heard


def until_progress(heard, count=1):
    lifecycle.process_events(lambda: len(heard.progress) >= count or heard.endings)
    assert not heard.endings


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
        "pointing": None,
        "refine": None,
        "region": None,
        "modality": "",
        "picture": False,
    }
    return {**arguments, **changes}


def for_ever(model_folder) -> dict:
    """Sampling that takes minutes, in steps of milliseconds."""
    return sampling(model_folder, samples=200, sampler={"name": "ddpm", "steps": 1000})


def masks_of(heard) -> np.ndarray:
    assert heard.ending == "finished", heard.endings
    return np.stack([crop.full() for _, crop in heard.samples])
