"""DICOM images as volumes: series of single slices, and files of several frames, by the place of each slice.

A value is stored × slope + intercept of its own slice, computed in float64 and rounded once, to float32. MONOCHROME1
only says that large values are to be shown dark. Where values mean something by themselves (Hounsfield units and
whatever else has a rescale type or is CT, PET or dose) they stay as they are; elsewhere (radiographs, mammograms)
they are turned within their range, so that larger is brighter as in a picture.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume.dicom_files import (
    INSTALL,
    SEGMENTATIONS,
    damaged,
    dicom_files,
    has_pydicom,
    is_dicom,
    quiet,
    read_dataset,
    sop_class,
)
from AmbiguousSegLib.volume.dicom_headers import Frame, frames_of
from AmbiguousSegLib.volume.dicom_volumes import chosen, grid_of
from AmbiguousSegLib.volume.file_checks import check_declared, check_file, check_name, shown
from AmbiguousSegLib.volume.itk_errors import one_line_errors

__all__ = ["has_series", "is_dicom", "is_dicom_seg", "read_dicom", "series_files"]

log = logging.getLogger(__name__)

_HIGHEST_HU = 3071  # of 12 bits; most of a scan is below
_RLE = "1.2.840.10008.1.2.5"
_HELD = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


def is_dicom_seg(path: Path | str) -> bool:
    """True for a file that is a DICOM segmentation."""
    path = Path(path)
    return is_dicom(path) and sop_class(path) in SEGMENTATIONS


def has_series(path: Path | str, series: str | None) -> bool:
    """Whether a DICOM folder or file holds the series that ``series`` names, as ``read_dicom`` takes it."""
    path = Path(path)
    if series is None or not (path.is_dir() or is_dicom(path)):
        return False
    return any(frame.series == series.partition(",")[0] for frame in _frames(path)[0])


def series_files(path: Path | str, series: str | None = None) -> list[Path]:
    """Files of the slices that ``read_dicom`` makes a volume of, in their order, each once; none for other formats.

    Raises:
        ValueError, OSError: as ``read_dicom``.
    """
    path = Path(path)
    if not (path.is_dir() or is_dicom(path)):
        return []
    with quiet():
        frames, _ = _frames(path)
        return list(dict.fromkeys(frame.file for frame in chosen(frames, path, series))) if frames else []


def read_dicom(path: Path, series: str | None = None) -> sitk.Image:
    """Volume of a DICOM file, or of the one series in a folder: float32, slices along the normal of their plane.

    Files that are hidden, no DICOM or hold no image are left out; of segmentations this is logged. A file of one slice
    in colour keeps its components.

    Args:
        series: which one, where there are several: see ``dicom_volumes.chosen``.

    Raises:
        ValueError: no image; several volumes, or slices that do not make one, as ``chosen``; pixels that are missing or
            cannot be decoded; several frames without pydicom. One line that names the file. OSError: reading failed.
    """
    with quiet():
        return _read(path, series)


def _read(path: Path, series: str | None) -> sitk.Image:
    frames, segmentations = _frames(path)
    if not frames:
        if segmentations and not path.is_dir():
            raise ValueError(
                f"{shown(path)} is a DICOM segmentation, expected an image; give it as a rater (compare --raters)."
            )
        raise ValueError(f"{shown(path)} holds 0 DICOM series of images. Give a folder with one.")
    for file in segmentations:
        log.info("%s is a segmentation, which is left out of the images.", shown(file))
    ordered = chosen(frames, path, series)
    coloured = next((frame for frame in ordered if frame.colours > 1), None)
    if coloured is not None:
        if len(ordered) > 1:
            raise ValueError(f"{coloured.name} is in colour, expected slices of grey values; give another series.")
        check_file(coloured.file)
        with one_line_errors(coloured.file):
            return sitk.ReadImage(str(coloured.file))
    geometry = grid_of(ordered)
    check_declared(path, int(np.prod(geometry.shape, dtype=object)), 4, None, False)
    volume = np.empty(geometry.shape, np.float32)
    places = {(frame.file, frame.number): z for z, frame in enumerate(ordered)}
    for frame, values in _values(ordered):
        if values.shape != volume.shape[1:]:
            raise ValueError(f"{frame.name} holds pixels of shape {values.shape}, its header says {volume.shape[1:]}.")
        volume[places[frame.file, frame.number]] = values
    _check_inverted(ordered[0], volume)
    return geometry.image(volume)


def _frames(path: Path) -> tuple[list[Frame], list[Path]]:
    """Frames of all images, and the segmentations among the files."""
    files = list(dicom_files(path)) if path.is_dir() else [path]
    if not path.is_dir() and not has_pydicom():
        check_file(path)
    frames, segmentations = [], []
    for file in files:
        own = frames_of(file)
        frames += own
        if not own and sop_class(file) in SEGMENTATIONS:
            segmentations.append(file)
    return frames, segmentations


def _check_inverted(frame: Frame, volume: np.ndarray) -> None:
    """ValueError for CT of MONOCHROME1 whose values were turned before they were stored: they are no HU then."""
    if frame.white_is_zero and frame.modality == "CT" and np.median(volume) > _HIGHEST_HU:
        raise ValueError(
            f"{frame.name} is CT of MONOCHROME1 with a median of {np.median(volume):.6g} HU: values were inverted and "
            "their rescale was not; export the series as MONOCHROME2."
        )


def _values(frames: Sequence[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Values, float64 ``(rows, columns)``, of each frame, file by file."""
    by_file: dict[Path, list[Frame]] = {}
    for frame in frames:
        by_file.setdefault(frame.file, []).append(frame)
    for file, own in by_file.items():
        if has_pydicom():
            for frame, stored in stored_pixels(file, read_dataset(file), own):
                values = stored.astype(np.float64) * frame.slope + frame.intercept
                yield frame, _turned(frame, values) if frame.turned else values
        else:
            check_name(file)
            with one_line_errors(file):
                image = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
            values = image.reshape(image.shape[-2:]).astype(np.float64)
            if own[0].white_is_zero and own[0].ends < 0:
                raise ValueError(f"{shown(file)} is signed MONOCHROME1, which needs pydicom to be read; {INSTALL}.")
            # SimpleITK turns every MONOCHROME1
            yield own[0], _turned(own[0], values) if own[0].white_is_zero and not own[0].turned else values


def _turned(frame: Frame, values: np.ndarray) -> np.ndarray:
    """Values with the lowest and the highest that can be stored exchanged, and all between them."""
    return frame.slope * frame.ends + 2 * frame.intercept - values


def stored_pixels(file: Path, header: Any, frames: Sequence[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Stored pixels ``(rows, columns)`` of frames of one file that pydicom has read.

    Raises:
        ValueError: they are missing, of another size than declared, or cannot be decoded. One line.
    """
    with damaged(file):
        yield from _stored(file, header, frames)


def _stored(file: Path, header: Any, frames: Sequence[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    meta = getattr(header, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed and not syntax.is_deflated:
        check_declared(file, frames[0].rows * frames[0].columns * frames[0].frames, 4, None, False)
        if syntax == _RLE:
            yield from _unpacked(file, header, frames)
            return
        packed = _packed_frames(file, header, frames[0].frames)
        for frame in frames:
            yield frame, _decoded(file, header, packed[frame.number], syntax)
        return
    order = ">" if syntax is not None and not syntax.is_little_endian else "<"
    name = next((name for name in (*_HELD, "PixelData") if name in header), None)
    bits = int(header.get("BitsAllocated") or 16)
    if name is None or (name == "PixelData" and bits not in (1, 8, 16, 32)):
        raise ValueError(
            f"{shown(file)} holds no pixels that can be read ({bits} bits for each); is it complete, and an image?"
        )
    kind = np.dtype(order + _HELD.get(name, f"u{max(bits // 8, 1)}"))
    data, pixels = header[name].value, frames[0].rows * frames[0].columns
    one_bit = name == "PixelData" and bits == 1  # frames then follow each other without a gap
    needed = -(-pixels * frames[0].frames // 8) if one_bit else pixels * frames[0].frames * kind.itemsize
    if not isinstance(data, (bytes, bytearray)) or len(data) < needed:
        held = len(data) if isinstance(data, (bytes, bytearray)) else 0
        raise ValueError(
            f"{shown(file)} is cut off or damaged: its header declares {needed:,} bytes of pixels, it holds {held:,}. "
            "Copy or download it again."
        )
    for frame in frames:
        if one_bit:
            first = frame.number * pixels
            packed_bits = np.frombuffer(data, np.uint8, -(-(first + pixels) // 8) - first // 8, first // 8)
            unpacked = np.unpackbits(packed_bits, bitorder="little")[first % 8 :][:pixels]
            yield frame, unpacked.reshape(frame.rows, frame.columns)
            continue
        raw = np.frombuffer(data, kind, pixels, frame.number * pixels * kind.itemsize)
        values = raw.reshape(frame.rows, frame.columns)
        yield frame, values if name != "PixelData" else _bits_of(values, header, bits)


def _bits_of(raw: np.ndarray, header: Any, allocated: int) -> np.ndarray:
    """The bits that are stored of those allocated, int64: others may hold overlays. With their sign, if they have."""
    stored = int(header.get("BitsStored") or allocated)
    high = int(header.get("HighBit") if header.get("HighBit") is not None else stored - 1)
    values = (raw.astype(np.int64) >> max(high + 1 - stored, 0)) & ((1 << stored) - 1)
    if header.get("PixelRepresentation"):
        values -= (values >> (stored - 1)) << stored
    return values


def _unpacked(file: Path, header: Any, frames: Sequence[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Frames of run lengths, by pydicom: SimpleITK refuses some that are right."""
    stored = header.pixel_array.reshape(frames[0].frames, frames[0].rows, frames[0].columns)
    yield from ((frame, stored[frame.number]) for frame in frames)


def _packed_frames(file: Path, header: Any, count: int) -> list[bytes]:
    """Compressed data of each frame."""
    try:
        from pydicom.encaps import generate_frames

        packed = list(generate_frames(header.PixelData, number_of_frames=count))
    except ImportError:  # pydicom before 3
        from pydicom.encaps import generate_pixel_data_frame

        packed = list(generate_pixel_data_frame(header.PixelData, count))
    if len(packed) < count:
        raise ValueError(f"{shown(file)} is cut off: it holds {len(packed)} of {count} frames. Copy it again.")
    return packed


def _decoded(file: Path, header: Any, packed: bytes, syntax: Any) -> np.ndarray:
    """One compressed frame, decoded by SimpleITK from a file that names no slope, so that pixels stay as stored."""
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    plain = pydicom.Dataset()
    plain.SOPClassUID, plain.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(plain, name, header.get(name))
    plain.PhotometricInterpretation = "MONOCHROME2"
    plain.StudyInstanceUID, plain.SeriesInstanceUID = generate_uid(), generate_uid()
    plain.PixelData = encapsulate([packed])
    plain["PixelData"].is_undefined_length = True
    plain["PixelData"].VR = "OB"
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = syntax
    plain.file_meta.MediaStorageSOPClassUID = plain.SOPClassUID
    plain.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "frame.dcm"
        _save(plain, target)
        with one_line_errors(file):
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(target), imageIO="GDCMImageIO"))
    return image.reshape(image.shape[-2:])


def _save(dataset: Any, path: Path) -> None:
    import pydicom

    if int(pydicom.__version__.split(".")[0]) >= 3:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path, write_like_original=False)
