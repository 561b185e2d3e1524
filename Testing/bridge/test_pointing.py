"""A point in the scene, and borders that are refined: what becomes of them in the request to the worker and the run."""

from __future__ import annotations

import json

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from AmbiguousSegBridge.generation import Events, Generation, Settings, more_of, request_of, sample_job  # noqa: E402
from AmbiguousSegBridge.scene.grid import point_of  # noqa: E402
from AmbiguousSegBridge.scene.masks import crops_of  # noqa: E402
from AmbiguousSegBridge.scene.sample_sets import add_volume  # noqa: E402
from AmbiguousSegBridge.worker import jobs, report  # noqa: E402
from AmbiguousSegBridge.worker.messages import Sample  # noqa: E402
from SlicerHost.host import make_host  # noqa: E402
from tiny_models import tiny_model  # noqa: E402

from AmbiguousSegLib.description import read_description  # noqa: E402
from AmbiguousSegLib.diffusion.settings import SamplerSettings  # noqa: E402
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig  # noqa: E402
from AmbiguousSegLib.inference.point_sampling import Pointing  # noqa: E402
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume  # noqa: E402
from AmbiguousSegLib.model import load_model, save_model  # noqa: E402
from AmbiguousSegLib.volume.crops import Crop  # noqa: E402
from AmbiguousSegLib.volume.geometry import Geometry  # noqa: E402

GRID = Geometry((40, 36, 4), (1.0, 1.0, 2.0), (3.0, -4.0, 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
LPS = (20.0, 15.0, 9.0)
RAS = (-20.0, -15.0, 9.0)


class Runner:
    """Does a job when it is told to, in this process."""

    about = None

    def __init__(self, folder):
        self.folder, self.jobs = folder, []

    def start(self, job, listener):
        self.jobs.append((job, listener))
        return len(self.jobs)

    def work(self):
        job, listener = self.jobs[-1]
        for name, array in job.arrays.items():
            np.save(self.folder / name, array)
        progress = []

        def send(message):
            if isinstance(message, Sample):
                listener.sample(message.index, Crop.load(self.folder / message.mask.file, vars(message.mask)))
            else:
                progress.append(vars(message))

        arguments, told = json.loads(json.dumps(job.arguments)), report.Report(1, self.folder, send, bool)
        for _ in listener.finished(jobs.do("sample", arguments, self.folder, told), None):
            pass
        return progress


@pytest.fixture
def scene():
    return make_host()


@pytest.fixture
def model(tmp_path):
    save_model(tiny_model(spacing_mm=1.0), tmp_path / "model")
    return read_description(tmp_path / "model")


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.random.default_rng(0).random(GRID.shape, dtype=np.float32), GRID, "scan")


def test_a_place_of_the_scene_in_the_volumes_own_coordinates(scene, volume):
    """Turned by 90° and moved by (10, 20, 30) in RAS: (x, y, z) lies at (10 − y, 20 + x, 30 + z)."""
    assert point_of(RAS, volume) == pytest.approx(LPS)
    transform, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.DeepCopy((0, -1, 0, 10, 1, 0, 0, 20, 0, 0, 1, 30, 0, 0, 0, 1))
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert point_of((10 + 15, 20 - 20, 9 + 30), volume) == pytest.approx(LPS)


def test_the_request_names_point_and_window_and_refuses_at_once_what_cannot_be(volume, model):
    job = sample_job(Settings(model, (volume,), 2, point=RAS, window_mm=20.0, grow_window=True))
    assert job.arguments["pointing"] == {"point_mm": list(LPS), "window_mm": 20.0, "grow": True}
    assert sample_job(Settings(model, (volume,), 2)).arguments["pointing"] is None
    for settings, message in (
        ({"point": LPS}, "with the signs of x and y turned it would lie inside"),
        ({"point": RAS, "slice_range": (0, 1)}, "A point chooses slices and region by itself"),
        ({"point": RAS, "window_mm": 3.0}, "at least as large as the model's field of view, 16 mm"),
        ({"window_mm": 30.0}, "A window belongs to a point"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_job(Settings(model, (volume,), 2, **settings))


def test_a_run_around_a_point_and_more_of_it(scene, volume, model, tmp_path, monkeypatch):
    """What arrives is what the library draws; more of it is drawn in the window that the run ended with."""
    monkeypatch.setattr(report, "PROGRESS_EVERY_S", -1)
    ended, runner = [], Runner(tmp_path)
    events = Events(ended=lambda run, failure: ended.append((run, failure)))
    settings = Settings(model, (volume,), 2, seed=3, point=RAS, grow_window=True)
    Generation(scene, runner, settings, events)
    progress = runner.work()
    run, failure = ended[-1]
    assert failure is None and run.provenance["window"]["tried_mm"] == [[16, 16], [24, 24], [32, 32], [36, 40]]
    voxels = np.random.default_rng(0).random(GRID.shape, dtype=np.float32)[None]
    sampler = runner.jobs[0][0].arguments["sampler"]
    loaded = load_model(model.folder)

    def expected(**changes):
        request = SampleRequest(2, seed=3, sampler=SamplerSettings.from_json(sampler), **changes)
        return sample_volume(loaded, voxels, GRID, request).masks

    assert np.array_equal(
        np.stack([crop.full() for crop in crops_of(run)]), expected(pointing=Pointing(LPS, grow=True))
    )
    shares = [told["share"] for told in progress]
    assert shares == sorted(shares) and shares[-1] == 1
    assert all(told["slices"] == 4 and 0 <= told["slices_done"] <= 4 for told in progress)
    assert progress[-1]["slices_done"] == 4

    Generation(scene, runner, more_of(run, 2, "cpu"), events, extends=run)
    arguments = runner.jobs[-1][0].arguments
    assert arguments["pointing"] == {"point_mm": list(LPS), "window_mm": 48.0, "grow": False}
    assert arguments["first_sample"] == 2
    runner.work()
    run, failure = ended[-1]
    assert failure is None and len(run.samples) == 4
    masks = np.stack([crop.full() for crop in crops_of(run)])
    assert np.array_equal(masks[2:], expected(first_sample=2, pointing=Pointing(LPS, 48.0)))


def test_borders_are_refined_where_that_is_asked_for(scene, volume, model, tmp_path):
    """What arrives is what the library refines; more of it is refined the same way; unasked, nothing says so."""
    refine, ended, runner = DenseCRFConfig(w1=4.0, iterations=2), [], Runner(tmp_path)
    events = Events(ended=lambda run, failure: ended.append((run, failure)))
    Generation(scene, runner, Settings(model, (volume,), 2, seed=3, refine=refine), events)
    assert runner.jobs[0][0].arguments["refine"] == vars(refine)
    runner.work()
    run, failure = ended[-1]
    assert failure is None and run.provenance["refinement"] == {"name": "dense-crf", **vars(refine)}
    voxels = np.random.default_rng(0).random(GRID.shape, dtype=np.float32)[None]
    sampler = SamplerSettings.from_json(runner.jobs[0][0].arguments["sampler"])
    request = SampleRequest(4, seed=3, sampler=sampler, refine=refine)
    expected = sample_volume(load_model(model.folder), voxels, GRID, request).masks
    assert np.array_equal(np.stack([crop.full() for crop in crops_of(run)]), expected[:2])
    assert request_of(run)["refine"] == vars(refine)
    more = more_of(run, 2, "cpu")
    assert more.refine == refine
    Generation(scene, runner, more, events, extends=run)
    runner.work()
    assert np.array_equal(np.stack([crop.full() for crop in crops_of(ended[-1][0])]), expected)

    Generation(scene, runner, Settings(model, (volume,), 2, seed=3), events)
    assert runner.jobs[-1][0].arguments["refine"] is None
    runner.work()
    plain = ended[-1][0]
    assert "refine" not in request_of(plain) and "refinement" not in plain.provenance
    assert more_of(plain, 2, "cpu").refine is None
