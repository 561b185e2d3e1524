"""What a study's folder holds to sample: volumes and DICOM series anywhere below it, and what is no scan, by name.

A series of DICOM is a volume, a file of another format is one. Left out, with the reason, is only what certainly is
no scan to sample: segmentations, by their header or, where their name says so, by their values; localisers; reports,
contours and doses; results of an earlier run.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from AmbiguousSegLib.layouts.names import PICTURES, VOLUMES, by_number, ending_of, is_hidden, is_text, some, stem_of
from AmbiguousSegLib.volume.dicom_files import SEGMENTATIONS, is_dicom, read_dataset, sop_class
from AmbiguousSegLib.volume.dicom_headers import Frame, frames_of
from AmbiguousSegLib.volume.dicom_structures import STRUCTURES
from AmbiguousSegLib.volume.dicom_volumes import chosen
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.image import components_of, read_image

RESULTS = "samples.json"  # a folder with it holds results
_HEADERS = tuple(ending for ending in VOLUMES if ending not in (".img", ".img.gz"))  # .img goes with its .hdr
_MASK_NAME = re.compile(
    r"(?:^|[\W_])(?:seg|segm|segmentation|label|labels|labelmap|mask|masks|roi|gt|rater|annotation|consensus|truth)"
    r"(?:$|[\W_\d])",
    re.IGNORECASE,
)
_SCOUT = re.compile(r"\b(?:scout|locali[sz]er|topogram|surview|scanogram|survey)\b", re.IGNORECASE)
_MOST_LABELS = 32  # values of a label map
_FEWEST_SLICES = 4  # of a series that is called a scout and is none
_NIFTI_LABELS = 1002  # code of the intent "labels"


@dataclass(frozen=True)
class StudyVolume:
    """One volume to sample.

    Attributes:
        name: where it lies below the folder, its parts joined by "_".
        path: file, or folder of the DICOM series.
        series: which of several series in ``path``; None: it is the only one.
        problem: why it cannot be read; empty if nothing is known.
        note: doubt that it is a scan; empty if there is none.
    """

    name: str
    path: Path
    series: str | None = None
    problem: str = ""
    note: str = ""


@dataclass
class Study:
    """Volumes, and name and reason of what is left out."""

    volumes: list[StudyVolume] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def find_volumes(folder: Path, skip: Collection[Path] = ()) -> Study:
    """All volumes in ``folder`` and below it, numbers in names by value.

    Hidden files and folders are passed over. Links are followed, but no folder is entered twice. Pictures are volumes
    where there is nothing else in the whole folder, and only those that lie in it itself.

    Args:
        skip: folders that are not entered.
    """
    study = Study()
    pictures: list[str] = []
    for place, files in _walk(folder, study, {path.resolve() for path in skip}):
        dicom = []
        for name in files:
            path, ending = place / name, ending_of(name)
            if ending in _HEADERS:
                _add_file(study, folder, path)
            elif ending in PICTURES:
                pictures.append(_name(folder, path))
                if place == folder:
                    continue
            elif ending not in VOLUMES and is_dicom(path):
                dicom.append(path)
        if dicom:
            _add_dicom(study, folder, place, dicom)
    if study.volumes and pictures:
        study.left_out.append((some(pictures), "pictures beside volumes; give those that are meant by name"))
    elif not study.volumes:
        for name in sorted((n for n in _entries(folder) if ending_of(n) in PICTURES), key=by_number):
            _add_file(study, folder, folder / name)
    return study


def segmentation_reason(path: Path) -> str:
    """By what a file certainly is a segmentation, looking at its name and header; empty if it is not."""
    name = path.name.lower()
    if path.is_dir() or not path.is_file():
        return ""
    if is_dicom(path):
        return ""  # which frames it has is told when it is read
    if name.endswith(".seg.nrrd"):
        return "a .seg.nrrd"
    try:
        if ending_of(name) in (".nrrd", ".nhdr"):
            with open(path, "rb") as file:
                head = islice(iter(lambda: file.readline(1 << 16), b""), 2000)
                for line in head:
                    if not line.strip():
                        break
                    if line.startswith(b"Segment0_ID:="):
                        return "its header names segments"
        elif ending_of(name) in (".nii", ".nii.gz", ".hdr", ".hdr.gz") and _intent(path) == _NIFTI_LABELS:
            return "its header says that it holds labels"
    except (OSError, EOFError, zlib.error, struct.error):
        pass  # which is told when it is read
    return ""


def _intent(path: Path) -> int:
    """What a NIfTI file says its values are, as a code."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as stream:
        head = stream.read(348)
    order = "<" if head[:4] == (348).to_bytes(4, "little") else ">"
    return int(struct.unpack_from(f"{order}h", head, 68)[0])


def _name(folder: Path, path: Path) -> str:
    return shown(Path("_".join([*path.relative_to(folder).parts[:-1], stem_of(path.name)])))


def _entries(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if not is_hidden(name)]  # noqa: PTH208  (names that are not UTF-8, too)


def _walk(folder: Path, study: Study, skip: Collection[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder once, with the names of its files; what cannot be entered goes into the study."""
    seen: set[tuple[int, int]] = set()
    stack = [folder]
    while stack:
        place = stack.pop()
        try:
            status = place.stat()
            names = sorted(_entries(place), key=by_number)
        except OSError as error:
            told = f"{shown(place)} cannot be listed ({error.strerror}); check its permission."
            study.volumes.append(StudyVolume(_name(folder, place), place, problem=told))
            continue
        if (status.st_dev, status.st_ino) in seen:
            study.left_out.append((_name(folder, place), "a link to a folder that is read already"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if place != folder and (RESULTS in names or place.resolve() in skip):
            study.left_out.append((_name(folder, place), "results of an earlier run"))
            continue
        below, files = [], []
        for name in names:
            path = place / name
            if path.is_dir() and not is_text(name):
                told = f"{shown(path)}: the name of the folder is not UTF-8; rename it."
                study.volumes.append(StudyVolume(_name(folder, path), path, problem=told))
            elif path.is_dir():
                below.append(path)
            elif path.is_file():
                files.append(name)
            elif path.is_symlink() and ending_of(name):
                told = f"{shown(path)} is a link to nothing; copy the file that it should lead to."
                study.volumes.append(StudyVolume(_name(folder, path), path, problem=told))
        yield place, files
        stack += reversed([path for path in below if not path.is_symlink()] + [p for p in below if p.is_symlink()])


def _add_file(study: Study, folder: Path, path: Path) -> None:
    name = _name(folder, path)
    if not is_text(path.name):
        told = f"{shown(path)}: the name is not UTF-8, as it must be for reading; rename it."
        study.volumes.append(StudyVolume(name, path, problem=told))
        return
    reason = segmentation_reason(path)
    if reason:
        study.left_out.append((name, f"a segmentation ({reason})"))
        return
    note = ""
    if _MASK_NAME.search(stem_of(path.name)):
        values = _label_values(path)
        if values:
            study.left_out.append((name, f"a segmentation (its name, and its values {values})"))
            return
        note = "It is named like a segmentation, but its values are those of an image."
    study.volumes.append(StudyVolume(name, path, note=note))


def _label_values(path: Path) -> str:
    """The values of a file if they are those of a label map, for people; empty if not, or it cannot be read."""
    try:
        image = read_image(path, labels=True)
    except (OSError, ValueError, ImportError, MemoryError):
        return ""
    values = np.unique(np.concatenate([np.unique(part) for part in components_of(image)]))
    if len(values) > _MOST_LABELS or values[0] != 0 or not np.array_equal(values, np.rint(values)):
        return ""
    return f"{', '.join(f'{v:g}' for v in values[:4])}{', …' if len(values) > 4 else ''}"


def _add_dicom(study: Study, folder: Path, place: Path, files: Sequence[Path]) -> None:
    """The series of a folder, each by its own."""
    by_series: dict[str, list[Frame]] = {}
    others: dict[str, list[str]] = {}
    top = place.resolve().name if place == folder else _name(folder, place / "x").removesuffix("_x")
    try:
        for file in files:
            frames = frames_of(file)
            dose = frames and frames[0].modality == "RTDOSE"
            if not frames or dose:
                others.setdefault("a dose" if dose else _kind(file), []).append(file.name)
                continue
            for frame in frames:
                by_series.setdefault(frame.series, []).append(frame)
    except (OSError, ValueError) as error:
        study.volumes.append(StudyVolume(top, place, problem=str(error)))
        return
    for kind, names in others.items():
        study.left_out.append((f"{top}: {shown(Path(some(names)))}", kind))
    labels = _labels(by_series)
    scans = []
    for uid, frames in by_series.items():
        reason = _scout(frames)
        if reason:
            study.left_out.append((f"{top}_{labels[uid]}", f"a localiser ({reason}; {len(frames)} slices)"))
        else:
            scans.append(uid)
    for uid in scans:
        name = top if len(scans) == 1 else f"{top}_{labels[uid]}"
        problem = ""
        try:
            chosen(by_series[uid], place, None)
        except ValueError as error:
            problem = str(error)
        study.volumes.append(StudyVolume(name, place, None if len(by_series) == 1 else uid, problem))


def _kind(file: Path) -> str:
    """What a DICOM file without an image is, in words."""
    kind = sop_class(file)
    if kind in SEGMENTATIONS:
        return "a segmentation (DICOM)"
    if kind == STRUCTURES:
        return "contours (a DICOM structure set)"
    modality = str(read_dataset(file, pixels=False).get("Modality", "") or "unknown")
    return f"DICOM without an image ({modality})"


def _scout(frames: Sequence[Frame]) -> str:
    """By what a series is a localiser; empty if it is none."""
    if all("LOCALIZER" in frame.telling.get("ImageType", "").upper() for frame in frames):
        return "by its image type"
    planes = {tuple(np.round(frame.along or (), 2)) for frame in frames}
    if _SCOUT.search(frames[0].title) and (len(frames) < _FEWEST_SLICES or len(planes) > 1):
        return f"it is called {frames[0].title}"
    return ""


def _labels(by_series: dict[str, list[Frame]]) -> dict[str, str]:
    """A short name for each series: its description, with the end of its UID where two have the same."""
    titles = {}
    for uid, frames in by_series.items():
        words = re.sub(r"[^\w.+-]+", "-", frames[0].title or frames[0].modality).strip("-.")
        titles[uid] = words[:40] or "series"
    names = [title.lower() for title in titles.values()]
    return {
        uid: title if names.count(title.lower()) == 1 else f"{title}_{uid.rsplit('.', 1)[-1][-12:]}"
        for uid, title in titles.items()
    }
