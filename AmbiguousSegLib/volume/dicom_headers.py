"""What the headers of DICOM files say of each frame in them: where it lies, how its values are scaled.

pydicom reads them where it is installed. Without it SimpleITK does, which tells nothing of several frames in one file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.volume.dicom_files import (
    INSTALL,
    SEGMENTATIONS,
    Get,
    by_simpleitk,
    damaged,
    has_pydicom,
    quiet,
    read_dataset,
)
from AmbiguousSegLib.volume.file_checks import shown

# Where a file of several frames keeps what others have at the top, for each frame or shared by all.
_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    **dict.fromkeys(("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"), "PixelMeasuresSequence"),
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType"), "PixelValueTransformationSequence"),
    **dict.fromkeys(("StackID", "TemporalPositionIndex", "FrameAcquisitionNumber"), "FrameContentSequence"),
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "InversionTimes": "MRModifierSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}
# Attributes that tell volumes of one series apart, the most telling first.
TELLING = (
    *("EchoNumbers", "EchoTime", "EffectiveEchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "DiffusionBValue", "StackID", "InversionTime", "InversionTimes", "FlipAngle"),
    *("ConvolutionKernel", "AcquisitionNumber", "FrameAcquisitionNumber", "ImageType", "TriggerTime"),
    *("FrameReferenceTime", "AcquisitionTime", "ContentTime"),
)


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        number: of the frame in ``file``, from 0.
        position: of the first pixel's centre, LPS mm; None where the file tells none, as ``along`` and ``spacing``.
        along: row-major 2×3, unit vectors along a row and down a column.
        spacing: distance of rows and of columns in mm.
        thickness: distance to the next slice as the file tells it, else thickness of the slice; None: neither.
        slope, intercept: a value is stored × slope + intercept.
        ends: sum of the lowest and the highest value that can be stored.
        turned: large values are to be shown dark and have no meaning of their own, so that values are turned.
        telling: values, as text, of those of ``TELLING`` that it has.
    """

    file: Path
    number: int
    frames: int
    series: str
    instance: str
    title: str
    modality: str
    rows: int
    columns: int
    position: tuple[float, ...] | None
    along: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    ends: int
    turned: bool
    white_is_zero: bool
    colours: int
    order: int | None
    telling: Mapping[str, str]

    @property
    def name(self) -> str:
        """For messages: the file, and which of its frames."""
        return shown(self.file) if self.frames == 1 else f"{shown(self.file)}, frame {self.number + 1},"


def frames_of(path: Path) -> list[Frame]:
    """Frames of a file; none if it holds no image, as a report, or is a segmentation.

    Raises:
        ValueError: damaged, or without what a value or a place follows from; several frames without pydicom. One line.
    """
    if not has_pydicom():
        get = by_simpleitk(path)
        count = _integer(path, get, "NumberOfFrames", 1)
        if count > 1:
            raise ValueError(f"{shown(path)} holds {count} frames, which need pydicom to be read; {INSTALL}.")
        return [] if get("SOPClassUID") in SEGMENTATIONS else [_frame(path, get, 0, 1)]
    header = read_dataset(path, pixels=False)
    with quiet(), damaged(path):
        if "Rows" not in header or str(header.get("SOPClassUID", "")) in SEGMENTATIONS:
            return []
        return frames_in(path, header)


def frames_in(path: Path, header: Any) -> list[Frame]:
    """Frames of a file of pixels that pydicom has read; ValueError as ``frames_of``."""
    count = _integer(path, header.get, "NumberOfFrames", 1)
    if count > 1 and "GridFrameOffsetVector" in header:
        _numbers(path, header.get, "GridFrameOffsetVector", count)  # as many
    items = header.get("PerFrameFunctionalGroupsSequence") or []
    if count > 1 and "GridFrameOffsetVector" not in header and len(items) != count:
        raise ValueError(
            f"{shown(path)} holds {count} frames and tells the place of {len(items)}; export it as single slices "
            "or as an enhanced image."
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    return [_frame(path, _lookup(header, item, shared), k, count) for k, item in enumerate(items or [None] * count)]


def _lookup(header: Any, item: Any, shared: Any) -> Get:
    """Values of one frame: its own, those shared by all frames, those of the file."""

    def get(name: str) -> Any:
        macro = _MACROS.get(name)
        for groups in (item, shared) if macro else ():
            found = groups.get(macro) if groups is not None else None
            if found and name in found[0]:
                return found[0].get(name)
        return header.get(name)

    return get


def _frame(path: Path, get: Get, number: int, count: int) -> Frame:
    along = _numbers(path, get, "ImageOrientationPatient", 6)
    position = _numbers(path, get, "ImagePositionPatient", 3)
    if along is not None:
        axes = np.reshape(along, (2, 3))
        if np.abs(axes @ axes.T - np.eye(2)).max() > 1e-3:
            raise ValueError(
                f"{shown(path)}: ImageOrientationPatient is {_text(along)}, expected two perpendicular unit vectors."
            )
    offsets = get("GridFrameOffsetVector")
    if offsets is not None and count > 1 and along is not None and position is not None:  # of radiotherapy doses
        distances = _numbers(path, get, "GridFrameOffsetVector", count)
        shift = float(distances[number] - (distances[0] if distances[0] else 0))  # type: ignore[index]
        position = tuple(np.add(position, shift * np.cross(*np.reshape(along, (2, 3)))).tolist())
    kinds = get("ImageType")
    if kinds is not None and not isinstance(kinds, str) and "MOSAIC" in [str(kind).upper() for kind in kinds]:
        raise ValueError(f"{shown(path)} is a mosaic of slices in one picture; convert the series by dcm2niix.")
    if get("ModalityLUTSequence"):
        raise ValueError(f"{shown(path)}: values follow from a table (Modality LUT), expected a slope; convert it.")
    slope = _number(path, get, "RescaleSlope")
    if slope is None:
        slope = _number(path, get, "DoseGridScaling")
    slope, intercept = 1.0 if slope is None else slope, _number(path, get, "RescaleIntercept") or 0.0
    if slope == 0:
        raise ValueError(f"{shown(path)}: RescaleSlope is 0, so that every value would be {intercept:g}; export again.")
    white_is_zero = str(get("PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    modality, unit = str(get("Modality") or "").strip(), str(get("RescaleType") or "").strip()
    signed = _integer(path, get, "PixelRepresentation", 0)
    return Frame(
        path,
        number,
        count,
        str(get("SeriesInstanceUID") or ""),
        str(get("SOPInstanceUID") or ""),
        " ".join(str(get("SeriesDescription") or "").split()),
        modality,
        _integer(path, get, "Rows", 0),
        _integer(path, get, "Columns", 0),
        position,
        along,
        _spacing(path, get, position is not None),
        _thickness(path, get),
        slope,
        intercept,
        -1 if signed else 2 ** _bits(path, get) - 1,
        white_is_zero and not _measured(modality, unit),
        white_is_zero,
        _integer(path, get, "SamplesPerPixel", 1) if "PALETTE" not in str(get("PhotometricInterpretation")) else 3,
        _integer(path, get, "InstanceNumber", 0) or None,
        {name: _text(get(name)) for name in TELLING if get(name) not in (None, "")},
    )


def _bits(path: Path, get: Get) -> int:
    """Bits of a stored value."""
    allocated = _integer(path, get, "BitsAllocated", 16)
    stored = _integer(path, get, "BitsStored", allocated)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= allocated:
        raise ValueError(
            f"{shown(path)}: BitsStored is {stored} of {allocated} bits allocated, expected 1 up to 8, 16, 32 or 64; "
            "export the file again."
        )
    return stored


def _measured(modality: str, unit: str) -> bool:
    """Whether values mean something by themselves, whichever way they are shown: Hounsfield units, counts, doses."""
    return modality in ("CT", "PT", "RTDOSE") or unit not in ("", "US")


def _spacing(path: Path, get: Get, placed: bool) -> tuple[float, ...] | None:
    names = ("PixelSpacing",) if placed else ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    for name in names:
        spacing = _numbers(path, get, name, 2)
        if spacing is not None:
            if min(spacing) <= 0:
                raise ValueError(f"{shown(path)}: {name} is {_text(spacing)} mm, expected two positive numbers.")
            return spacing
    if placed:
        raise ValueError(f"{shown(path)} tells no PixelSpacing, so that its size in mm is not known; export it again.")
    return None


def _thickness(path: Path, get: Get) -> float | None:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = _number(path, get, name)
        except ValueError:
            continue
        if value is not None and value > 0:
            return value
    return None


def _number(path: Path, get: Get, name: str) -> float | None:
    values = _numbers(path, get, name, 1)
    return None if values is None else values[0]


def _numbers(path: Path, get: Get, name: str, count: int) -> tuple[float, ...] | None:
    """Finite values of an attribute; None where it is missing or empty."""
    try:
        stored = get(name)
        if stored is None or (isinstance(stored, (str, list)) and len(stored) == 0):
            return None
        values = tuple(np.array(stored, float).reshape(-1).tolist())
    except (ValueError, TypeError, OverflowError) as error:
        expected = "a number" if count == 1 else f"{count} numbers"
        raise ValueError(f"{shown(path)}: {name} is no number, expected {expected}; export it again.") from error
    if len(values) != count or not all(map(math.isfinite, values)):
        expected = "a finite number" if count == 1 else f"{count} finite numbers"
        raise ValueError(f"{shown(path)}: {name} is {_text(values)}, expected {expected}; export the file again.")
    return values


def _integer(path: Path, get: Get, name: str, default: int) -> int:
    value = _number(path, get, name)
    return default if value is None else int(value)


def _text(value: Any) -> str:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        try:
            return f"{float(value):.15g}"
        except (TypeError, ValueError):
            return str(value).strip()
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
