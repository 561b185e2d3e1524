"""Reading images and masks as volumes, and writing volumes and segmentations that 3D Slicer opens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from AmbiguousSegLib.files import replacing
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.image import components_of, one_line_errors, read_image, reason
from AmbiguousSegLib.volume.segment_header import header_of, is_segmentation, segments_of

LESION_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~SCT^52988006^Lesion~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)  # Slicer's TerminologyEntry: context~category~type~modifier~anatomic context~region~modifier

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
_STORED_TYPES = (bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
_GRID_TOLERANCE = 0.01  # grids of two files are one when corners agree to this share of a voxel


def read_channels(paths: Sequence[Path | str] | Path | str) -> tuple[np.ndarray, Geometry]:
    """Channels of one case, float32 ``(C, Z, Y, X)``, and their common grid.

    Each file gives one channel, or one per component (red, green, blue), in the order given. Values are as stored.

    Raises:
        ValueError: no file; grids that differ (both files and the property are named); a channel that holds NaN or
            infinity, or one value only. Otherwise as ``read_image``.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise ValueError("No image was given; give one file for each channel.")
    images = [read_image(path) for path in paths]
    grids = [Geometry.of(image) for image in images]
    for path, grid in zip(paths, grids):
        if not _same_grid(grids[0], grid):
            raise ValueError(
                f"{paths[0]} and {path} do not share a grid: {grids[0].difference(grid)}. "
                "Resample one of them onto the other."
            )
    channels = []
    for path, image in zip(paths, images):
        components = components_of(image)
        for number, stored in enumerate(components, 1):
            name = f"{path}" if len(components) == 1 else f"{path}, component {number} of {len(components)},"
            with np.errstate(over="ignore"):
                channel = stored.astype(np.float32)
            low, high = channel.min(), channel.max()  # a NaN survives min and max
            if not np.isfinite([low, high]).all():
                raise ValueError(f"{name} holds NaN or infinite values; replace them before use.")
            if low == high:
                raise ValueError(f"{name} holds the single value {low:g} everywhere; is it the intended image?")
            channels.append(channel)
    return np.stack(channels), grids[0]


def read_mask(path: Path | str, geometry: Geometry | None = None, threshold: float | None = None) -> np.ndarray:
    """Binary mask, bool ``(Z, Y, X)``; all False is a valid mask ("nothing there").

    Without ``threshold`` the file must hold 0 and at most one positive value. With it (a share of full scale in
    (0, 1): 0.5 for masks kept as JPEG) voxels above ``threshold`` × full scale are True, full scale being 255, 65535
    or, for floats, 1. A colour file must say the same in each colour. With ``geometry`` the file must lie on that
    grid; one with segments (``.seg.nrrd``), which Slicer crops to them, may cover a part of it and is padded with False
    (Slicer saves an empty one without any grid).

    Raises:
        ValueError: more than two values, colours that disagree, a grid other than ``geometry``, a threshold outside
            (0, 1) or for a type without full scale. Otherwise as ``read_image``.
    """
    image = read_image(path)
    mask = _binary(components_of(image), threshold, path)
    if geometry is None:
        return mask
    grid = Geometry.of(image)
    placed = placed_on(geometry, mask, grid, part=is_segmentation(image))
    if placed is None:
        raise ValueError(
            f"{path} does not lie on the grid of its image: {geometry.difference(grid)}. Resample the mask onto the "
            "image."
        )
    return placed


class Segments(NamedTuple):
    """Masks of a file.

    Attributes:
        masks: bool ``(Z, Y, X)`` each, by name.
        grid: of the masks.
        part: they may cover a part of the grid they were drawn on, as those of a segmentation do.
    """

    masks: dict[str, np.ndarray]
    grid: Geometry
    part: bool


def read_segments(path: Path | str) -> Segments:
    """Masks of a file by name, and their grid.

    In a segmentation of Slicer (``.seg.nrrd``) they are its segments, in its order, which may overlap; a name that
    occurs again gets its position in brackets. Any other file holds one binary mask, named as the file.

    Raises:
        ValueError: a ``.seg.nrrd`` without segments; a layer or label that is no integer, or a layer that the file
            lacks; a file without segments as ``read_mask``.
    """
    image = read_image(path)
    layers, grid = components_of(image), Geometry.of(image)
    if not is_segmentation(image):
        mask = _binary(layers, None, path)
        if str(path).lower().endswith(".seg.nrrd") and not mask.any():  # nobody's: not even an empty segment
            raise ValueError(f"{path} holds no segment; add one in Slicer's Segment Editor, even if it stays empty.")
        return Segments({file_stem(path): mask}, grid, part=False)
    masks: dict[str, np.ndarray] = {}
    for number, (name, layer, label) in enumerate(segments_of(image, len(layers), path), start=1):
        while name in masks:
            name += f" ({number})"
        masks[name] = layers[layer] == label
    return Segments(masks, grid, part=True)


def is_flat(path: Path | str) -> bool:
    """True for a 2-D file, such as a picture: it does not tell where it lies along the third axis."""
    if Path(path).is_dir():
        return False
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with one_line_errors(Path(path)):
        reader.ReadImageInformation()
    return reader.GetDimension() == 2


def placed_on(geometry: Geometry, mask: np.ndarray, grid: Geometry, part: bool = True) -> np.ndarray | None:
    """A mask on ``grid`` as one on ``geometry``, bool ``(Z, Y, X)`` both; None if that would move or lose a voxel.

    With ``part``, ``grid`` may be a part of ``geometry``; the rest is False. An empty mask is then empty on any grid.
    """
    if _same_grid(geometry, grid):
        return mask
    if not part:
        return None
    if not mask.any():
        return np.zeros(geometry.shape, bool)
    first = np.round(geometry.to_index(grid.origin_mm)).astype(int)
    last = first + grid.size
    there = Geometry(grid.size, geometry.spacing_mm, tuple(geometry.to_mm(first)), geometry.direction)
    if np.any(first < 0) or np.any(last > geometry.size) or not _same_grid(there, grid):
        return None
    placed = np.zeros(geometry.shape, bool)
    placed[tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1]))] = mask
    return placed


def file_stem(path: Path | str) -> str:
    """Name of a file without the endings that tell its format: ``A.seg.nrrd`` and ``A.nii.gz`` are ``A``."""
    name = Path(path).name
    for ending in (".seg.nrrd", ".nii.gz", ".nii", ".nrrd"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(path).stem


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
    _write(geometry.image(array), path)


def write_segmentation(
    path: Path | str,
    mask: np.ndarray,
    geometry: Geometry,
    name: str,
    color: tuple[float, float, float] = (0.86, 0.2, 0.2),
    segment_id: str = "Segment_1",
    terminology: str = LESION_TERMINOLOGY,
) -> None:
    """Write ``mask``, bool ``(Z, Y, X)``, as a Slicer segmentation (``.seg.nrrd``) of one segment; all or nothing.

    ``color`` is red, green, blue in [0, 1]; ``terminology`` is a Slicer TerminologyEntry. The whole grid is stored, and
    named as reference geometry, so that Slicer keeps it when it saves the segmentation again.

    Raises:
        ValueError: another file name, a mask that is not bool or not of the grid's shape, a colour outside [0, 1], an
            empty name or id. OSError: as ``write_volume``.
    """
    if not str(path).lower().endswith(".seg.nrrd"):
        raise ValueError(f"A segmentation is written as .seg.nrrd, got the name {path}; let it end in .seg.nrrd.")
    if mask.dtype != bool:
        raise ValueError(f"A segmentation is written from a bool mask, got {mask.dtype}; threshold it first.")
    if len(color) != 3 or not all(0 <= c <= 1 for c in color):
        raise ValueError(f"Segment colour must be red, green, blue in [0, 1], got {color}; divide 8-bit values by 255.")
    if not name or not segment_id:
        raise ValueError(f"A segment needs a name and an id, got {name!r} and {segment_id!r}.")
    image = geometry.image(mask)
    for key, value in header_of(mask, geometry, name, color, segment_id, terminology).items():
        image.SetMetaData(key, value)
    _write(image, path)


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
            if top < 0 or not np.all((c == 0) | (c == top)):
                raise ValueError(
                    f"{path} is not a binary mask: it holds {_some_values(c)}. Expected 0 and one positive value; "
                    "choose one label, or pass threshold=0.5 to cut grey values (JPEG) at half of full scale."
                )
        masks = [c != 0 for c in components]
    if any(not np.array_equal(masks[0], other) for other in masks[1:]):
        raise ValueError(f"{path} holds {len(masks)} colours or layers that differ; save one mask as one grey image.")
    return masks[0]


def _some_values(array: np.ndarray) -> str:
    values = np.unique(array)
    return f"{len(values)} values ({', '.join(f'{v:g}' for v in values[:5])}{', …' if len(values) > 5 else ''})"


def _same_grid(a: Geometry, b: Geometry) -> bool:
    return a.same_grid(b, _GRID_TOLERANCE * min(a.spacing_mm))


def _write(image: sitk.Image, path: Path | str) -> None:
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"{path} could not be written ({reason(error)}); check space and permission.") from error


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
            raise OSError(f"{path} could not be written ({told}); check space and permission.") from error
        same = _same_grid(geometry, Geometry.of(written)) and np.array_equal(
            sitk.GetArrayViewFromImage(written), sitk.GetArrayViewFromImage(image)
        )
        if not same:
            raise OSError(f"{path} does not hold what was written; check space and permission, or write NRRD.")
