"""A sample set as files in a folder, and the way back.

One class: ``mean.nrrd`` and ``variance.nrrd``. Several: ``mean_<label>.nrrd`` and ``variance_<label>.nrrd`` for each,
and ``entropy.nrrd``. Maps that a model itself predicts have their own names, ``logit_deviation.nrrd``. Every sample and
the consensus is a ``.seg.nrrd`` with one segment per class.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.ensemble.modes import find_modes
from AmbiguousSegLib.ensemble.sample_set import SampleSet
from AmbiguousSegLib.files import write_together
from AmbiguousSegLib.label_maps import class_mask
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label, check_labels, file_names, segments_of_mask
from AmbiguousSegLib.metrics.overlap import pairwise_label_iou
from AmbiguousSegLib.plotting.overview import overview
from AmbiguousSegLib.plotting.pictures import write_png
from AmbiguousSegLib.text_files import read_json
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_mask
from AmbiguousSegLib.volume.segments import read_raters
from AmbiguousSegLib.volume.writing import write_segmentation, write_volume

SUMMARY, CONSENSUS, ENTROPY, OVERVIEW = "samples.json", "consensus.seg.nrrd", "entropy.nrrd", "overview.png"
FUSED = "fused.seg.nrrd"  # only where it is asked for
SAMPLE_FILE = re.compile(r"sample_([0-9]+)\.seg\.nrrd")


def sample_file(number: int) -> str:
    """Name of the file of the sample with this number, counted from 1."""
    return f"sample_{number:02d}.seg.nrrd"


def earlier_files(folder: Path | str, labels: Sequence[Label] = DEFAULT_LABELS, maps: Sequence[str] = ()) -> list[str]:
    """Names of what lies in ``folder`` and has a name of ``write_outputs``: its own, or somebody else's.

    Args:
        labels, maps: of the set that is to be written, maps by their names; the names of the result that lies there, if
            any, count besides.
    """
    folder = Path(folder)
    own = {FUSED, *_other_files(labels, maps)}
    with suppress(OSError, ValueError):  # there is none, or it is somebody else's
        content, _, earlier = _read_summary(folder)
        maps_of = content.get("own_maps")
        known = maps_of if isinstance(maps_of, list) and all(isinstance(name, str) for name in maps_of) else ()
        own.update(_other_files(earlier, known))
    # In lower case, because Mean.nrrd is mean.nrrd on Windows and macOS; elsewhere the second does not exist.
    names = sorted({path.name.lower() for path in folder.iterdir()}) if folder.is_dir() else []
    return [name for name in names if (name in own or SAMPLE_FILE.fullmatch(name)) and (folder / name).exists()]


def write_outputs(
    sample_set: SampleSet,
    volume: np.ndarray,
    folder: Path | str,
    overwrite: bool = False,
    fused: np.ndarray | None = None,
) -> list[Path]:
    """Write every mask, the maps, the consensus, an overview and, last, ``samples.json``.

    All files are complete in a temporary folder before the first one takes its place, so that a full disk leaves
    nothing half-written.

    Args:
        volume: float32 ``(C, Z, Y, X)``, for the overview.
        overwrite: replace an earlier result (and remove its surplus maps and samples, ``sample_<digits>.seg.nrrd``).
        fused: one more consensus, uint8 ``(Z, Y, X)``, as ``ensemble.fusion`` makes it; None: there is none.

    Returns:
        The files written.

    Raises:
        FileExistsError: ``folder`` holds a file of one of the names, or any ``sample_<digits>.seg.nrrd``.
        OSError: no space or no permission.
    """
    earlier = earlier_files(folder, sample_set.labels, list(sample_set.maps))
    if earlier and not overwrite:
        raise FileExistsError(
            f"{folder} holds {earlier[0]}, as an earlier result does; choose another folder, or overwrite it."
        )
    return write_together(folder, lambda temporary: _write_all(sample_set, volume, temporary, fused), surplus=earlier)


def summary(sample_set: SampleSet) -> dict[str, Any]:
    """Content of ``samples.json``.

    Several classes have their volumes under "volumes" and "consensus", "volumes_ml", by the label's name; "volume" and
    "volume_ml" are those of all together. One class has its name under "label".
    """
    geometry, labels = sample_set.geometry, sample_set.labels
    consensus = sample_set.consensus()
    marked_ml = [
        float(np.count_nonzero(class_mask(consensus, k, len(labels))) * geometry.voxel_volume_ml)
        for k in range(1, 1 + len(labels))
    ]
    content: dict[str, Any] = {"label": labels[0].name} if len(labels) == 1 else {}
    content |= {
        "labels": [asdict(label) for label in labels],
        "samples": len(sample_set),
        "volume": sample_set.volume_summary(),
    }
    if len(labels) == 1:
        agreed: dict[str, Any] = {"rule": "more than half of the samples", "volume_ml": marked_ml[0]}
    else:
        content["volumes"] = {label.name: sample_set.volume_summary(k) for k, label in enumerate(labels, start=1)}
        agreed = {
            "rule": "the most frequent of background and the labels; ties are background",
            "volume_ml": float(np.count_nonzero(consensus) * geometry.voxel_volume_ml),
            "volumes_ml": {label.name: ml for label, ml in zip(labels, marked_ml)},
        }
    return {
        **content,
        "consensus": agreed,
        "grid": {
            "size": list(geometry.size),
            "spacing_mm": list(geometry.spacing_mm),
            "origin_lps_mm": list(geometry.origin_mm),
            "direction_lps": list(geometry.direction),
        },
        "modes": _modes(sample_set),
        **({"own_maps": list(sample_set.maps)} if sample_set.maps else {}),
        **sample_set.provenance,
    }


def _modes(sample_set: SampleSet) -> list[dict[str, Any]]:
    """Groups of similar samples with their frequencies, and the numbers of representative and members, from 1."""
    marked = np.zeros(sample_set.geometry.shape, bool)
    for mask in sample_set.masks:
        marked |= mask != 0
    box = bounding_box(marked) or (slice(0, 1),) * 3  # what nobody marks would only take time
    cut = sample_set.masks[(slice(None), *box)]
    modes, first = find_modes(pairwise_label_iou(cut, cut, sample_set.classes)), _first_number(sample_set)
    return [
        {
            "frequency": float(frequency),
            "interval_95": interval.tolist(),
            "representative": first + int(representative),
            "samples": (first + np.flatnonzero(modes.labels == mode)).tolist(),
        }
        for mode, (frequency, interval, representative) in enumerate(
            zip(modes.frequencies, modes.intervals(), modes.representatives)
        )
    ]


def _first_number(sample_set: SampleSet) -> int:
    return 1 + sample_set.provenance.get("first_sample", 0)


class ResultFolder(NamedTuple):
    """What a folder of ``write_outputs`` holds.

    Attributes:
        summary: content of ``samples.json``.
        geometry: grid of the samples.
        names: of the samples, by their numbers: "sample 9".
        labels: the classes of the samples.
        samples: the samples themselves, in the order of their numbers.
    """

    summary: dict[str, Any]
    geometry: Geometry
    names: list[str]
    labels: tuple[Label, ...]
    samples: list[Crop]


def read_result_folder(folder: Path | str) -> ResultFolder:
    """The result in a folder, of today or of a version that knew one class and wrote no "labels".

    Raises:
        ValueError: no result, one that lacks samples, or files that do not fit it; the message names the file.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    content, geometry, labels = _read_summary(folder)
    files: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if match := SAMPLE_FILE.fullmatch(file.name):
            if int(match[1]) in files:
                raise ValueError(f"{folder} holds sample {int(match[1])} twice, also as {file.name}; remove one.")
            files[int(match[1])] = file
    if len(files) != content["samples"] or not files:
        told = f"{folder} holds {len(files)} samples, but {SUMMARY} names {content['samples']}; sample again."
        raise ValueError(told)
    samples = []
    for _, file in sorted(files.items()):
        if len(labels) == 1:
            mask = read_mask(file, geometry)
        else:
            ((_, mask),) = read_raters(file, geometry, [label.name for label in labels], "classes")
        samples.append(Crop.of(mask).copy())
    return ResultFolder(content, geometry, [f"sample {k}" for k in sorted(files)], labels, samples)


def _read_summary(folder: Path) -> tuple[dict[str, Any], Geometry, tuple[Label, ...]]:
    if not (folder / SUMMARY).is_file():
        raise ValueError(f"{folder} holds no {SUMMARY}; give a folder that the subcommand sample has written.")
    try:
        content = read_json(folder / SUMMARY, nan=True)
        grid, _ = content["grid"], content["samples"]
        keys = ("size", "spacing_mm", "origin_lps_mm", "direction_lps")
        geometry = Geometry(*(tuple(grid[key]) for key in keys))
        if "labels" in content:
            labels = tuple(from_dict(Label, entry, "labels") for entry in content["labels"])
        else:
            labels = (from_dict(Label, {"name": content["label"]}, "label"),) if "label" in content else DEFAULT_LABELS
        check_labels(labels)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = "grid, samples or labels are no such values"  # not the words of Python
        if isinstance(error, (ValueError, KeyError)):
            told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{folder / SUMMARY} does not describe samples ({told}); sample again.") from error
    return content, geometry, labels


def _map_files(labels: Sequence[Label]) -> list[tuple[str, str]]:
    """Names of the files of the mean and the variance map of each label."""
    ends = [""] if len(labels) == 1 else [f"_{name}" for name in file_names(labels)]
    return [(f"mean{end}.nrrd", f"variance{end}.nrrd") for end in ends]


def _other_files(labels: Sequence[Label], maps: Sequence[str]) -> list[str]:
    """Names of all files but the samples, in the order in which they are written."""
    entropy = [ENTROPY] if len(labels) > 1 else []
    of_labels, own = (name for pair in _map_files(labels) for name in pair), (f"{name}.nrrd" for name in maps)
    return [*of_labels, *entropy, *own, CONSENSUS, OVERVIEW, SUMMARY]


def _write_all(sample_set: SampleSet, volume: np.ndarray, folder: Path, fused: np.ndarray | None) -> list[str]:
    grid, labels, names = sample_set.geometry, sample_set.labels, []

    def write(file: str, mask: np.ndarray, title: str, identity: str) -> None:
        write_segmentation(folder / file, mask, grid, *segments_of_mask(labels, title, identity))

    for number, mask in enumerate(sample_set.masks, start=_first_number(sample_set)):
        names.append(sample_file(number))
        write(names[-1], mask, f"{labels[0].name} {number}", f"sample_{number:02d}")
    write(CONSENSUS, sample_set.consensus(), f"{labels[0].name} (consensus)", "consensus")
    if fused is not None:
        names.append(FUSED)
        write(FUSED, fused, f"{labels[0].name} (fused)", "fused")
    for number, (mean, variance) in enumerate(_map_files(labels), start=1):
        write_volume(folder / mean, sample_set.mean(number), grid)
        write_volume(folder / variance, sample_set.variance(number), grid)
    if len(labels) > 1:
        write_volume(folder / ENTROPY, sample_set.entropy(), grid)
    for name, values in sample_set.maps.items():
        write_volume(folder / f"{name}.nrrd", values, grid)
    write_png(folder / OVERVIEW, overview(sample_set, volume))
    (folder / SUMMARY).write_text(json.dumps(summary(sample_set), indent=2) + "\n", encoding="utf-8")
    return [*names, *_other_files(labels, list(sample_set.maps))]
