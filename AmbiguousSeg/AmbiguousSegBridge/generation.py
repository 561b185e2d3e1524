"""One press of the button: what is asked of the runner, and what becomes of its answers in the scene."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import slicer

from AmbiguousSegBridge.scene.fit import input_warnings
from AmbiguousSegBridge.scene.grid import channel_arrays
from AmbiguousSegBridge.scene.live_run import LiveRun
from AmbiguousSegBridge.scene.masks import mask_ids
from AmbiguousSegBridge.scene.run_node import CHANNELS, REQUEST, ROLE, refer, references, sample_index
from AmbiguousSegBridge.scene.runs import Run, find_runs, unique_run_name
from AmbiguousSegBridge.settings import Settings, sample_job
from AmbiguousSegBridge.worker.runner import Failure, Listener, Runner, Steps
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.description import ModelDescription, read_description
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.quality import Quality
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.crops import Crop

log = logging.getLogger(__name__)


def _log_failure(_run: Run | None, failure: Failure | None) -> None:
    if failure is not None:
        log.error("%s %s", failure.message, failure.remedy)


@dataclass(frozen=True)
class Events:
    """Whom a generation tells what happens; ``ended`` is called once, last. By default a failure is logged."""

    progress: Callable[[dict[str, Any]], None] = lambda _progress: None
    sample: Callable[[slicer.vtkMRMLSegmentationNode], None] = lambda _node: None
    ended: Callable[[Run | None, Failure | None], None] = _log_failure


def more_of(run: Run, samples: int, device: str) -> Settings:
    """Settings that add samples to a run; region and point are not among them, ``Generation`` takes them from the run.

    They are sampled as the run's were, whatever its quality stands for by now.

    Raises:
        ValueError: the run does not say how it was made, or its model or volumes are not here any more.
    """
    request = request_of(run)
    try:
        model = read_description(find_model(request["model"]))
    except (OSError, ValueError) as error:
        raise ValueError(f"The model of run {run.name!r} is not here: {error}") from error
    if model.weights_sha256 != request["weights_sha256"]:
        raise ValueError(f"The model in {model.folder} is not the one that made run {run.name!r}. Start a new run.")
    volumes = tuple(references(run.node, CHANNELS))
    if len(volumes) != len(model.channels):
        raise ValueError(f"A volume that run {run.name!r} was made of is no longer in the scene. Start a new run.")
    slices, sampler = request["slice_range"], request["sampler"]
    return Settings(
        model,
        volumes,
        samples,
        Quality(request["quality"]),
        request["seed"],
        device,
        slice_range=slices and tuple(slices),
        sampler=sampler and SamplerSettings.from_json(sampler),
        refine=from_dict(DenseCRFConfig, refine, "refine") if (refine := request.get("refine")) else None,
    )


def request_of(run: Run) -> dict[str, Any]:
    """What a run was asked for; ValueError if it does not say (it was not made by the module's button)."""
    text = run.node.GetAttribute(REQUEST)
    if not text:
        raise ValueError(f"Run {run.name!r} does not say how it was made. Start a new run.")
    return json.loads(text)


def _pointing_of(run: Run) -> dict[str, Any] | None:
    """What a run pointed at, with the window that it was sampled in."""
    pointing, window = request_of(run).get("pointing"), run.provenance.get("window")
    if pointing is None or window is None:
        return pointing
    return {**pointing, "window_mm": min(window.get("asked_mm", window["size_mm"])), "grow": False}


class Generation:
    """Samples from the runner into the scene. Started by the constructor; over when ``Events.ended`` was called.

    A run of the same input and the same request is replaced when all samples are there, unless something would be lost
    with it: further samples, edited masks, segments that were added, a comparison with raters. Otherwise a run is made
    beside it. Cancelled or failed, the samples already shown stay, with maps over just these.

    Args:
        extends: run to add to: its settings, from ``more_of``, are to be given.
        consensus_threshold: share of samples above which the consensus takes a voxel, where there is one class; with
            several it has no meaning.

    Attributes:
        warnings: in what the volumes differ from what the model was trained on, sentences for the user.

    Raises:
        ValueError: as ``sample_job``, or the mask of a sample of ``extends`` was removed; nothing was started then.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        runner: Runner,
        settings: Settings,
        events: Events,
        extends: Run | None = None,
        consensus_threshold: float | None = None,
    ) -> None:
        self._runner, self._settings, self._events = runner, settings, events
        self._abandoned = False
        labels = settings.model.labels
        self._threshold = consensus_threshold if len(labels) == 1 else None
        for node in () if extends is None else extends.samples:
            mask_ids(node, extends.labels)  # the maps are to be made of all of them
        first = 0 if extends is None else 1 + max((sample_index(node) for node in extends.samples), default=-1)
        job = sample_job(settings, first)
        if extends is not None:
            part = {"region": request_of(extends)["region"], "pointing": _pointing_of(extends)}
            job = replace(job, arguments={**job.arguments, **part})
        self._request = {
            "model": _model_name(settings.model),
            "weights_sha256": settings.model.weights_sha256,
            "quality": settings.quality.value,
            **{key: job.arguments[key] for key in ("seed", "sampler", "slice_range", "region")},
            **{key: job.arguments[key] for key in ("pointing", "refine") if job.arguments[key] is not None},
            "channels": [volume.GetName() for volume in settings.volumes],
        }
        volume = settings.volumes[0]
        name = extends.name if extends is not None else self._run_name(scene, volume)
        _, geometry = channel_arrays([volume])
        self._run = LiveRun(scene, geometry, name, volume, labels=labels, extends=extends)
        region = job.arguments["region"]
        box = None if region is None else (tuple(region[0]), tuple(region[1]))
        self.warnings = input_warnings(settings.model, settings.volumes, box)
        self._provenance = {"seed": settings.seed, "model": {"name": settings.model.card.name}, "complete": False}
        self._provenance["input_warnings"] = self.warnings
        listener = Listener(
            progress=events.progress,
            sample=self._on_sample,
            finished=lambda result, _folder: self._end(result["provenance"]),
            failed=lambda failure: self._end(None, failure),
            cancelled=lambda: self._end(None),
        )
        self._number = runner.start(job, listener)

    @property
    def samples(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Nodes of those that have arrived and are still in the scene."""
        return self._run.samples

    def cancel(self) -> None:
        """Stop soon; ``Events.ended`` tells when."""
        self._runner.cancel(self._number)

    def abandon(self) -> None:
        """The scene is about to be closed: keep nothing of this run. To be followed by the runner's ``stop``."""
        self._abandoned = True

    def _run_name(self, scene: slicer.vtkMRMLScene, volume: slicer.vtkMRMLScalarVolumeNode) -> str:
        """Name of the run that the same request has made of the input, and that can go; else a name of its own."""
        for run in find_runs(scene):
            same = run.input is volume and run.node.GetAttribute(REQUEST) == self._request_text()
            fewer = all(sample_index(node) < self._settings.samples for node in run.samples)
            if same and fewer and not run.bears_work:
                return run.name
        return unique_run_name(scene, f"{volume.GetName()} {self._settings.lesion or 'samples'}", volume)

    def _request_text(self) -> str:
        return json.dumps(self._request, sort_keys=True)

    def _on_sample(self, index: int, crop: Crop) -> None:
        self._events.sample(self._run.add(index, crop))

    def _end(self, provenance: dict[str, Any] | None, failure: Failure | None = None) -> Steps:
        run = None
        try:
            for _ in self._run.prepare(self._threshold):
                if self._abandoned:
                    break
                yield
            run = self._close(provenance)
            yield  # showing it takes its time, too
        except Exception as error:  # whatever was done to the scene meanwhile, the end must be told
            log.exception("The run could not be completed")
            self._run.discard()
            failure = failure or Failure("internal", f"The samples could not be kept: {error}", "Generate them again.")
        self._events.ended(None if self._abandoned else run, failure)

    def _close(self, provenance: dict[str, Any] | None) -> Run | None:
        """Make a run of what has arrived; ``provenance`` only if that is everything."""
        run = None
        if self._abandoned:
            self._run.discard()
        elif provenance is None or not self._run.samples:  # or the user deleted all of them on the way
            run = self._run.stop(self._provenance, self._threshold)
        else:
            run = self._run.complete(provenance, self._threshold, keep_different=True)
        if run is not None and self._run.samples:
            run.node.SetAttribute(REQUEST, self._request_text())
            refer(run.node, CHANNELS, self._settings.volumes)
        return run


def sample_name(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Name of a run's sample in tables, such as "sample 03"; it counts from 1."""
    return node.GetAttribute(ROLE)


def _model_name(model: ModelDescription) -> str:
    """What finds the model again: the name of a bundled one, which holds on any computer, or its folder."""
    try:
        bundled = find_model(model.folder.name) == model.folder
    except FileNotFoundError:
        bundled = False
    return model.folder.name if bundled else str(Path(model.folder).resolve())
