"""Reading any image as a volume: files of many formats, pictures, DICOM folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume.dicom_reading import is_dicom, read_dicom
from AmbiguousSegLib.volume.file_checks import check_file, shown
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.itk_errors import one_line_errors, reason
from AmbiguousSegLib.volume.nifti_checks import check_nifti, is_nifti, permissive
from AmbiguousSegLib.volume.nrrd_checks import check_meta_image, check_nrrd
from AmbiguousSegLib.volume.pictures import check_kind, is_picture, read_picture

__all__ = ["components_of", "one_line_errors", "read_image", "reason"]


def read_image(path: Path | str, series: str | None = None, labels: bool = False) -> sitk.Image:
    """Any image as a 3-D SimpleITK image with its geometry.

    ``path`` is a file SimpleITK reads (NRRD, NIfTI, MetaImage …), a picture (PNG, JPEG, TIFF, BMP), a DICOM file of one
    or several frames or a folder with the files of a DICOM series; of DICOM, values are float32 as ``dicom_reading``
    says. A 2-D image becomes a volume of one slice, a 4-D image with one time point loses that axis. Colour and vector
    images keep their components. What pictures call resolution is meant for printing, so their spacing is always 1 mm;
    they stand upright, and have true values, as ``pictures.read_picture`` says.

    Args:
        series: which volume of a folder or file with several, as the message that lists them names it; for DICOM only.
        labels: the file holds labels, as ``pictures.read_picture`` takes it.

    Raises:
        FileNotFoundError: nothing is there. PermissionError, OSError: the file cannot be opened.
        ValueError: not an image, cut off, several time points, complex numbers, a picture with transparency; a FIFO,
            device or socket, a name that is not UTF-8; more declared than the file can hold or memory can take; data
            that does not agree with its checksum; a grid that is sheared, or of a spacing that is not positive; NaN or
            infinity in NIfTI, which has no other way to be noticed; DICOM that ``dicom_reading`` refuses, pictures that
            ``pictures`` refuses.
    """
    path = Path(path)
    if path.is_dir() or is_dicom(path):
        image = read_dicom(path, series)
    elif series is not None:
        raise ValueError(f"{shown(path)} is not DICOM, so it has no series {series} to choose.")
    else:
        check_file(path)
        image = read_picture(path, labels) if is_picture(path) else _read_file(path)
    image = _as_volume(image, path)
    try:
        Geometry.of(image)
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error
    return image


def _read_file(path: Path) -> sitk.Image:
    check_kind(path)
    name = path.name.lower()
    nifti = check_nifti(path) if is_nifti(path) else None
    if name.endswith((".nrrd", ".nhdr")):
        check_nrrd(path)
    elif name.endswith((".mha", ".mhd")):
        check_meta_image(path)
    with permissive(nifti), one_line_errors(path):
        image = sitk.ReadImage(str(path))
    if nifti is not None and nifti.direction is not None and image.GetDimension() == 3:
        image.SetDirection(nifti.direction)
    return image


def _as_volume(image: sitk.Image, path: Path) -> sitk.Image:
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{path} holds complex numbers; give their magnitude.")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = sitk.Extract(image, [*image.GetSize()[:3], 0])
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise ValueError(f"{path} has the size {image.GetSize()}, expected a 2-D or 3-D image; choose one time point.")
    return image


class _Held:
    """Voxels of an image, for ``np.asarray``: the array then keeps the image, in whose memory they are."""

    def __init__(self, image: sitk.Image) -> None:
        self.image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


def components_of(image: sitk.Image) -> list[np.ndarray]:
    """Views ``(Z, Y, X)``, one per component; not to be written to."""
    array = np.asarray(_Held(image))
    return [array] if array.ndim == 3 else [array[..., k] for k in range(array.shape[-1])]
