"""One case of a study: read, sampled, written, and judged."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.ensemble.fusion import with_fusion
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.files import said
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.outputs.export_formats import export_masks
from AmbiguousSegLib.outputs.result_folder import read_result_folder, write_outputs
from AmbiguousSegLib.studies.case import CASE, FORMAT, rater_figures, rater_state, sample_figures
from AmbiguousSegLib.studies.jobs import Job
from AmbiguousSegLib.studies.locks import HeldError, held, lock_of
from AmbiguousSegLib.studies.memory import check_samples, peak_bytes, start_peak
from AmbiguousSegLib.studies.places import write_whole
from AmbiguousSegLib.studies.requests import RESULT, read_object
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.dicom_reading import series_files
from AmbiguousSegLib.volume.io import read_volume
from AmbiguousSegLib.volume.scan_kind import is_picture, modality_of, with_pixels_of

log = logging.getLogger(__name__)

WriteScene = Callable[[SampleSet, np.ndarray, str, Path], None]  # samples, volume (C, Z, Y, X), name, folder


@dataclass(frozen=True)
class CaseSampler:
    """How every case of a study is sampled.

    Attributes:
        spacing_mm: edge of a picture's pixels; None: 1 mm.
        fuse: whether a fused mask is written, too.
        on_progress: called with the share of the volume that is sampled.
        write_scene: writes what is not the library's to write.
    """

    spacing_mm: float | None = None
    fuse: bool = False
    on_progress: Callable[[float], None] | None = None
    write_scene: WriteScene | None = None

    def sample(self, model: Model, job: Job, request: SampleRequest, place: Path) -> None:
        """Write all files of a case into an empty folder, ``samples.json`` and ``case.json`` last.

        Where the input is DICOM, a DICOM segmentation is one of them; that there is none is noted in ``case.json``.

        Raises:
            ValueError, OSError, MemoryError, RuntimeError: what cannot be read, sampled or written.
        """
        start_peak()
        start = time.perf_counter()
        volume, geometry = read_volume(job.channels, job.series)
        check_samples(request.samples, geometry, len(volume), len(model.labels), len(model.method.own_map_names))
        picture = any(map(is_picture, job.channels))
        known = picture and self.spacing_mm is None
        if picture and self.spacing_mm is not None:
            geometry = with_pixels_of(self.spacing_mm, geometry, job.channels)
        about: dict[str, Any] = {"modality": modality_of(job.channels, job.series), "picture": known}
        samples = sample_volume(model, volume, geometry, request, self.on_progress, **about)
        if self.write_scene is not None:
            self.write_scene(samples, volume, job.name, place)
        samples, fused = with_fusion(samples) if self.fuse else (samples, None)
        write_outputs(samples, volume, place, overwrite=True, fused=fused)
        notes = _write_dicom(samples, job, place)
        crops = [Crop.of(mask) for mask in samples.masks]
        judged = _judged(job, crops, samples, read_object(place / RESULT) or {}, picture)
        peak = peak_bytes()
        judged |= {
            "notes": notes,
            "seconds": round(time.perf_counter() - start, 2),
            "memory_mb": None if peak is None else round(peak / 1e6),
            "host": socket.gethostname(),
        }
        (place / CASE).write_text(json.dumps(judged, indent=2) + "\n", encoding="utf-8")


def judge_again(job: Job, out: Path) -> None:
    """Bring ``case.json`` of a case that is done up to its raters, where they are others or were written anew.

    What cannot be read is logged. OSError: ``case.json`` cannot be written.
    """
    folder = out / job.name
    earlier = read_object(folder / CASE)
    if earlier is not None and earlier.get("raters_state") == rater_state(job.raters):
        return
    try:
        result = read_result_folder(folder)
    except (ValueError, OSError) as error:
        log.warning("%s: the table has no figures of it, as %s", job.name, said(error))
        return
    picture = any(map(is_picture, job.channels))
    judged = (earlier or {"notes": []}) | _judged(job, result.samples, result, result.summary, picture)
    try:
        with held(lock_of(out, job.name)):
            write_whole(folder / CASE, (json.dumps(judged, indent=2) + "\n").encode())
    except HeldError as error:
        log.warning("%s: figures of its raters are left to another study: it %s", job.name, error)


def _judged(job: Job, crops: list[Crop], of: Any, summary: Mapping[str, Any], picture: bool) -> dict[str, Any]:
    """Figures of samples and raters; ``of`` has ``geometry`` and ``labels``."""
    found: dict[str, Any] = {"format_version": FORMAT, **sample_figures(crops, of.geometry, summary, picture)}
    found["raters_state"] = rater_state(job.raters)
    found["raters"] = rater_figures(crops, of.geometry, of.labels, job.raters) if job.raters else {}
    return found


def _write_dicom(samples: SampleSet, job: Job, place: Path) -> list[str]:
    """Write ``segmentations.dcm`` where the first channel is a DICOM series; sentences on what it does not hold."""
    files = series_files(job.channels[0], job.series)
    if not files:
        return []
    title, notes = samples.labels[0].name, list[str]()
    first = 1 + samples.provenance.get("first_sample", 0)
    masks = [(f"sample_{k:02d}", f"{title} {k}", mask) for k, mask in enumerate(samples.masks, start=first)]
    masks.append(("consensus", f"{title} (consensus)", samples.consensus()))
    name = samples.provenance["model"]["name"]
    grid = (samples.geometry, samples.labels)
    try:
        export_masks(place, "dicom", masks, {}, *grid, files, model_name=name, on_note=notes.append)
    except (ImportError, ValueError) as error:
        return [f"There is no DICOM segmentation: {said(error)}"]
    return notes
