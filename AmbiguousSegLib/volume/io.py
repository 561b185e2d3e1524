"""Reading volumes, masks and label maps; ``segments`` reads several raters' files, ``writing`` is the way back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.label_maps import as_label_map
from AmbiguousSegLib.volume.dicom_reading import has_series
from AmbiguousSegLib.volume.file_checks import check_file, shown
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.image import components_of, one_line_errors, read_image
from AmbiguousSegLib.volume.nrrd_checks import check_header_length
from AmbiguousSegLib.volume.pictures import is_picture, picture_header
from AmbiguousSegLib.volume.segment_header import is_segmentation

__all__ = [
    "file_stem",
    "is_flat",
    "label_map_in",
    "on_grid",
    "placed_on",
    "read_label_map",
    "read_mask",
    "read_volume",
]

_AS_STORED = {np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")}
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}


def read_volume(paths: Sequence[Path | str] | Path | str, series: str | None = None) -> tuple[np.ndarray, Geometry]:
    """Channels of one case, ``(C, Z, Y, X)``, and their common grid.

    Each file gives one channel, or one per component (red, green, blue), in the order given. Values are as stored: in
    integers of 8 or 16 bits where all channels are of one such type, which then tells their full scale, else float32.

    Args:
        series: which volume of a DICOM folder or file with several, as the message that lists them names it; of
            several paths it is that of the one that has it.

    Raises:
        ValueError: no file; a segmentation; grids that differ (both files and the property are named); a channel that
            holds NaN or infinity, or one value only. Otherwise as ``read_image``.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise ValueError("No image was given; give one file for each channel.")
    if series is not None and len(paths) > 1 and not any(has_series(path, series) for path in paths):
        raise ValueError(f"None of {', '.join(map(shown, paths))} holds the series {series}; choose one that is there.")
    images = [read_image(path, series if len(paths) == 1 or has_series(path, series) else None) for path in paths]
    for path, image in zip(paths, images):
        if is_segmentation(image):
            raise ValueError(f"{shown(path)} is a segmentation, expected an image; give it as a rater.")
    grids = [Geometry.of(image) for image in images]
    for path, grid in zip(paths, grids):
        if not grids[0].same_in_files(grid):
            raise ValueError(
                f"{paths[0]} and {path} do not share a grid: {grids[0].difference(grid)}. "
                "Resample one of them onto the other."
            )
    parts = [components_of(image) for image in images]
    kinds = {part[0].dtype for part in parts}
    kind = next(iter(kinds)) if len(kinds) == 1 and kinds <= _AS_STORED else np.dtype(np.float32)
    channels = []
    for path, components in zip(paths, parts):
        for number, stored in enumerate(components, 1):
            name = f"{path}" if len(components) == 1 else f"{path}, component {number} of {len(components)},"
            with np.errstate(over="ignore"):
                channel = stored.astype(kind)
            low, high = channel.min(), channel.max()  # a NaN survives min and max
            if not np.isfinite([low, high]).all():
                raise ValueError(f"{name} holds NaN or infinite values; replace them before use.")
            if low == high:
                raise ValueError(f"{name} holds the single value {low:g} everywhere; is it the intended image?")
            channels.append(channel)
    return np.stack(channels), grids[0]


def read_mask(path: Path | str, geometry: Geometry | None = None, threshold: float | None = None) -> np.ndarray:
    """Binary mask, bool ``(Z, Y, X)``; all False is a valid mask ("nothing there").

    Without ``threshold`` the file must hold 0 and at most one positive value; of a picture with a palette, the numbers
    of its colours count. With it (a share of full scale in (0, 1): 0.5 for masks kept as JPEG) voxels above
    ``threshold`` × full scale are True, full scale being 255, 65535 or, for floats, 1. A colour file must say the same
    in each colour. With ``geometry`` the file must lie on that grid; one with segments (``.seg.nrrd``), which Slicer
    crops to them, may cover a part of it and is padded with False
    (Slicer saves an empty one without any grid).

    Raises:
        ValueError: more than two values, colours that disagree, a grid other than ``geometry``, a threshold outside
            (0, 1) or for a type without full scale. Otherwise as ``read_image``.
    """
    image = read_image(path, labels=threshold is None)
    mask = _binary(components_of(image), threshold, path)
    if geometry is None:
        return mask
    return on_grid(geometry, mask, Geometry.of(image), is_segmentation(image), path)


def read_label_map(path: Path | str, geometry: Geometry | None = None, classes: int = 1) -> np.ndarray:
    """Label map, uint8 ``(Z, Y, X)``, of a file that holds one: 0 background, 1 to K the classes.

    One class is any one positive value, as ``read_mask`` without a threshold takes it. Of several, each voxel holds
    the number of its class; a class may be missing.

    Args:
        geometry: grid on which the file must lie; None: any.
        classes: number of classes K.

    Raises:
        ValueError: other values, colours that disagree, another grid; segments in place of several classes, which
            ``read_raters`` tells by their names. Otherwise as ``read_image``.
    """
    image = read_image(path, labels=True)
    segments = is_segmentation(image)
    if segments and classes > 1:
        raise ValueError(f"{path} holds segments, which are identified by name; read it with read_raters.")
    label_map = label_map_in(image, classes, path)
    return label_map if geometry is None else on_grid(geometry, label_map, Geometry.of(image), segments, path)


def is_flat(path: Path | str) -> bool:
    """True for a 2-D file, such as a picture: it does not tell where it lies along the third axis."""
    if Path(path).is_dir():
        return False
    check_file(path)
    if is_picture(Path(path)):
        return picture_header(Path(path)).shape[0] == 1
    check_header_length(Path(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with one_line_errors(Path(path)):
        reader.ReadImageInformation()
    return reader.GetDimension() == 2


def placed_on(geometry: Geometry, mask: np.ndarray, grid: Geometry, part: bool = True) -> np.ndarray | None:
    """A mask on ``grid`` as one on ``geometry``, both ``(Z, Y, X)`` of one type; None if it would move or lose a voxel.

    With ``part``, ``grid`` may be a part of ``geometry``; the rest is 0. An empty mask is then empty on any grid.
    """
    if geometry.same_in_files(grid):
        return mask
    if not part:
        return None
    if not mask.any():
        return np.zeros(geometry.shape, mask.dtype)
    first = np.round(geometry.to_index(grid.origin_mm)).astype(int)
    last = first + grid.size
    there = Geometry(grid.size, geometry.spacing_mm, tuple(geometry.to_mm(first)), geometry.direction)
    if np.any(first < 0) or np.any(last > geometry.size) or not there.same_in_files(grid):
        return None
    placed = np.zeros(geometry.shape, mask.dtype)
    placed[tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1]))] = mask
    return placed


def file_stem(path: Path | str) -> str:
    """Name of a file without the endings that tell its format: ``A.seg.nrrd`` and ``A.nii.gz`` are ``A``."""
    name = Path(path).name
    for ending in (".seg.nrrd", ".nii.gz", ".nii", ".nrrd"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(path).stem


def on_grid(geometry: Geometry, mask: np.ndarray, grid: Geometry, part: bool, path: Path | str) -> np.ndarray:
    """``placed_on``, or ValueError that names the file and where its grid differs."""
    placed = placed_on(geometry, mask, grid, part)
    if placed is None:
        raise ValueError(
            f"{path} does not lie on the grid of its image: {geometry.difference(grid)}. Resample the mask onto the "
            "image."
        )
    return placed


def label_map_in(image: sitk.Image, classes: int, path: Path | str) -> np.ndarray:
    """The label map, uint8 ``(Z, Y, X)``, that an image's voxels hold, as ``read_label_map`` takes them."""
    components = components_of(image)
    if classes == 1:
        return as_label_map(_binary(components, None, path))
    for c in components:
        if not (c.min() >= 0 and c.max() <= classes and (c.dtype.kind in "iu" or np.array_equal(c, np.rint(c)))):
            raise ValueError(
                f"{path} is not a label map of {classes} classes: it holds {_some_values(c)}. Expected integers, 0 for "
                f"background and 1 to {classes} for the classes."
            )
    return _one_of([c.astype(np.uint8) for c in components], path)


def _binary(components: list[np.ndarray], threshold: float | None, path: Path | str) -> np.ndarray:
    stored = components[0].dtype.name
    if threshold is not None:
        if not 0 < threshold < 1 or stored not in _FULL_SCALE:
            raise ValueError(
                f"{path}: a threshold is a share of full scale in (0, 1) of 8-bit, 16-bit unsigned or float data, "
                f"got {threshold} for {stored}."
            )
        masks = [c > threshold * _FULL_SCALE[stored] for c in components]
    else:
        jpeg = str(path).lower().endswith((".jpg", ".jpeg"))
        for c in components:
            top = 255 if jpeg and c.any() else c.max()  # what is not 0 or 255 in a JPEG is a trace of compression
            if not 0 <= top < np.inf or not np.all((c == 0) | (c == top)):
                raise ValueError(
                    f"{path} is not a binary mask: it holds {_some_values(c)}. Expected 0 and one positive value; "
                    "choose one label, or pass threshold=0.5 to cut grey values (JPEG) at half of full scale."
                )
        masks = [c != 0 for c in components]
    return _one_of(masks, path)


def _one_of(masks: list[np.ndarray], path: Path | str) -> np.ndarray:
    if any(not np.array_equal(masks[0], other) for other in masks[1:]):
        raise ValueError(f"{path} holds {len(masks)} colours or layers that differ; save one mask as one grey image.")
    return masks[0]


def _some_values(array: np.ndarray) -> str:
    values = np.unique(array)
    return f"{len(values)} values ({', '.join(f'{v:g}' for v in values[:5])}{', …' if len(values) > 5 else ''})"
