"""The files of a DICOM series matched with the slices of the volume that was read from them. Needs pydicom."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

_TOLERANCE = 0.1  # of a voxel: how far a stored slice may lie from the volume's
_NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
)
# Of patient and study; anonymised files lack some, in a segmentation they may be empty but not absent.
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


def headers_by_slice(files: Sequence[Path | str], geometry: Geometry) -> list[Dataset]:
    """Headers of the instances that a volume was read from, in the order of its slices, whatever that of the files.

    What a segmentation needs and a series may lack is added to the headers: attributes of patient and study are then
    empty, the thickness is the distance of slices, the frame of reference is made from the series' own identifier (the
    same each time, and a warning is logged).

    Raises:
        ValueError: files that are not one image of one slice each, or not of one series, or do not lie on the grid of
            the volume, one for each slice; the file is named. OSError: a file could not be read.
    """
    if len(files) != geometry.size[2]:
        raise ValueError(
            f"The series has {len(files)} files, the volume {geometry.size[2]} slices; give the files of the series "
            "that the volume was read from."
        )
    found: dict[int, tuple[Path | str, Dataset]] = {}
    for file in files:
        source = _read_header(file)
        z = _slice_of(file, source, geometry)
        if z in found:
            raise ValueError(f"{found[z][0]} and {file} lie at the same place; give the files of one series.")
        if not source.get("SliceThickness"):
            source.SliceThickness = round(geometry.spacing_mm[2], 6)
        found[z] = file, source
    sources = [found[z][1] for z in sorted(found)]
    if len({source.SeriesInstanceUID for source in sources}) > 1:
        raise ValueError(f"{files[0]} and the other files belong to several series; give the files of one series.")
    if any("FrameOfReferenceUID" not in source for source in sources):
        _add_frame_of_reference(sources)
    return sources


def _read_header(file: Path | str) -> Dataset:
    import pydicom

    try:
        source = pydicom.dcmread(file, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(f"{file} is not a DICOM file; give the files of the series.") from error
    lacking = [name for name in _NEEDED if source.get(name) in (None, "")]
    if lacking or "NumberOfFrames" in source:
        raise ValueError(
            f"{file}: expected a DICOM image of one slice with its place in the patient, "
            + (f"{', '.join(lacking)} is missing." if lacking else "got several frames in one file.")
        )
    for name in _COPIED:
        if name not in source:
            setattr(source, name, "")
    return source


def _slice_of(file: Path | str, source: Dataset, geometry: Geometry) -> int:
    """Index of the volume's slice that ``source`` is; three of its corners must be where the volume has them."""
    columns, rows, slices = geometry.size
    if (source.Rows, source.Columns) != (rows, columns):
        raise ValueError(
            f"{file} has {source.Rows} × {source.Columns} pixels, the volume's slices {rows} × {columns}; the volume "
            "is not this series on its own grid."
        )
    first = _numbers(file, source, "ImagePositionPatient", 3)
    along_row, down_column = _numbers(file, source, "ImageOrientationPatient", 6).reshape(2, 3)
    row_distance, column_distance = _numbers(file, source, "PixelSpacing", 2)
    end_of_row = first + (columns - 1) * column_distance * along_row
    end_of_column = first + (rows - 1) * row_distance * down_column
    indices = geometry.to_index(np.stack([first, end_of_row, end_of_column]))
    z = round(float(indices[0, 2]))
    expected = np.array([(0, 0, z), (columns - 1, 0, z), (0, rows - 1, z)])
    distance = np.abs(indices - expected).max()
    if not (distance <= _TOLERANCE and 0 <= z < slices):
        raise ValueError(
            f"{file} does not lie on the volume's grid: its corner is at index "
            f"{tuple(round(float(i), 2) for i in indices[0])}, expected (0, 0, a slice of 0 to {slices - 1}), and "
            f"corners differ by up to {distance:.3g} voxels; the volume is not this series on its own grid."
        )
    return z


def _numbers(file: Path | str, source: Dataset, name: str, count: int) -> np.ndarray:
    """Values of an attribute; pydicom gives a single one not as a list, and what is no number as text."""
    stored = source[name].value
    try:
        values = np.array(stored, float).reshape(-1)
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{file}: {name} must be {count} numbers, got {stored}; give the files of an intact series.")
    return values


def _add_frame_of_reference(sources: Sequence[Dataset]) -> None:
    """Old and converted series have none, a segmentation must: it is made from the series' own identifier."""
    series = str(sources[0].SeriesInstanceUID)
    uid = f"2.25.{uuid5(NAMESPACE_OID, series).int}"
    log.warning("Series %s has no frame of reference; the segmentation is given %s.", series, uid)
    for source in sources:
        source.FrameOfReferenceUID = uid
