"""The reader "lidc": LIDC-IDRI as The Cancer Imaging Archive gives it, CT series and the XML of their four readers.

``LIDC-IDRI-0001/<study>/<series>/*.dcm``, with the XML beside the slices or anywhere else below the folder: readings
belong to the series that they name. A case is a CT series, its raters are the sessions of its readings, and a rater's
mask is all nodules of 3 mm and more that the reader outlined; the rules are those of ``lidc_nodules``.
``LidcCase.load_nodules`` gives the nodules one by one.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.readers import LAYOUTS, READERS, Layout
from AmbiguousSegLib.labels import Label
from AmbiguousSegLib.layouts.lidc_nodules import Mark, Nodule, Slices, marks_of, nodules_of
from AmbiguousSegLib.layouts.lidc_xml import CHEST_X_RAY, LIDC, MOST_READERS, read_header, read_readings
from AmbiguousSegLib.layouts.names import look_below, some, subject_finder, walk
from AmbiguousSegLib.volume.dicom_files import (
    by_simpleitk,
    damaged,
    dicom_files,
    has_pydicom,
    is_dicom,
    quiet,
    read_dataset,
)
from AmbiguousSegLib.volume.dicom_headers import frames_of
from AmbiguousSegLib.volume.dicom_volumes import chosen
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.io import read_volume

log = logging.getLogger(__name__)

_PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
_UID_END = 10  # characters that tell the series of a patient apart
_MOST_FOLDERS, _FIRST_FOLDERS, _DEEPEST, _FIRST_FILES, _HEAD = 60, 3, 6, 3, 4096


@dataclass(frozen=True)
class LidcCase:
    """A CT series and the readings of it; a ``readers.Case``. Nothing is read before it is asked for.

    Attributes:
        folder: of the series' DICOM files.
        series: its UID.
        readings: the XML of its readers.
    """

    identity: str
    subject: str
    folder: Path
    series: str
    readings: Path
    group: str = ""
    part: str = ""
    modality: str = "CT"

    @property
    def rater_names(self) -> tuple[str, ...]:
        """``reader_1`` to ``reader_4``, as the sessions follow each other: other people in each series."""
        return tuple(f"reader_{number + 1}" for number in range(MOST_READERS))

    def load_image(self) -> tuple[np.ndarray, Geometry]:
        """HU, float32 ``(1, Z, Y, X)``, and their grid; ValueError as ``read_volume``."""
        return read_volume(self.folder, self.series)

    def load_masks(self) -> np.ndarray:
        """All that each of four readers outlined, uint8 ``(4, Z, Y, X)``; of one who outlined nothing, an empty mask.

        Raises:
            ValueError: as ``load_nodules``.
        """
        slices, marks = self._marks()
        masks = np.zeros((MOST_READERS, *slices.shape), np.uint8)
        for mark in marks:
            masks[mark.reader][mark.box] |= mark.mask.view(np.uint8)
        return masks

    def load_nodules(self) -> list[Nodule]:
        """The nodules, each with the marks of its readers, as ``lidc_nodules.nodules_of``; ambiguous ones are logged.

        Raises:
            ValueError: series or readings that are damaged, or not of each other. OSError: a file cannot be read.
        """
        nodules = nodules_of(self._marks()[1])
        for number, nodule in enumerate(nodules, start=1):
            if nodule.several or nodule.chained:
                twice = "".join(f"; several of {self.rater_names[reader]}" for reader in nodule.several)
                chained = "; not all overlap each other" if nodule.chained else ""
                log.info("%s: nodule %d has %d marks%s%s.", self.identity, number, len(nodule.marks), twice, chained)
        return nodules

    def _marks(self) -> tuple[Slices, list[Mark]]:
        with quiet():
            frames = [frame for file in dicom_files(self.folder) for frame in frames_of(file)]
            slices = Slices.of(chosen(frames, self.folder, self.series))
        return slices, marks_of(read_readings(self.readings), slices)


class _Series(NamedTuple):
    folder: Path
    series: str
    modality: str
    patient: str


@dataclass(frozen=True)
class _Found:
    """CT series and readings by the UIDs of series, and what else there is."""

    ct: dict[str, _Series] = field(default_factory=dict)
    readings: dict[str, Path] = field(default_factory=dict)
    modalities: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    chest_x_ray: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


@LAYOUTS.register("lidc")
def recognise(folder: Path) -> Layout | None:
    """Readings of LIDC among the first XML files, or a folder ``LIDC-IDRI-0001`` with DICOM two levels below it.

    The first folders of each level are looked at, at most 60, six levels deep.
    """
    for place, folders, files in look_below(folder, _MOST_FOLDERS, _DEEPEST, nearest_first=False):
        readings = [name for name in files if name.lower().endswith(".xml")]
        if any(_is_lidc(place / name) for name in readings[:_FIRST_FILES]):
            return Layout("LIDC-IDRI: CT series with the readings (XML) of their readers")
        above = (folder.resolve().name, *place.relative_to(folder).parts)
        named = any(_PATIENT.fullmatch(name) for name in above[:-2])
        if named and any(is_dicom(place / name) for name in files[:_FIRST_FILES]):
            return Layout("LIDC-IDRI: folders of patients with DICOM series")
        del folders[_FIRST_FOLDERS:]
    return None


def _is_lidc(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return b"<LidcReadMessage" in file.read(_HEAD)
    except OSError:
        return False


@READERS.register("lidc")
def read(folder: Path, config: DataConfig, labels: Sequence[Label]) -> list[LidcCase]:
    """A case for each CT series with readings, sorted by patient and series.

    Headers are read, of the first and the last file of each folder. The subject is the patient (PatientID, else the
    folder ``LIDC-IDRI-0001``), or found by ``subject_pattern`` in the identity, ``<patient>_<end of the series' UID>``.
    What is left out is logged: other modalities, chest x-ray readings, series without readings and the reverse.

    Raises:
        ValueError: more than one label; no series has readings; two folders hold one series, or two files different
            readings of it; a CT of no patient; XML that ``read_header`` refuses; a DICOM header that cannot be read.
    """
    if len(labels) > 1:
        raise ValueError(
            f"{shown(folder)}: LIDC-IDRI outlines one class, nodules, but there are {len(labels)} labels; name one."
        )
    found = _found(folder)
    _tell(folder, found)
    matched = sorted(set(found.ct) & set(found.readings), key=lambda uid: (found.ct[uid].patient, uid))
    if not matched:
        raise ValueError(
            f"{shown(folder)}: {len(found.ct)} CT series and {len(found.readings)} readings (LidcReadMessage) of CT, "
            "but none of one series; give the folder that holds both the DICOM files and their XML."
        )
    subject = subject_finder(config.subject_pattern)
    cases = []
    for uid in matched:
        series = found.ct[uid]
        identity = f"{series.patient}_{uid[-_UID_END:].lstrip('.')}"
        named = series.patient if config.subject_pattern is None else subject(identity, series.folder)
        cases.append(LidcCase(identity, named, series.folder, uid, found.readings[uid]))
    return cases


def _found(folder: Path) -> _Found:
    found = _Found()
    for place, _, files in walk(folder):
        for name in files:
            if name.lower().endswith(".xml"):
                _take_readings(found, place / name)
        for series in _series_in(place, files):
            found.modalities[series.modality or "of no modality"].add(series.series)
            if series.modality != "CT":
                continue
            other = found.ct.setdefault(series.series, series)
            if other is not series:
                raise ValueError(
                    f"{shown(other.folder)} and {shown(place)} both hold the series {series.series}; keep one of them."
                )
    return found


def _take_readings(found: _Found, path: Path) -> None:
    header = read_header(path)
    if header.root == CHEST_X_RAY:
        found.chest_x_ray.append(path.name)
    elif header.root != LIDC or not header.series:
        found.foreign.append(path.name)
    else:
        other = found.readings.setdefault(header.series, path)
        if other != path and read_readings(other) != read_readings(path):
            raise ValueError(
                f"{shown(other)} and {shown(path)} are different readings of the series {header.series}; keep the one "
                "that holds (LIDC has resubmitted some), and move the other elsewhere."
            )


def _series_in(place: Path, names: Sequence[str]) -> list[_Series]:
    """Series of a folder: one, if its first and last file are of the same; otherwise every header is read."""
    paths = [place / name for name in names if not name.lower().endswith(".xml")]
    first = next(filter(is_dicom, paths), None)
    if first is None:
        return []
    last = next(filter(is_dicom, reversed(paths)), first)
    ends = [_series_of(first), _series_of(last)]
    if ends[0].series == ends[1].series:
        return ends[:1]
    return list({own.series: own for own in map(_series_of, filter(is_dicom, paths))}.values())


def _series_of(file: Path) -> _Series:
    get = read_dataset(file, pixels=False).get if has_pydicom() else by_simpleitk(file)
    with quiet(), damaged(file):
        series, modality, patient = (str(get(n) or "").strip() for n in ("SeriesInstanceUID", "Modality", "PatientID"))
    named = next((part for part in reversed(file.parts) if _PATIENT.fullmatch(part)), "")
    if modality == "CT" and not (patient or named):
        raise ValueError(
            f"{shown(file)} tells no PatientID, and lies in no folder LIDC-IDRI-0001 …; series of one patient must be "
            "known as such: move it there."
        )
    return _Series(file.parent, series, modality, patient or named)


def _tell(folder: Path, found: _Found) -> None:
    """Log what is left out, and why: what every download has, and what may be missed."""
    others = {name: len(uids) for name, uids in sorted(found.modalities.items()) if name != "CT"}
    elsewhere = sorted(path.name for uid, path in found.readings.items() if uid not in found.ct)
    unread = [f"{own.patient} ({uid})" for uid, own in sorted(found.ct.items()) if uid not in found.readings]
    for level, count, what, names in (
        (logging.INFO, sum(others.values()), "series that are no CT", [f"{n} {name}" for name, n in others.items()]),
        (logging.INFO, len(found.chest_x_ray), "readings of chest x-rays (IdriReadMessage)", found.chest_x_ray),
        (logging.INFO, len(elsewhere), "readings of series that are not here", elsewhere),
        (logging.WARNING, len(found.foreign), "XML that is no readings of a series", found.foreign),
        (logging.WARNING, len(unread), "CT series without readings", unread),
    ):
        if names:
            log.log(level, "%s: left out: %d %s: %s.", shown(folder), count, what, some(names))
