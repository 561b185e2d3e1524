"""What the worker can do. Only the worker process calls this: the library and PyTorch are loaded inside the functions.

A job is a function of its arguments, its private folder, and a ``Report``; it returns plain JSON types.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from AmbiguousSegBridge.worker.arguments import Comparing, Exporting, Grouping, Sampling
from AmbiguousSegBridge.worker.messages import MaskFile
from AmbiguousSegBridge.worker.report import Report, mask_file
from AmbiguousSegLib.boxes import Box
from AmbiguousSegLib.configuration import from_dict, to_dict
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.npy_file import read_npy

if TYPE_CHECKING:
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest
    from AmbiguousSegLib.model import Model
    from AmbiguousSegLib.volume.geometry import Geometry

ROUNDING = 1e-6  # of a slice


class LoadedModel:
    """The model used last stays loaded, until its files change, or another model or device is asked for."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._model: Model | None = None

    def get(self, folder: str, device: str) -> Model:
        """Raises as ``load_model``; ValueError for a device that is not here."""
        from AmbiguousSegLib.description import DESCRIPTION_FILE, WEIGHTS_FILE
        from AmbiguousSegLib.devices import choose_device
        from AmbiguousSegLib.model import load_model

        chosen = choose_device(device)
        paths = [Path(folder).resolve() / name for name in (DESCRIPTION_FILE, WEIGHTS_FILE)]
        states = [(path, *((s := path.stat()).st_size, s.st_mtime_ns)) for path in paths if path.exists()]
        key = (str(chosen), *states)
        if self._model is None or key != self._key:
            self._model = None  # the memory of one model at a time
            gc.collect()
            self._model = load_model(folder, chosen)
            self._key = key
        return self._model


_loaded = LoadedModel()


def sample(arguments: Sampling, folder: Path, report: Report) -> dict[str, Any]:
    """Samples, handed over one by one. Returns "provenance" of the ``SampleSet``, and "labels"."""
    from AmbiguousSegLib.inference.estimate import without_voxels
    from AmbiguousSegLib.inference.volume_sampling import sample_volume

    report.check()
    model, geometry = _loaded.get(arguments.model, arguments.device), arguments.geometry
    request = _request(arguments, model)
    stored = _channels(folder, arguments.channels, geometry)
    slices = len(without_voxels(model, geometry, request).slice_indices)
    rows = slices if request.pointing else slices * request.samples  # around a point all samples go slice by slice
    report.check()
    volume = np.empty((len(stored), *geometry.shape), np.float32)
    for channel, values in zip(volume, stored):  # no channel is in memory a second time
        channel[...] = values
    samples_done, first = 0, None

    def on_progress(share: float) -> None:
        nonlocal first
        now = time.monotonic()
        first = first or (now, share)  # the first evaluation is slower than the others
        pace = (share - first[1]) / (now - first[0]) if now > first[0] else 0
        report.progress(
            share,
            seconds_left=(1 - share) / pace if pace > 0 else None,
            slices_done=min(slices, max(0, int(share * rows + ROUNDING) - samples_done * slices)),
            slices=slices,
            samples_done=samples_done,
            samples=request.samples,
        )

    def on_sample(number: int, mask: np.ndarray) -> None:
        nonlocal samples_done
        samples_done += 1
        report.sample(number, Crop.of(mask))

    kind = {"modality": arguments.modality, "picture": arguments.picture}
    done = sample_volume(model, volume, geometry, request, on_progress, on_sample, **kind)
    return {"provenance": done.provenance, "labels": [to_dict(label) for label in model.labels]}


def estimate(arguments: Sampling, _folder: Path, report: Report) -> dict[str, Any]:
    """Time and memory of a job "sample"; the fields of ``estimate.Estimate``."""
    from AmbiguousSegLib.inference import estimate as estimation

    report.check()
    model = _loaded.get(arguments.model, arguments.device)
    return to_dict(estimation.estimate(model, arguments.geometry, _request(arguments, model), report.check))


def modes(arguments: Grouping, folder: Path, report: Report) -> dict[str, Any]:
    """Groups of similar masks. Returns the parts of ``Modes``, and "iou" of all pairs."""
    from AmbiguousSegLib.ensemble.modes import find_modes
    from AmbiguousSegLib.metrics.overlap import pairwise_label_iou

    crops = _crops(folder, arguments.masks)
    masks = stack(crops, _box(crops))
    report.check()
    iou = pairwise_label_iou(masks, masks, arguments.classes)
    found = find_modes(iou, arguments.cut)
    return {
        "labels": found.labels.tolist(),
        "frequencies": found.frequencies.tolist(),
        "intervals": found.intervals().tolist(),
        "representatives": found.representatives.tolist(),
        "cut": float(found.cut),
        "iou": iou.tolist(),
    }


def compare(arguments: Comparing, folder: Path, report: Report) -> dict[str, Any]:
    """Samples against raters. Returns "tables" by key, and "fused": the parts of a ``MaskFile``, and "name"."""
    from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters

    samples, raters = _crops(folder, arguments.samples), _crops(folder, arguments.raters)
    box = _box([*samples, *raters], margin=1)
    start = [span.start for span in box]
    found = compare_with_raters(
        stack(samples, box),
        stack(raters, box),
        arguments.geometry,
        arguments.rater_names,
        arguments.sample_names,
        labels=arguments.labels,
        box_start=tuple(start),
        on_progress=report.progress,
    )
    fused = []
    for number, (name, mask) in enumerate(found.fused.items()):
        crop = Crop.of(mask).placed(start, arguments.geometry.shape)
        fused.append({"name": name, **to_dict(mask_file(folder, f"fused_{number}.npy", crop))})
    return {"tables": {key: table.as_dict() for key, table in found.tables.items()}, "fused": fused}


def export(arguments: Exporting, folder: Path, report: Report) -> dict[str, Any]:
    """Masks and maps as files for other programs. Returns "files", the paths written, and "notes" for the user."""
    from AmbiguousSegLib.outputs.export_formats import export_masks

    masks, notes = arguments.masks, []
    crops = _crops(folder, masks)
    report.check()
    files = export_masks(
        Path(arguments.folder),
        arguments.form,
        [(mask.stem, mask.title, crop.full()) for mask, crop in zip(masks, crops)],
        {name: np.array(read_npy(folder / file)) for name, file in arguments.maps.items()},
        arguments.geometry,
        arguments.labels,
        [Path(file) for file in arguments.source_files],
        arguments.model_name,
        arguments.overwrite,
        notes.append,
        lambda _name: report.check(),
    )
    return {"files": [str(file) for file in files], "notes": notes}


JOBS: dict[str, tuple[type, Callable[[Any, Path, Report], dict[str, Any]]]] = {
    "sample": (Sampling, sample),
    "estimate": (Sampling, estimate),
    "modes": (Grouping, modes),
    "compare": (Comparing, compare),
    "export": (Exporting, export),
}


def do(kind: str, arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """The result of a job, whose arguments are as JSON has them; ValueError for what no job understands."""
    if kind not in JOBS:
        raise ValueError(f"Unknown job {kind!r}; known: {', '.join(JOBS)}.")
    given, function = JOBS[kind]
    try:
        typed = from_dict(given, arguments, "")
    except ValueError as error:
        raise ValueError(f"{error} Restart Slicer, so that all its parts are of one version.") from error
    return function(typed, folder, report)


def _request(arguments: Sampling, model: Model) -> SampleRequest:
    from AmbiguousSegLib.diffusion.settings import SamplerSettings
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest

    return SampleRequest(
        arguments.samples,
        first_sample=arguments.first_sample,
        seed=arguments.seed,
        sampler=SamplerSettings.from_json(arguments.sampler) if arguments.sampler else model.sampling,
        slice_range=arguments.slice_range,
        region=arguments.region,
        pointing=arguments.pointing,
        refine=arguments.refine,
    )


def _channels(folder: Path, files: Sequence[str], geometry: Geometry) -> list[np.ndarray]:
    """Arrays of the grid's shape, not yet read."""
    channels = [read_npy(folder / file) for file in files]
    for file, stored in zip(files, channels):
        if stored.shape != geometry.shape:
            raise ValueError(f"Channel {file} of shape {stored.shape} does not fit a grid of shape {geometry.shape}.")
    return channels


def _crops(folder: Path, masks: Sequence[MaskFile]) -> list[Crop]:
    return [Crop.load(folder / mask.file, vars(mask)) for mask in masks]


def _box(crops: Sequence[Crop], margin: int = 0) -> Box:
    """Box that holds all crops, and ``margin`` voxels around as far as the grid reaches; a voxel if all are empty."""
    if len({crop.shape for crop in crops}) != 1:
        raise ValueError(f"Masks of one grid are needed, got grids {sorted({crop.shape for crop in crops})}.")
    box = joint_box(crops) or (slice(0, 1),) * 3
    return tuple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, crops[0].shape))
