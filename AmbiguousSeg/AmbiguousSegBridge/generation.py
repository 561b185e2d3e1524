"""One press of the button: what is asked of the runner, and what becomes of its answers in the scene."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import slicer

from AmbiguousSegBridge.scene.fit import input_warnings, kind_of
from AmbiguousSegBridge.scene.grid import channel_arrays, point_of, region_of
from AmbiguousSegBridge.scene.identity import ATTRIBUTE, ROLE, sample_index
from AmbiguousSegBridge.scene.live_run import LiveRun
from AmbiguousSegBridge.scene.runs import Run, find_runs, mask_ids, unique_run_name
from AmbiguousSegBridge.scene.tables import COMPARISON
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener, Runner, Steps
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.description import ModelDescription, read_description
from AmbiguousSegLib.diffusion.settings import SamplerSettings
from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
from AmbiguousSegLib.inference.point_sampling import Pointing
from AmbiguousSegLib.quality import Quality, sampler_of
from AmbiguousSegLib.resources import find_model
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry, SliceAxes

log = logging.getLogger(__name__)

REQUEST = ATTRIBUTE + "Request"  # on the mean map: what a run was asked for, so that more of it can be asked


@dataclass(frozen=True)
class Settings:
    """What to sample.

    Attributes:
        model: description of the model.
        volumes: one scalar volume node per channel of the model, in its order.
        samples: how many.
        region: box outside of which nothing is marked; None: the whole volume.
        slice_range: first and last slice, both included, along the model's plane; None: all.
        point: in place of both: a place in the lesion, as the scene has it (RAS mm), around which the model's field of
            view is sampled, slice by slice outward until no sample goes on.
        window_mm, grow_window: how much is looked at around it, see ``Pointing``.
        lesion: what is pointed at, by name; the run is named after it.
        device: "auto", or a device by its torch name.
        sampler: None: what the quality stands for.
        refine: by what the border of each sample is moved to that of the image; None: nothing does.
    """

    model: ModelDescription
    volumes: tuple[slicer.vtkMRMLScalarVolumeNode, ...]
    samples: int = 8
    quality: Quality = Quality.FAST
    seed: int = 0
    device: str = "auto"
    region: slicer.vtkMRMLMarkupsROINode | None = None
    slice_range: tuple[int, int] | None = None
    sampler: SamplerSettings | None = None
    point: tuple[float, float, float] | None = None
    window_mm: float | None = None
    grow_window: bool = False
    lesion: str = ""
    refine: DenseCRFConfig | None = None

    def pointing(self, geometry: Geometry) -> Pointing | None:
        """What is pointed at in the first volume, on its grid; ValueError where it cannot be sampled."""
        if self.point is None:
            if self.window_mm is not None or self.grow_window:
                raise ValueError("A window belongs to a point. Give a point, too.")
            return None
        pointing = Pointing(point_of(self.point, self.volumes[0]), self.window_mm, self.grow_window)
        pointing.check_alone(self.slice_range, self.region)
        pointing.likely_slices(self.model.preprocessing, geometry)
        return pointing

    def sampler_argument(self) -> dict[str, Any] | None:
        """Sampler in plain JSON types; None for a model that does not sample by steps."""
        model = self.model
        own = sampler_of(self.quality, model.training_steps, model.qualities, model.sampler_family)
        chosen = self.sampler or own
        return None if chosen is None else asdict(chosen)


def _log_failure(_run: Run | None, failure: Failure | None) -> None:
    if failure is not None:
        log.error("%s %s", failure.message, failure.remedy)


@dataclass(frozen=True)
class Events:
    """Whom a generation tells what happens; ``ended`` is called once, last. By default a failure is logged."""

    progress: Callable[[dict[str, Any]], None] = lambda _progress: None
    sample: Callable[[slicer.vtkMRMLSegmentationNode], None] = lambda _node: None
    ended: Callable[[Run | None, Failure | None], None] = _log_failure


def slice_count(model: ModelDescription, volume: slicer.vtkMRMLScalarVolumeNode) -> int:
    """Slices of a volume along the model's plane."""
    geometry = channel_arrays([volume])[1]
    return SliceAxes.of(geometry, model.plane).of_index(geometry.size)[0]


def sample_job(settings: Settings, first_sample: int = 0, kind: str = "sample") -> Job:
    """Job that samples (or, by ``kind``, estimates) what the settings say.

    Raises:
        ValueError: volumes, region or point that do not fit, in one line.
    """
    wanted = len(settings.model.channels)
    if len(settings.volumes) != wanted or None in settings.volumes:
        raise ValueError(
            f"The model reads {wanted} volume(s) ({', '.join(settings.model.channels)}), "
            f"{sum(volume is not None for volume in settings.volumes)} chosen. Choose one for each channel."
        )
    gone = [volume.GetName() for volume in settings.volumes if volume.GetScene() is None]
    if gone:
        raise ValueError(f"The volume {', '.join(gone)} is no longer in the scene. Choose one that is.")
    arrays, geometry = channel_arrays(settings.volumes)
    files = [f"channel_{number}.npy" for number in range(len(arrays))]
    region = None if settings.region is None else region_of(settings.region, settings.volumes[0])
    modality, picture = kind_of(settings.volumes)
    arguments = {
        "model": str(settings.model.folder),
        "device": settings.device,
        "channels": files,
        "geometry": asdict(geometry),
        "samples": settings.samples,
        "first_sample": first_sample,
        "seed": settings.seed,
        "sampler": settings.sampler_argument(),
        "slice_range": None if settings.slice_range is None else list(settings.slice_range),
        "region": None if region is None else [list(corner) for corner in region],
        "pointing": None if (pointing := settings.pointing(geometry)) is None else asdict(pointing),
        "refine": None if settings.refine is None else asdict(settings.refine),
        "modality": modality,
        "picture": picture,
    }
    plain = json.loads(json.dumps(arguments))  # tuples become the lists that the worker would see
    return Job(kind, plain, dict(zip(files, arrays)) if kind == "sample" else {})


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
    volumes = tuple(run.mean.GetNodeReference(_channel(number)) for number in range(len(model.channels)))
    if None in volumes:
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
    text = run.mean.GetAttribute(REQUEST) if run.mean is not None else None
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
            asked = run.mean.GetAttribute(REQUEST) if run.mean is not None else None
            if (
                run.input is volume
                and asked == self._request_text()
                and all(sample_index(node) < self._settings.samples for node in run.samples)
                and not any(role.startswith(COMPARISON) for role in run.tables)
            ):
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
            run.mean.SetAttribute(REQUEST, self._request_text())
            for number, volume in enumerate(self._settings.volumes):
                run.mean.SetNodeReferenceID(_channel(number), volume.GetID())
        return run


def sample_name(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Name of a run's sample in tables, such as "sample 03"; it counts from 1."""
    return node.GetAttribute(ROLE)


def _channel(number: int) -> str:
    return f"{ATTRIBUTE}Channel{number + 1}"


def _model_name(model: ModelDescription) -> str:
    """What finds the model again: the name of a bundled one, which holds on any computer, or its folder."""
    try:
        bundled = find_model(model.folder.name) == model.folder
    except FileNotFoundError:
        bundled = False
    return model.folder.name if bundled else str(Path(model.folder).resolve())
