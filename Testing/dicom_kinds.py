"""DICOM files of the kinds that were read wrongly, made here: single slices, several frames, compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

ROWS, COLUMNS = 6, 8
STUDY, FRAME_OF_REFERENCE = generate_uid(), generate_uid()
STRAIGHT = (1, 0, 0, 0, 1, 0)


def pixels(seed: int, low: int = 0, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (ROWS, COLUMNS))


def _image(stored: np.ndarray, kind: str, signed: bool, bits: int = 16) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = kind, generate_uid()
    d.StudyInstanceUID, d.FrameOfReferenceUID, d.Modality = STUDY, FRAME_OF_REFERENCE, "CT"
    d.PatientID = d.PatientName = "nobody"
    d.Rows, d.Columns = stored.shape[-2:]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, bits, bits - 1, int(signed)
    d.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    return d


def slice_file(
    path: Path,
    stored: np.ndarray,
    z: float,
    series: str,
    slope: float = 1,
    intercept: float = 0,
    signed: bool = False,
    **changes: object,
) -> Path:
    """One slice at (0, 0, z); ``changes`` of attributes, None takes one away."""
    d = _image(stored, CTImageStorage, signed)
    d.SeriesInstanceUID, d.InstanceNumber = series, round(z) + 1
    d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing = [0, 0, z], list(STRAIGHT), [0.5, 0.75]
    d.SliceThickness, d.RescaleSlope, d.RescaleIntercept = 2, slope, intercept
    for name, value in changes.items():
        if value is None:
            del d[name]
        else:
            setattr(d, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path


def stack(folder: Path, count: int = 5, series: str | None = None, prefix: str = "s", per=lambda k: {}) -> np.ndarray:
    """Slices 2 mm apart; the values they hold, float64 ``(Z, Y, X)``. ``per``: arguments of slice k."""
    series, values = series or generate_uid(), []
    for k in range(count):
        more = {"stored": pixels(k), "z": 2.0 * k, "series": series} | per(k)
        slice_file(folder / f"{prefix}{k:03d}.dcm", **more)
        values.append(more["stored"] * float(more.get("slope", 1)) + float(more.get("intercept", 0)))
    return np.stack(values) if len({v.shape for v in values}) == 1 else np.empty(0)


def group(**attributes: object) -> Sequence:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(path: Path, stored: np.ndarray, places: list, slopes: list | None = None, per=lambda k: {}) -> Path:
    """Frames ``(F, Y, X)`` at their places in one file; a slope for each, or one for all. ``per``: more groups."""
    d = _image(stored, EnhancedCTImageStorage, False)
    d.SeriesInstanceUID, d.InstanceNumber, d.NumberOfFrames = generate_uid(), 1, len(stored)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=list(STRAIGHT))
    shared.PixelMeasuresSequence = group(PixelSpacing=[0.5, 0.75], SliceThickness=2)
    if slopes is None:
        shared.PixelValueTransformationSequence = group(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    frames = []
    for k, place in enumerate(places):
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=list(place))
        if slopes is not None:
            frame.PixelValueTransformationSequence = group(
                RescaleSlope=slopes[k], RescaleIntercept=-1024, RescaleType="HU"
            )
        for name, value in per(k).items():
            setattr(frame, name, value)
        frames.append(frame)
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    d.save_as(path, enforce_file_format=True)
    return path
