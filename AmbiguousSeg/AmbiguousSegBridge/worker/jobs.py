"""What the worker can do. Only the worker process calls this: the library and PyTorch are loaded inside the functions.

A job is a function of its arguments (plain JSON types, see each), its private folder, and a ``Report``; it returns
plain JSON types. Masks come as entries {"file", "start", "shape"} that ``runner.crops_argument`` makes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from AmbiguousSegBridge.worker.report import Report
from AmbiguousSegLib.boxes import Box
from AmbiguousSegLib.volume.crops import Crop, joint_box, stack
from AmbiguousSegLib.volume.npy_file import read_npy

if TYPE_CHECKING:
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest
    from AmbiguousSegLib.model import Model
    from AmbiguousSegLib.volume.geometry import Geometry

ROUNDING = 1e-6  # of a slice

Arguments = Mapping[str, Any]


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


def sample(arguments: Arguments, folder: Path, report: Report) -> dict[str, Any]:
    """Samples, handed over one by one.

    Arguments: "model" (folder), "device" ("auto", "cpu", "cuda:0" …), "channels" (files ``(Z, Y, X)`` of real
    numbers), "geometry", "samples", "first_sample", "seed", "sampler" ({"name", "steps", "grid", "options"}, null: the
    model's own), "slice_range" ([first, last] or null), "region" ([[x, y, z], [x, y, z]] in LPS mm, or null),
    "pointing" (in place of both: {"point_mm": [x, y, z] in LPS mm, "window_mm": its size or null, "grow"}, or null),
    "refine" (fields of ``DenseCRFConfig``, or null: the masks as they are drawn),
    "modality" (as DICOM names it, or empty), "picture" (whether it does not tell the size of its pixels).

    Returns "provenance" of the ``SampleSet``, and "labels" ({"name", "color", "terminology"} each).
    """
    from AmbiguousSegLib.configuration import to_dict
    from AmbiguousSegLib.inference.estimate import without_voxels
    from AmbiguousSegLib.inference.volume_sampling import sample_volume

    report.check()
    model, geometry = _loaded.get(arguments["model"], arguments["device"]), _geometry(arguments)
    request = _request(arguments, model)
    stored = _channels(folder, arguments["channels"], geometry)
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

    kind = {"modality": arguments["modality"], "picture": arguments["picture"]}
    done = sample_volume(model, volume, geometry, request, on_progress, on_sample, **kind)
    return {"provenance": done.provenance, "labels": [to_dict(label) for label in model.labels]}


def estimate(arguments: Arguments, _folder: Path, report: Report) -> dict[str, Any]:
    """Time and memory of a job "sample"; its arguments, without the files.

    Returns "seconds", "seconds_per_sample", "memory_bytes", "slices", "evaluations", "device".
    """
    from AmbiguousSegLib.configuration import to_dict
    from AmbiguousSegLib.inference import estimate as estimation

    report.check()
    model = _loaded.get(arguments["model"], arguments["device"])
    return to_dict(estimation.estimate(model, _geometry(arguments), _request(arguments, model), report.check))


def modes(arguments: Arguments, folder: Path, report: Report) -> dict[str, Any]:
    """Groups of similar masks. Arguments: "masks", "classes" (how many), "cut".

    Returns the parts of ``Modes``, and "iou" of all pairs.
    """
    from AmbiguousSegLib.ensemble.modes import find_modes
    from AmbiguousSegLib.metrics.overlap import pairwise_label_iou

    crops = _crops(folder, arguments["masks"])
    masks = stack(crops, _box(crops))
    report.check()
    iou = pairwise_label_iou(masks, masks, arguments["classes"])
    found = find_modes(iou, arguments["cut"])
    return {
        "labels": found.labels.tolist(),
        "frequencies": found.frequencies.tolist(),
        "intervals": found.intervals().tolist(),
        "representatives": found.representatives.tolist(),
        "cut": float(found.cut),
        "iou": iou.tolist(),
    }


def compare(arguments: Arguments, folder: Path, report: Report) -> dict[str, Any]:
    """Samples against raters. Arguments: "samples" and "raters" (masks), "sample_names", "rater_names",
    "labels" (names of the classes), "geometry".

    Returns "tables" by key, and "fused": entries {"name", "file", "start", "shape"}.
    """
    from AmbiguousSegLib.evaluation.rater_comparison import compare_with_raters

    labels = arguments["labels"]
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise ValueError(f"labels must be a list of the names of the classes, got {labels!r}.")
    samples, raters = _crops(folder, arguments["samples"]), _crops(folder, arguments["raters"])
    box = _box([*samples, *raters], margin=1)
    found = compare_with_raters(
        stack(samples, box),
        stack(raters, box),
        _geometry(arguments),
        arguments["rater_names"],
        arguments["sample_names"],
        labels=labels,
        box_start=tuple(span.start for span in box),
        on_progress=report.progress,
    )
    fused = []
    for number, (name, mask) in enumerate(found.fused.items()):
        file = f"fused_{number}.npy"
        crop = Crop.of(mask).placed([span.start for span in box], _geometry(arguments).shape)
        fused.append({"name": name, "file": file, **crop.save(folder / file)})
    return {"tables": {key: table.as_dict() for key, table in found.tables.items()}, "fused": fused}


def export(arguments: Arguments, folder: Path, report: Report) -> dict[str, Any]:
    """Masks and maps as files for other programs.

    Arguments: "masks" (each with "stem" and "title" besides), "maps" (file by name), "geometry", "folder" (where to),
    "form" (in FORMATS), "labels" ({"name", "color", "terminology"} each), "source_files", "model_name", "overwrite".

    Returns "files", the paths written, and "notes", sentences for the user.
    """
    from AmbiguousSegLib.configuration import from_dict
    from AmbiguousSegLib.labels import Label
    from AmbiguousSegLib.outputs.export_formats import export_masks

    entries, notes = arguments["masks"], []
    crops = _crops(folder, entries)
    report.check()
    files = export_masks(
        Path(arguments["folder"]),
        arguments["form"],
        [(entry["stem"], entry["title"], crop.full()) for entry, crop in zip(entries, crops)],
        {name: np.array(read_npy(folder / file)) for name, file in arguments["maps"].items()},
        _geometry(arguments),
        [from_dict(Label, label, "labels") for label in arguments["labels"]],
        [Path(file) for file in arguments["source_files"]],
        arguments["model_name"],
        arguments["overwrite"],
        notes.append,
        lambda _name: report.check(),
    )
    return {"files": [str(file) for file in files], "notes": notes}


JOBS: dict[str, Callable[[Arguments, Path, Report], dict[str, Any]]] = {
    "sample": sample,
    "estimate": estimate,
    "modes": modes,
    "compare": compare,
    "export": export,
}


def _geometry(arguments: Arguments) -> Geometry:
    from AmbiguousSegLib.configuration import from_dict
    from AmbiguousSegLib.volume.geometry import Geometry

    return from_dict(Geometry, arguments["geometry"], "geometry")


def _request(arguments: Arguments, model: Model) -> SampleRequest:
    from AmbiguousSegLib.configuration import from_dict
    from AmbiguousSegLib.diffusion.settings import SamplerSettings
    from AmbiguousSegLib.ensemble.refinement import DenseCRFConfig
    from AmbiguousSegLib.inference.point_sampling import Pointing
    from AmbiguousSegLib.inference.volume_sampling import SampleRequest

    sampler, slices, region = (arguments[key] for key in ("sampler", "slice_range", "region"))
    pointing, refine = arguments["pointing"], arguments["refine"]
    return SampleRequest(
        arguments["samples"],
        first_sample=arguments["first_sample"],
        seed=arguments["seed"],
        sampler=SamplerSettings.from_json(sampler) if sampler else model.sampling,
        slice_range=None if slices is None else tuple(slices),
        region=None if region is None else tuple(tuple(corner) for corner in region),
        pointing=None if pointing is None else from_dict(Pointing, pointing, "pointing"),
        refine=None if refine is None else from_dict(DenseCRFConfig, refine, "refine"),
    )


def _channels(folder: Path, files: Sequence[str], geometry: Geometry) -> list[np.ndarray]:
    """Arrays of the grid's shape, not yet read."""
    channels = [read_npy(folder / file) for file in files]
    for file, stored in zip(files, channels):
        if stored.shape != geometry.shape:
            raise ValueError(f"Channel {file} of shape {stored.shape} does not fit a grid of shape {geometry.shape}.")
    return channels


def _crops(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[Crop]:
    return [Crop.load(folder / entry["file"], entry) for entry in entries]


def _box(crops: Sequence[Crop], margin: int = 0) -> Box:
    """Box that holds all crops, and ``margin`` voxels around as far as the grid reaches; a voxel if all are empty."""
    if len({crop.shape for crop in crops}) != 1:
        raise ValueError(f"Masks of one grid are needed, got grids {sorted({crop.shape for crop in crops})}.")
    box = joint_box(crops) or (slice(0, 1),) * 3
    return tuple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, crops[0].shape))
