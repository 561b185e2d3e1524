"""DICOM files on disk: which they are, and their attributes by pydicom or, where it is not installed, SimpleITK."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from AmbiguousSegLib.volume.file_checks import check_name, shown
from AmbiguousSegLib.volume.itk_errors import one_line_errors

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # binary or fractional; label map
INSTALL = "install it by 'pip install pydicom' (in Slicer it is there already)"
_ENDINGS = (".dcm", ".dicom", ".ima")  # of files that say of themselves that they are DICOM
_GROUPS = (b"\x02\x00", b"\x08\x00")  # that a file without the usual preamble begins with
_TAGS = {  # for SimpleITK
    **{"SOPClassUID": "0008|0016", "SeriesInstanceUID": "0020|000e", "Modality": "0008|0060", "Rows": "0028|0010"},
    **{"Columns": "0028|0011", "NumberOfFrames": "0028|0008", "ImagePositionPatient": "0020|0032"},
    **{"ImageOrientationPatient": "0020|0037", "PixelSpacing": "0028|0030", "SliceThickness": "0018|0050"},
    **{"SpacingBetweenSlices": "0018|0088", "ImagerPixelSpacing": "0018|1164", "InstanceNumber": "0020|0013"},
    **{"NominalScannedPixelSpacing": "0018|2010", "RescaleSlope": "0028|1053", "RescaleIntercept": "0028|1052"},
    **{"RescaleType": "0028|1054", "PhotometricInterpretation": "0028|0004", "SamplesPerPixel": "0028|0002"},
    **{"BitsStored": "0028|0101", "PixelRepresentation": "0028|0103", "SeriesDescription": "0008|103e"},
    **{"ImageType": "0008|0008", "EchoNumbers": "0018|0086", "EchoTime": "0018|0081", "TriggerTime": "0018|1060"},
    **{"TemporalPositionIdentifier": "0020|0100", "DiffusionBValue": "0018|9087", "InversionTime": "0018|0082"},
    **{"FlipAngle": "0018|1314", "AcquisitionNumber": "0020|0012", "FrameReferenceTime": "0054|1300"},
    **{"AcquisitionTime": "0008|0032", "ContentTime": "0008|0033", "ConvolutionKernel": "0018|1210"},
    **{"SOPInstanceUID": "0008|0018", "BitsAllocated": "0028|0100", "PatientID": "0010|0020"},
}
Get = Callable[[str], Any]
"""Value of an attribute by its keyword; None where it is missing."""


def is_dicom(path: Path) -> bool:
    """True for a file on disk that begins as DICOM files do; False for anything that cannot be read."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError:
        return False
    begins_so = len(head) == 132 and head[:2] in _GROUPS and head[3:4] == b"\x00" and head[4:6].isalpha()
    return head[128:] == b"DICM" or begins_so


def dicom_files(folder: Path) -> Iterator[Path]:
    """DICOM files in a folder by their names: hidden ones (``._x``, ``.DS_Store``) are left out, links followed.

    Several links to one file give it once.

    Raises:
        ValueError: a link to nothing; a file beside others that is named as DICOM and is none: a slice would be
            missing. PermissionError: the folder, or a file, may not be read.
    """
    seen, none = set(), None
    try:
        paths = sorted(folder.iterdir(), key=os.fsencode)
    except OSError as error:
        raise type(error)(f"{shown(folder)} cannot be read ({error.strerror}); check its permission.") from error
    for path in paths:
        if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        if path.is_symlink() and not path.exists():
            raise ValueError(f"{shown(path)} is a link to nothing; copy the file that it should lead to.")
        if not path.is_file():
            continue
        if not os.access(path, os.R_OK):
            raise PermissionError(f"{shown(path)} cannot be opened; check its permission.")
        status = path.stat()
        if not is_dicom(path):
            none = path if none is None and path.suffix.lower() in _ENDINGS else none
        elif (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path
    if seen and none is not None:
        raise ValueError(
            f"{shown(none)} is named as DICOM and does not begin so ({none.stat().st_size} bytes); copy or export it "
            "again, or take it out of the folder."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings of odd values, which may be names of patients, off terminal and logs."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn what pydicom raises for damaged files, exceptions of many kinds, into one line that names the file."""
    try:
        yield
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        told = str(error)
        if isinstance(error, ValueError) and shown(path) in told and "\n" not in told:
            raise
        raise ValueError(f"{shown(path)} is damaged DICOM ({line_of(error)}); copy or export it again.") from error


def read_dataset(path: Path, pixels: bool = True) -> Any:
    """A file by pydicom, which must be installed; ValueError or OSError that names the file if it cannot be read."""
    import pydicom

    try:
        with quiet(), damaged(path):
            return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    except OSError as error:
        raise OSError(f"{shown(path)} cannot be read ({error.strerror or error}); check the file.") from error


def has_pydicom() -> bool:
    """Whether pydicom is installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return False
    return True


def sop_class(path: Path) -> str:
    """Kind of a DICOM file, as its UID."""
    if has_pydicom():
        with quiet(), damaged(path):
            return str(read_dataset(path, pixels=False).get("SOPClassUID", ""))
    return str(by_simpleitk(path)("SOPClassUID") or "")


def by_simpleitk(path: Path) -> Get:
    """Attributes at the top of a file by their keywords, as text; None for those it lacks."""
    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    with one_line_errors(path):
        reader.ReadImageInformation()

    def get(name: str) -> Any:
        tag = _TAGS.get(name)
        if tag is None or not reader.HasMetaDataKey(tag):
            return None
        parts = [part.strip(" \0") for part in reader.GetMetaData(tag).split("\\")]
        return parts[0] if len(parts) == 1 else parts

    return get


def line_of(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__
