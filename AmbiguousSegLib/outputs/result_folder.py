"""A sample set as files in a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.card import Label
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.plotting.overview import overview
from AmbiguousSegLib.plotting.pictures import write_png
from AmbiguousSegLib.volume.io import write_segmentation, write_volume

SUMMARY, MEAN, VARIANCE, CONSENSUS, OVERVIEW = (
    "samples.json",
    "mean.nrrd",
    "variance.nrrd",
    "consensus.seg.nrrd",
    "overview.png",
)
SAMPLE_FILE = re.compile(r"sample_([0-9]+)\.seg\.nrrd")


def sample_file(number: int) -> str:
    """Name of the file of the sample with this number, counted from 1."""
    return f"sample_{number:02d}.seg.nrrd"


def earlier_files(folder: Path | str) -> list[str]:
    """Names of what lies in ``folder`` and has a name of ``write_outputs``: its own, or somebody else's."""
    folder = Path(folder)
    # In lower case, because Mean.nrrd is mean.nrrd on Windows and macOS; elsewhere the second does not exist.
    names = sorted({path.name.lower() for path in folder.iterdir()}) if folder.is_dir() else []
    others = (SUMMARY, MEAN, VARIANCE, CONSENSUS, OVERVIEW)
    return [name for name in names if (name in others or SAMPLE_FILE.fullmatch(name)) and (folder / name).exists()]


def write_outputs(
    sample_set: SampleSet, volume: np.ndarray, folder: Path | str, label: Label | None = None, overwrite: bool = False
) -> list[Path]:
    """Write every mask, the maps, the consensus, an overview and, last, ``samples.json``.

    All files are complete in a temporary folder before the first one takes its place, so that a full disk leaves
    nothing half-written.

    Args:
        volume: float32 ``(C, Z, Y, X)``, for the overview.
        label: name and colour of the segments; by default the set's own name.
        overwrite: replace an earlier result (and remove its surplus samples, ``sample_<digits>.seg.nrrd``).

    Returns:
        The files written.

    Raises:
        FileExistsError: ``folder`` holds a file of one of the names, or any ``sample_<digits>.seg.nrrd``.
        OSError: no space or no permission.
    """
    label, earlier = label or Label(sample_set.label), earlier_files(folder)
    if earlier and not overwrite:
        raise FileExistsError(
            f"{folder} holds {earlier[0]}, as an earlier result does; choose another folder, or overwrite it."
        )
    stale = [name for name in earlier if SAMPLE_FILE.fullmatch(name)]
    return write_together(folder, lambda temporary: _write_all(sample_set, volume, temporary, label), surplus=stale)


def summary(sample_set: SampleSet) -> dict[str, Any]:
    """Content of ``samples.json``."""
    geometry = sample_set.geometry
    return {
        "label": sample_set.label,
        "samples": len(sample_set),
        "volume": sample_set.volume_summary(),
        "consensus": {
            "rule": "more than half of the samples",
            "volume_ml": float(np.count_nonzero(sample_set.consensus()) * geometry.voxel_volume_ml),
        },
        "grid": {
            "size": list(geometry.size),
            "spacing_mm": list(geometry.spacing_mm),
            "origin_lps_mm": list(geometry.origin_mm),
            "direction_lps": list(geometry.direction),
        },
        **sample_set.provenance,
    }


def _write_all(sample_set: SampleSet, volume: np.ndarray, folder: Path, label: Label) -> list[str]:
    def write(file: str, mask: np.ndarray, title: str, segment_id: str) -> None:
        grid = sample_set.geometry
        write_segmentation(folder / file, mask, grid, title, label.color, segment_id, label.terminology)

    names = []
    for number, mask in enumerate(sample_set.masks, start=1 + sample_set.provenance.get("first_sample", 0)):
        names.append(sample_file(number))
        write(names[-1], mask, f"{label.name} {number}", f"sample_{number:02d}")
    write(CONSENSUS, sample_set.consensus(), f"{label.name} (consensus)", "consensus")
    write_volume(folder / MEAN, sample_set.mean(), sample_set.geometry)
    write_volume(folder / VARIANCE, sample_set.variance(), sample_set.geometry)
    write_png(folder / OVERVIEW, overview(sample_set, volume))
    (folder / SUMMARY).write_text(json.dumps(summary(sample_set), indent=2) + "\n", encoding="utf-8")
    return [*names, MEAN, VARIANCE, CONSENSUS, OVERVIEW, SUMMARY]
