"""Several raters' segmentations in one file: segments by name, and which of them are raters, which classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.label_maps import as_label_map
from AmbiguousSegLib.labels import segments_are_classes
from AmbiguousSegLib.volume.crops import Crop
from AmbiguousSegLib.volume.dicom_reading import is_dicom, is_dicom_seg
from AmbiguousSegLib.volume.dicom_seg_reading import dicom_segment_names, read_dicom_seg
from AmbiguousSegLib.volume.dicom_structures import is_dicom_structures, read_structures, structure_names
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.headers import read_header
from AmbiguousSegLib.volume.image import components_of, read_image
from AmbiguousSegLib.volume.io import file_stem, label_map_in, on_grid
from AmbiguousSegLib.volume.segment_header import is_segmentation, segments_of

_log = logging.getLogger(__name__)


class Segments(NamedTuple):
    """Masks of a file.

    Attributes:
        masks: by name; bool ``(Z, Y, X)`` of each segment, or the label map of each rater, uint8 ``(Z, Y, X)``.
        grid: of the masks.
        part: they may cover a part of the grid they were drawn on, as those of a segmentation do.
    """

    masks: dict[str, np.ndarray]
    grid: Geometry
    part: bool


def read_segments(path: Path | str, onto: Geometry | None = None) -> Segments:
    """Masks of a file by name, and their grid.

    In a segmentation of Slicer (``.seg.nrrd``) they are its segments, in its order, which may overlap; a name that
    occurs again gets its position in brackets. So are those of a DICOM segmentation, each at the places of its frames,
    and the structures of a DICOM structure set. Any other file holds one binary mask, named as the file.

    Args:
        onto: grid that the masks of a DICOM segmentation are wanted on: see ``dicom_seg_reading``; a structure set
            needs it, see ``dicom_structures``.

    Raises:
        ValueError: a ``.seg.nrrd`` without segments; a layer or label that is no integer, or a layer that the file
            lacks; a file without segments as ``read_mask``.
    """
    masks, grid, part = read_rater_maps(path, ("any",), "raters", onto)
    return Segments({name: mask.view(bool) for name, mask in masks.items()}, grid, part)


def read_rater_maps(
    path: Path | str, labels: Sequence[str], segments_are: str = "auto", onto: Geometry | None = None
) -> Segments:
    """Label map of each rater in a file, by the rater's name, and their grid.

    The segments of a segmentation are the classes of one rater, who is named as the file, or a rater each, as
    ``labels.segments_are_classes`` says; a rater who is a segment marks the first label, which is warned of where
    there are others. In any other file the voxels hold the classes of one rater, as ``read_label_map`` takes them.

    Args:
        labels: names of the classes 1 to K.
        segments_are: "auto" for the rule; "raters" or "classes" to say so instead.
        onto: as ``read_segments``.

    Raises:
        ImportError: a DICOM segmentation or structure set without pydicom.
        ValueError: segments that the rule refuses, or that overlap where they are classes (both are named); values
            that are no classes. Otherwise as ``read_segments``.
    """
    if is_dicom_seg(path):
        segments, grid = read_dicom_seg(path, onto)
        return _raters_in(segments, grid, labels, segments_are, path)
    if is_dicom_structures(path):
        structures = read_structures(path, onto)
        return _raters_in(structures, cast(Geometry, onto), labels, segments_are, path)
    image = read_image(path, labels=True)
    grid = Geometry.of(image)
    if not is_segmentation(image):
        label_map = label_map_in(image, len(labels), path)
        if str(path).lower().endswith(".seg.nrrd") and not label_map.any():  # nobody's: not even an empty segment
            raise ValueError(f"{path} holds no segment; add one in Slicer's Segment Editor, even if it stays empty.")
        return Segments({file_stem(path): label_map}, grid, part=False)
    return _raters_in(_segments_in(image, path), grid, labels, segments_are, path)


def segment_names(path: Path | str) -> list[str] | None:
    """Names of the segments of a file, as ``read_segments`` tells them, by its header; None for a file without any.

    Raises:
        ImportError: a DICOM segmentation or structure set without pydicom.
        ValueError: what cannot be read, as ``read_header``. FileNotFoundError, PermissionError: it cannot be opened.
    """
    path = Path(path)
    if is_dicom_seg(path):
        return _unlike(dicom_segment_names(path))
    if is_dicom_structures(path):
        return _unlike(structure_names(path))
    found = None if is_dicom(path) or path.is_dir() else read_header(path).segments
    return None if found is None else _unlike(found)


def _raters_in(
    segments: list[tuple[str, np.ndarray]], grid: Geometry, labels: Sequence[str], segments_are: str, path: Path | str
) -> Segments:
    """Segments as the classes of one rater, or as raters."""
    try:
        if segments_are_classes([name for name, _ in segments], labels, segments_are):
            masks = dict(segments)
            crops = [Crop.of(masks[name]) if name in masks else Crop.nothing(grid.shape) for name in labels]
            return Segments({file_stem(path): Crop.merged(crops, labels).full()}, grid, part=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(labels) > 1:
        _log.warning("%s: each segment is taken for a rater who marks %s alone.", path, labels[0])
    return Segments({name: as_label_map(mask) for name, mask in _by_name(segments).items()}, grid, part=True)


def read_raters(
    path: Path | str, geometry: Geometry | None, labels: Sequence[str], segments_are: str = "auto"
) -> list[tuple[str, np.ndarray]]:
    """Name and label map, uint8 ``(Z, Y, X)``, of each rater in a file, as ``read_rater_maps`` tells them.

    Args:
        geometry: grid on which the file must lie; a segmentation may cover a part of it. None: the file's own.

    Raises:
        ValueError: another grid. Otherwise as ``read_rater_maps``.
    """
    masks, grid, part = read_rater_maps(path, labels, segments_are, geometry)
    return [(name, on_grid(geometry or grid, mask, grid, part, path)) for name, mask in masks.items()]


def _segments_in(image: sitk.Image, path: Path | str) -> list[tuple[str, np.ndarray]]:
    """Name and mask, bool ``(Z, Y, X)``, of each segment; several may bear one name."""
    layers = components_of(image)
    return [(name, layers[layer] == label) for name, layer, label in segments_of(image, len(layers), path)]


def _by_name(segments: Sequence[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Segments by names that differ."""
    return dict(zip(_unlike([name for name, _ in segments]), [mask for _, mask in segments]))


def _unlike(names: Sequence[str]) -> list[str]:
    """Names that differ: one that occurs again gets its position in brackets."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        while name in found:
            name += f" ({number})"
        found.append(name)
    return found
