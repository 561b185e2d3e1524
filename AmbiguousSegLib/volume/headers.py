"""What the header of an image file says, read without its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.volume.file_checks import check_file, shown
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.itk_errors import one_line_errors
from AmbiguousSegLib.volume.nifti_checks import is_nifti, nifti_header, permissive
from AmbiguousSegLib.volume.nrrd_checks import check_header_length
from AmbiguousSegLib.volume.pictures import check_kind, is_picture, picture_header
from AmbiguousSegLib.volume.segment_header import is_segmentation, segments_of


@dataclass(frozen=True)
class ImageHeader:
    """What ``read_image`` will give.

    Attributes:
        channels: components of a pixel; a picture's alpha channel, which must be opaque, does not count.
        segments: names of the segments of a Slicer segmentation, in its order; None for any other file.
    """

    geometry: Geometry
    channels: int
    segments: tuple[str, ...] | None


def read_header(path: Path) -> ImageHeader:
    """Header of a file that is not DICOM, as ``read_image`` takes it; a fraction of a millisecond, whatever its size.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ValueError: not an image, several time points, a grid that ``Geometry`` refuses. One line that names the file.
    """
    check_file(path)
    if is_picture(path):
        picture = picture_header(path)
        upright = np.eye(3).ravel().tolist()
        grid = Geometry(picture.upright_shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(upright))
        return ImageHeader(grid, picture.components, None)
    check_kind(path)
    check_header_length(path)
    nifti = nifti_header(path) if is_nifti(path) else None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with permissive(nifti), one_line_errors(path):
        reader.ReadImageInformation()
    dimensions, size = reader.GetDimension(), reader.GetSize()
    if not 2 <= dimensions <= 4 or (dimensions == 4 and size[3] != 1):
        raise ValueError(f"{path} has the size {size}, expected a 2-D or 3-D image; choose one time point.")
    known, matrix = min(dimensions, 3), np.reshape(reader.GetDirection(), (dimensions, dimensions))
    axes = np.eye(3)
    axes[:known, :known] = matrix[:known, :known]
    if nifti is not None and nifti.direction is not None and dimensions == 3:
        axes = np.reshape(nifti.direction, (3, 3))
    nx, ny, nz = [*size, 1][:3]
    dx, dy, dz = [*reader.GetSpacing(), 1.0][:3]
    x, y, z = [*reader.GetOrigin(), 0.0][:3]
    channels = reader.GetNumberOfComponents()
    try:
        grid = Geometry((nx, ny, nz), (dx, dy, dz), (x, y, z), tuple(axes.ravel().tolist()))
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error
    found = tuple(name for name, *_ in segments_of(reader, channels, path)) if is_segmentation(reader) else None
    return ImageHeader(grid, channels, found)
