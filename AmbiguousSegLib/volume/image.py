"""Reading any image as a volume: files of many formats, pictures, DICOM folders."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_PICTURES = ("PNGImageIO", "JPEGImageIO", "TIFFImageIO", "BMPImageIO")  # made for screens, know no patient
_SERIES_TOLERANCE = 0.05  # of the slice distance: larger steps of the positions mean missing slices or a tilt


def read_image(path: Path | str) -> sitk.Image:
    """Any image as a 3-D SimpleITK image with its geometry.

    ``path`` is a file SimpleITK reads (NRRD, NIfTI, MetaImage, PNG, JPEG, TIFF, BMP, one DICOM file) or a folder with
    the files of one DICOM series. A 2-D image becomes a volume of one slice, a 4-D image with one time point loses
    that axis. Colour and vector images keep their components. What pictures (PNG, JPEG, TIFF, BMP) call resolution is
    meant for printing, so their spacing is always 1 mm; an alpha channel that is opaque everywhere is dropped.

    Raises:
        FileNotFoundError: nothing is there. PermissionError, OSError: the file cannot be opened.
        ValueError: not an image, cut off, several time points, complex numbers, a picture with transparency; a folder
            with no or several DICOM series, with missing slices, or with slices sheared by a tilted gantry.
    """
    path = Path(path)
    if path.is_dir():
        image, reader = _read_series(path), "GDCMImageIO"
    else:
        open(path, "rb").close()  # says what is wrong with a path better than SimpleITK does
        with one_line_errors(path):
            image, reader = sitk.ReadImage(str(path)), sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        if _is_cut_off(path, image):
            raise ValueError(f"{path} is cut off: data is missing at its end. Copy or download it again.")
    return _as_volume(image, reader in _PICTURES, path)


def _read_series(folder: Path) -> sitk.Image:
    with one_line_errors(folder):
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        files = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series]
        if len(series) != 1:
            found = "; ".join(f"{uid} ({len(f)} files, e.g. {Path(f[0]).name})" for uid, f in zip(series, files))
            raise ValueError(
                f"{folder} holds {len(series)} DICOM series, expected one. "
                + (f"Move the wanted one to a folder of its own: {found}." if series else "Give a folder with one.")
            )
        if len(files[0]) == 1:
            return sitk.ReadImage(files[0][0])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files[0])
        reader.MetaDataDictionaryArrayUpdateOn()
        image = reader.Execute()
    if not all(reader.HasMetaDataKey(i, "0020|0032") for i in range(len(files[0]))):
        raise ValueError(f"{folder}: the DICOM files give no slice positions, so they do not form a volume.")
    positions = np.array([reader.GetMetaData(i, "0020|0032").split("\\") for i in range(len(files[0]))], float)
    steps = np.diff(positions, axis=0)
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    along = steps @ normal
    allowed = _SERIES_TOLERANCE * abs(np.median(along))
    if not np.ptp(along) < allowed:
        raise ValueError(
            f"{folder}: slices are missing, doubled or unevenly spaced (steps from {along.min():.4g} to "
            f"{along.max():.4g} mm); complete the series, or load it in Slicer and export a regular volume."
        )
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > allowed:
        raise ValueError(
            f"{folder}: slices are shifted against each other (tilted gantry); load the series in Slicer with "
            "acquisition geometry regularization and export the corrected volume."
        )
    return image


def _as_volume(image: sitk.Image, picture: bool, path: Path) -> sitk.Image:
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{path} holds complex numbers; give their magnitude.")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = sitk.Extract(image, [*image.GetSize()[:3], 0])
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise ValueError(f"{path} has the size {image.GetSize()}, expected a 2-D or 3-D image; choose one time point.")
    if picture:
        image.SetSpacing((1.0, 1.0, 1.0))
        if image.GetNumberOfComponentsPerPixel() == 4:
            alpha = components_of(image)[3]
            if alpha.min() < np.iinfo(alpha.dtype).max:
                raise ValueError(f"{path} is partly transparent; save it without an alpha channel.")
            image = sitk.Compose([sitk.VectorIndexSelectionCast(image, k) for k in range(3)])
    return image


def components_of(image: sitk.Image) -> list[np.ndarray]:
    """Views ``(Z, Y, X)``, one per component."""
    array = sitk.GetArrayViewFromImage(image)
    return [array] if array.ndim == 3 else [array[..., k] for k in range(array.shape[-1])]


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Keep ITK's warnings off the terminal and turn its exceptions, a page each, into one line."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{path} is not a readable image ({reason(error)}); is it complete, and an image?") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def reason(error: RuntimeError) -> str:
    """What an exception of ITK says happened, without the lines around it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    while lines[-1].startswith("Reason:"):  # ITK adds the last error of the system, often of another call
        lines.pop()
    return re.sub(r"^.*ERROR:\s*(\w+\(0x\w+\):\s*)?", "", lines[-1]).strip()


def _is_cut_off(path: Path, image: sitk.Image) -> bool:
    """True where SimpleITK has read zeros or grey for data that is missing at the end of the file."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head[:2] == b"\xff\xd8":  # JPEG: an "end of image" must follow the last "start of scan"
        data = path.read_bytes()
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    size = path.stat().st_size
    if head[:2] == b"BM":  # BMP: the file's size follows
        return size < int.from_bytes(head[2:], "little")
    if head[:2] == b"\x1f\x8b":  # gzip: only its end tells
        try:
            with gzip.open(path) as stream:
                size = sum(iter(lambda: len(stream.read(1 << 22)), 0))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return True
    if path.name.lower().endswith((".nii", ".nii.gz")):
        shape = [int(image.GetMetaData(f"dim[{k}]")) for k in range(1, 1 + int(image.GetMetaData("dim[0]")))]
        return size < float(image.GetMetaData("vox_offset")) + math.prod(shape) * int(image.GetMetaData("bitpix")) / 8
    return False
