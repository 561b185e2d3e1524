"""Contours of a DICOM structure set (RTSTRUCT) as masks on the grid of the image they were drawn on. Needs pydicom.

A voxel is marked if its centre lies within the contour, or on it, to a hundredth of a voxel. Where several contours of
one structure lie on a slice, what an odd number of them encloses is marked, so that a contour within another is a hole.
Slices without a contour are empty: nothing is filled in between.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.volume.dicom_files import damaged, has_pydicom, is_dicom, quiet, read_dataset, sop_class
from AmbiguousSegLib.volume.file_checks import shown
from AmbiguousSegLib.volume.geometry import FILE_TOLERANCE, Geometry

log = logging.getLogger(__name__)

STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
_CLOSED, _POINT = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"), "POINT"
_DECIMALS = 2  # of a voxel's index: a centre on a contour is on it though millimetres are rounded to three decimals


def is_dicom_structures(path: Path | str) -> bool:
    """True for a file that is a DICOM structure set."""
    path = Path(path)
    return is_dicom(path) and sop_class(path) == STRUCTURES


def structure_names(path: Path | str) -> list[str]:
    """Names of the structures in their order, markers left out; ValueError and ImportError as ``read_structures``."""
    return [name for name, _ in _structures(Path(path))]


def read_structures(path: Path | str, onto: Geometry | None) -> list[tuple[str, np.ndarray]]:
    """Name and mask, bool ``(Z, Y, X)``, of each structure on the grid ``onto``, in the order of the file.

    A structure without contours marks nothing. Those that are single points are markers, which are left out; this is
    logged.

    Raises:
        ImportError: pydicom is missing; says what to install.
        ValueError: damaged; no structure; no grid; contours that are open, or do not lie on slices of the grid and
            within it. One line that names file and structure.
    """
    path = Path(path)
    structures = _structures(path)
    if onto is None:
        raise ValueError(f"{shown(path)} holds contours, which have no grid of their own; give their image.")
    masks = []
    for name, contours in structures:
        mask = np.zeros(onto.shape, bool)
        for points in contours:
            _draw(f"{shown(path)}: a contour of {name!r}", points, onto, mask)
        masks.append((name, mask))
    return masks


def _structures(path: Path) -> list[tuple[str, list[np.ndarray]]]:
    """Name, and points in mm ``(n, 3)`` of each closed contour, of each structure."""
    if not has_pydicom():
        raise ImportError(
            f"{shown(path)} is a DICOM structure set; reading it needs pydicom, which is not installed here; install "
            "it by 'pip install pydicom'."
        )
    with quiet(), damaged(path):
        header = read_dataset(path)
        drawn = {int(item.ReferencedROINumber): item for item in header.get("ROIContourSequence") or []}
        found = []
        for roi in header.get("StructureSetROISequence") or []:
            number = int(roi.ROINumber)
            name = " ".join(str(roi.get("ROIName") or "").split()) or f"Structure {number}"
            items = list((drawn[number].get("ContourSequence") or []) if number in drawn else [])
            contours = [points for item in items if (points := _points(path, name, item)) is not None]
            if items and not contours:
                log.info("%s: %r is a marker, which is left out.", shown(path), name)
            else:
                found.append((name, contours))
    if not found:
        raise ValueError(f"{shown(path)} holds no structure, expected some; export it again.")
    return found


def _points(path: Path, name: str, item: Any) -> np.ndarray | None:
    """Points of a closed contour, None for a marker."""
    kind = str(item.get("ContourGeometricType") or "")
    if kind == _POINT:
        return None
    if kind not in _CLOSED:
        raise ValueError(f"{shown(path)}: {name!r} has a contour {kind or 'of no type'}, expected closed ones.")
    points = np.array(item.get("ContourData") or [], float)
    if len(points) % 3 or not np.isfinite(points).all():
        raise ValueError(f"{shown(path)}: {name!r} has a contour of {len(points)} numbers, expected three a point.")
    return points.reshape(-1, 3)


def _draw(named: str, points_mm: np.ndarray, grid: Geometry, mask: np.ndarray) -> None:
    """Exchange marked and unmarked within a contour."""
    from skimage.measure import grid_points_in_poly

    if len(points_mm) < 3:  # encloses nothing
        return
    indices = np.round(grid.to_index(points_mm), _DECIMALS) + 0.0  # no -0
    slices = np.round(indices[:, 2])
    z = int(slices[0])
    if np.abs(indices[:, 2] - z).max() > FILE_TOLERANCE:
        raise ValueError(
            f"{named} lies at slices {indices[:, 2].min():.3g} to {indices[:, 2].max():.3g} of its image, expected on "
            "one; export the contours on the slices of this image."
        )
    low, high = indices.min(0), indices.max(0)
    size = np.array(grid.size)
    if np.any(low < -0.5 - FILE_TOLERANCE) or np.any(high > size - 0.5 + FILE_TOLERANCE) or not 0 <= z < size[2]:
        raise ValueError(
            f"{named} reaches from voxel {_text(low)} to {_text(high)} of an image of {_text(size)} (x, y, z); give "
            "the image that it was drawn on."
        )
    x, y = (max(0, int(n)) for n in np.floor(low[:2]))
    right, bottom = (min(int(end), int(n) + 1) for end, n in zip(size[:2], np.ceil(high[:2])))
    here = z, slice(y, bottom), slice(x, right)
    mask[here] ^= grid_points_in_poly((bottom - y, right - x), indices[:, 1::-1] - (y, x))


def _text(numbers: np.ndarray) -> str:
    return ", ".join(f"{n:.4g}" for n in numbers)
