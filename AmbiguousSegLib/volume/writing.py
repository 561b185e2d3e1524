"""Writing volumes and segmentations that 3D Slicer and other programs open; all of a file or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.label_maps import as_label_map
from AmbiguousSegLib.labels import Label, check_labels
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.image import read_image, reason
from AmbiguousSegLib.volume.segment_header import header_of

_STORED_TYPES = (bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def write_volume(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write ``array`` ``(Z, Y, X)`` as compressed NRRD, in its own type (bool as uint8); all of it or nothing.

    Raises:
        ValueError: a name that does not end in ``.nrrd``, a shape other than the grid's, a type NRRD does not hold.
        OSError: the file could not be written; a file that was there before is unchanged.
    """
    if not str(path).lower().endswith(".nrrd"):
        raise ValueError(f"A volume is written as NRRD, got the name {path}; let it end in .nrrd.")
    if array.dtype not in _STORED_TYPES:
        raise ValueError(f"NRRD does not hold {array.dtype}; convert the volume to float32 first.")
    write_image(path, geometry.image(array))


def write_segmentation(
    path: Path | str,
    label_map: np.ndarray,
    geometry: Geometry,
    labels: Sequence[Label],
    ids: Sequence[str] = (),
) -> None:
    """Write a label map, uint8 ``(Z, Y, X)``, as a Slicer segmentation (``.seg.nrrd``); all of it or nothing.

    Each label is a segment of its name, colour and terminology, in one layer whose values are 1 to K. The whole grid
    is stored, and named as reference geometry, so that Slicer keeps it when it saves the segmentation again.

    Args:
        label_map: 0 background, 1 to K the ``labels``; a bool mask is one of one class.
        ids: of the segments; by default Segment_1 to Segment_K, as Slicer names them.

    Raises:
        ValueError: another file name, a mask of another type or not of the grid's shape, a value beyond K, labels that
            ``check_labels`` refuses, ids that are empty, not different or not as many. OSError: as ``write_volume``.
    """
    if not str(path).lower().endswith(".seg.nrrd"):
        raise ValueError(f"A segmentation is written as .seg.nrrd, got the name {path}; let it end in .seg.nrrd.")
    check_labels(labels)
    label_map = as_label_map(label_map)
    ids = ids or [f"Segment_{k}" for k in range(1, 1 + len(labels))]
    if len(ids) != len(labels) or len(set(ids)) < len(ids) or not all(ids):
        raise ValueError(f"{len(labels)} segments need as many different ids, got {', '.join(map(repr, ids))}.")
    image = geometry.image(label_map)
    if (top := int(label_map.max())) > len(labels):
        raise ValueError(f"The mask holds the label {top}, but there are {len(labels)}; name every label.")
    for key, value in header_of(label_map, geometry, labels, ids).items():
        image.SetMetaData(key, value)
    write_image(path, image)


def write_nifti(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write ``array`` ``(Z, Y, X)`` as NIfTI (``.nii.gz``, ``.nii``), in its own type (bool as uint8); all or nothing.

    On a full disk SimpleITK leaves a compressed file cut off without a word: what was written is read back.

    Raises:
        ValueError: another file name, a shape other than the grid's, a type NIfTI does not hold, NaN or infinity.
        OSError: the file could not be written, or does not hold what it should; a file that was there before is
            unchanged.
    """
    if not str(path).lower().endswith((".nii.gz", ".nii")):
        raise ValueError(f"Expected a name that ends in .nii.gz or .nii, got {path}.")
    if array.dtype not in _STORED_TYPES:
        raise ValueError(f"NIfTI does not hold {array.dtype}; convert the volume to float32 first.")
    if not np.isfinite(array).all():
        raise ValueError("Readers of NIfTI take NaN and infinite values for 0; replace them, or write NRRD.")
    image = geometry.image(array)
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            written = read_image(temporary)
        except (RuntimeError, ValueError) as error:
            told = reason(error) if isinstance(error, RuntimeError) else "what was written cannot be read"
            raise _unwritten(path, temporary, told) from error
        same = geometry.same_in_files(Geometry.of(written)) and np.array_equal(
            sitk.GetArrayViewFromImage(written), sitk.GetArrayViewFromImage(image)
        )
        if not same:
            raise OSError(f"{path} does not hold what was written; check space and permission, or write NRRD.")


def write_image(path: Path | str, image: sitk.Image, compress: bool = True) -> None:
    """Write an image of SimpleITK in the format of the name; all of it or nothing.

    Raises:
        OSError: the file could not be written, with the system's number and reason, such as a full disk; a file that
            was there before is unchanged.
    """
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=compress)
        except RuntimeError as error:
            raise _unwritten(path, temporary, reason(error)) from error


def _unwritten(path: Path | str, temporary: Path, told: str) -> OSError:
    """Why SimpleITK stopped, as the system says it of more bytes in the same place; what it ``told`` is vague."""
    try:
        with open(temporary, "ab") as file:
            file.write(bytes(2**16))
    except OSError as error:
        return OSError(error.errno, error.strerror, str(path))
    return OSError(f"{path} could not be written ({told}); check space and permission.")
