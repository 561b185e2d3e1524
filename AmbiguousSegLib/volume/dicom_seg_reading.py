"""Segments of a DICOM segmentation at the places of its frames. Needs pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from AmbiguousSegLib.volume.dicom_files import SEGMENTATIONS, damaged, has_pydicom, quiet, read_dataset
from AmbiguousSegLib.volume.dicom_headers import Frame, frames_in
from AmbiguousSegLib.volume.dicom_reading import stored_pixels
from AmbiguousSegLib.volume.dicom_volumes import grid_of, normal_of, odd_one
from AmbiguousSegLib.volume.file_checks import check_declared, shown
from AmbiguousSegLib.volume.geometry import Geometry

_TOLERANCE = 0.1  # of a voxel: how far a frame may lie from the grid
_LABEL_MAP = SEGMENTATIONS[1]


def read_dicom_seg(path: Path | str, onto: Geometry | None = None) -> tuple[list[tuple[str, np.ndarray]], Geometry]:
    """Name and mask, bool ``(Z, Y, X)``, of each segment of a DICOM segmentation, in its order, and their grid.

    Segments may overlap and bear one name; one without a frame marks nothing. Slices that have no frame are empty.

    Args:
        onto: grid that the masks are wanted on; it is theirs if every frame lies on it. None, or another grid: the
            smallest that holds the frames, its slices as far apart as the nearest two frames or, of one, as the file
            says.

    Raises:
        ImportError: pydicom is missing; says what to install.
        ValueError: damaged; grey (fractional) values; frames without a place, turned against each other, between the
            slices of a grid, or two of one segment at one place. One line that names the file.
    """
    path = Path(path)
    _check_pydicom(path)
    with quiet(), damaged(path):
        return _read(path, onto)


def dicom_segment_names(path: Path | str) -> list[str]:
    """Names of the segments of a DICOM segmentation, in its order; ImportError, ValueError as ``read_dicom_seg``."""
    path = Path(path)
    _check_pydicom(path)
    with quiet(), damaged(path):
        return [_name(item) for item in read_dataset(path, pixels=False).get("SegmentSequence") or []]


def _check_pydicom(path: Path) -> None:
    if not has_pydicom():
        raise ImportError(
            f"{shown(path)} is a DICOM segmentation; reading it needs pydicom, which is not installed here; install it "
            "by 'pip install pydicom'."
        )


def _read(path: Path, onto: Geometry | None) -> tuple[list[tuple[str, np.ndarray]], Geometry]:
    header = read_dataset(path)
    names = {int(item.SegmentNumber): _name(item) for item in header.get("SegmentSequence") or []}
    frames = frames_in(path, header)
    numbers = [] if header.SOPClassUID == _LABEL_MAP else _segment_numbers(header, len(frames))
    if not names or not frames:
        raise ValueError(f"{shown(path)} holds {len(names)} segments and {len(frames)} frames, expected some of both.")
    for frame in frames:
        if frame.position is None or frame.along is None or frame.spacing is None:
            raise ValueError(f"{frame.name} tells no place in the patient; export the segmentation again.")
    odd = odd_one(frames)
    if odd:
        raise ValueError(f"{odd}; export the segmentation on one grid.")
    grid, places = _grid(path, frames, onto)
    check_declared(path, int(np.prod(grid.shape, dtype=object)) * len(names), 1, None, False)
    masks = {number: np.zeros(grid.shape, bool) for number in names}
    filled: dict[tuple[int, int], Frame] = {}
    for k, (frame, pixels) in enumerate(stored_pixels(path, header, frames)):
        x, y, z = places[k]
        here = z, slice(y, y + frame.rows), slice(x, x + frame.columns)
        marked = {int(n): pixels == n for n in np.unique(pixels) if n} if not numbers else {}
        if numbers:
            marked[numbers[k]] = _binary(path, header, pixels)
        for number, mask in marked.items():
            if number not in masks:
                raise ValueError(
                    f"{frame.name} belongs to segment {number}, which the file does not name; export again."
                )
            if (number, z) in filled:
                raise ValueError(
                    f"{filled[number, z].name} and {frame.name} are both of segment {names[number]!r} at one place; "
                    "export the segmentation again."
                )
            filled[number, z] = frame
            masks[number][here] = mask
    return [(names[number], masks[number]) for number in names], grid


def _name(item: Any) -> str:
    return " ".join(str(item.get("SegmentLabel") or "").split()) or f"Segment {item.SegmentNumber}"


def _segment_numbers(header: Any, count: int) -> list[int]:
    """Segment of each frame."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    found = []
    for item in header.PerFrameFunctionalGroupsSequence[:count]:
        groups = item if "SegmentIdentificationSequence" in item else shared
        found.append(int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
    return found


def _binary(path: Path, header: Any, pixels: np.ndarray) -> np.ndarray:
    top = int(header.get("MaximumFractionalValue") or 255) if header.get("SegmentationType") == "FRACTIONAL" else 1
    if not np.isin(pixels, (0, top)).all():
        raise ValueError(
            f"{shown(path)} holds shares (fractional values) between 0 and {top}, expected a mask; export it as binary."
        )
    return pixels == top


def _grid(path: Path, frames: Sequence[Frame], onto: Geometry | None) -> tuple[Geometry, np.ndarray]:
    """Grid of the masks, and the index (x, y, z) of each frame's first pixel in it."""
    if onto is not None:
        places = _places(frames, onto)
        if places is not None:
            return onto, places
    normal = normal_of(frames[0])
    ordered = sorted(frames, key=lambda frame: float(np.dot(frame.position or (), normal)))
    along = np.array([np.dot(frame.position or (), normal) for frame in ordered])
    steps = np.diff(along)
    apart = steps[steps > _TOLERANCE * min(frames[0].spacing or (1.0,))]
    distance = float(apart.min()) if len(apart) else frames[0].thickness or 1.0
    count = round(float(along[-1] - along[0]) / distance) + 1
    own = grid_of([ordered[0]])
    own = Geometry((*own.size[:2], count), (*own.spacing_mm[:2], distance), own.origin_mm, own.direction)
    places = _places(frames, own)
    if places is None:
        told = ", ".join(f"{step:.4g}" for step in sorted(set(apart.round(4)))[:5])
        raise ValueError(
            f"{shown(path)}: frames are {told} mm apart, "
            "which are no slices of one grid; export the segmentation on its image's grid."
        )
    return own, places


def _places(frames: Sequence[Frame], grid: Geometry) -> np.ndarray | None:
    """Index (x, y, z) of each frame's first pixel, int ``(F, 3)``; None if a frame does not lie on the grid."""
    first = frames[0]
    rows, columns = first.spacing or (1.0, 1.0)
    along_row, down_column = np.reshape(first.along or (), (2, 3))
    start = np.array([frame.position for frame in frames])
    last = first.columns - 1, first.rows - 1
    corners = [start, start + last[0] * columns * along_row, start + last[1] * rows * down_column]
    indices = [grid.to_index(corner) for corner in corners]
    places = np.round(indices[0]).astype(int)
    expected = [places, places + np.array((last[0], 0, 0)), places + np.array((0, last[1], 0))]
    far = max(float(np.abs(a - b).max()) for a, b in zip(indices, expected))
    inside = places.min() >= 0 and bool(np.all(places + np.array((first.columns, first.rows, 1)) <= grid.size))
    return places if far <= _TOLERANCE and inside else None
