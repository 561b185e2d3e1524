"""What a model sees around a place that somebody points at: a window of its field of view, at its pixel spacing."""

from __future__ import annotations

import math

import numpy as np

from AmbiguousSegLib.volume.geometry import Geometry, Point, Region, SliceAxes, Window
from AmbiguousSegLib.volume.preprocessing import Preprocessing

FAR_LARGER = 2.0  # times the field of view: what is in the middle is not what somebody pointed at
_ROUNDING = 1e-6  # of a side in pixels: 1.4 · 64 is a little more than 89.6


def field_of_view_mm(preprocessing: Preprocessing) -> tuple[float, float]:
    """Height and width of what the model was made for, ``size · spacing_mm``.

    Raises:
        ValueError: a model without ``spacing_mm``, which stretches whatever it is given.
    """
    height, width = preprocessing.size
    return height * preprocessing.pixel_mm, width * preprocessing.pixel_mm


def check_pointed(preprocessing: Preprocessing, geometry: Geometry, region: Region | None = None) -> None:
    """ValueError where a model that is told of a place is to take the middle of far larger slices for it.

    Args:
        region: box in LPS mm that is looked at, of which the voxels in the volume count; None: the whole volume.

    Raises:
        ValueError: so; a region outside of the volume.
    """
    if preprocessing.point_sigma_mm is None:
        return
    axes, field = SliceAxes.of(geometry, preprocessing.plane), field_of_view_mm(preprocessing)
    lengths, spacing = axes.of_index(geometry.size)[1:], axes.of_index(geometry.spacing_mm)[1:]
    if region is not None:
        lengths = tuple(last - first + 1 for first, last in axes.box(geometry, region)[1:])
    sides = [n * mm for n, mm in zip(lengths, spacing)]
    if any(side > FAR_LARGER * seen for side, seen in zip(sides, field)):
        what = "these slices are" if region is None else "the region, of which it is told the middle, is"
        remedy = "give a region around it" if region is None else "make the region smaller, around one lesion"
        raise ValueError(
            f"This model outlines what it is pointed at and sees {field[0]:.4g} × {field[1]:.4g} mm around it; {what} "
            f"{sides[0]:.4g} × {sides[1]:.4g} mm. Give the place of the lesion by --point X Y Z (LPS mm), or {remedy}."
        )


def window_pixels(preprocessing: Preprocessing, side_mm: float | None = None) -> tuple[int, int]:
    """Height and width, in the model's pixels, of a window whose shorter side is ``side_mm``.

    It has the proportions of the field of view (None: is the field of view), and each side is rounded up to a multiple
    of ``size_multiple``, so that the network sees no padding.

    Raises:
        ValueError: a side that is shorter than the field of view, or no number; as ``field_of_view_mm``.
    """
    least = min(field_of_view_mm(preprocessing))
    share = 1.0 if side_mm is None else side_mm / least
    if not 1 - _ROUNDING <= share < math.inf:
        raise ValueError(
            f"A window must be at least as large as the model's field of view, {least:g} mm, got {side_mm:g} mm; leave "
            "--window out, or give a larger one."
        )
    m = preprocessing.size_multiple
    height, width = (m * math.ceil(share * n / m - _ROUNDING) for n in preprocessing.size)
    return height, width


def slice_at(preprocessing: Preprocessing, geometry: Geometry, point_mm: Point) -> int:
    """Number of the slice, in the model's plane, that a point lies on.

    Raises:
        ValueError: a point outside of the volume; says where the volume is, and whether the point would lie inside if
            its first two coordinates had the other sign.
    """
    axes = SliceAxes.of(geometry, preprocessing.plane)
    count = axes.of_index(geometry.size)[0]
    if not _inside(geometry, point_mm):
        raise ValueError(_outside(geometry, point_mm))
    return min(count - 1, max(0, math.floor(axes.place(geometry, point_mm)[0] + 0.5)))


def window_at(
    preprocessing: Preprocessing, geometry: Geometry, point_mm: Point, pixels: tuple[int, int] | None = None
) -> Window:
    """Window around a point, of as many voxels as ``prepare`` brings to at most ``pixels``.

    Its middle is the point, as nearly as whole voxels allow. At the volume's border it is moved, and keeps its size
    as long as the slice is large enough.

    Args:
        pixels: height and width in the model's pixels, from ``window_pixels``; None: the field of view.

    Raises:
        ValueError: as ``slice_at`` and ``field_of_view_mm``.
    """
    pixel_mm = preprocessing.pixel_mm
    slice_at(preprocessing, geometry, point_mm)
    axes = SliceAxes.of(geometry, preprocessing.plane)
    place, counts, spacing = (
        values[1:]
        for values in (axes.place(geometry, point_mm), *map(axes.of_index, (geometry.size, geometry.spacing_mm)))
    )
    ends = []
    for middle, count, mm, side in zip(place, counts, spacing, pixels or preprocessing.size):
        length = min(count, _voxels(side, mm / pixel_mm))
        first = min(max(0, math.floor(middle - length / 2 + 1)), count - length)
        ends.append((first, first + length - 1))
    return Window(ends[0], ends[1])


def _voxels(side: int, pixels_per_voxel: float) -> int:
    """Most voxels that become at most ``side`` pixels, at least one; rounded as ``Preprocessing.prepare`` does."""
    voxels = math.ceil((side + 0.5) / pixels_per_voxel)
    while voxels > 1 and round(voxels * pixels_per_voxel) > side:
        voxels -= 1
    return voxels


def _inside(geometry: Geometry, point_mm: Point) -> bool:
    index = geometry.to_index(point_mm)
    return bool(np.all(np.isfinite(index)) and np.all(index >= -0.5) and np.all(index <= np.array(geometry.size) - 0.5))


def _outside(geometry: Geometry, point_mm: Point) -> str:
    low, high = (", ".join(f"{v:.1f}" for v in corner) for corner in geometry.bounds_mm())
    x, y, z = point_mm
    told = (
        f"The point ({x:g}, {y:g}, {z:g}) mm (LPS) lies outside of the volume, which reaches from ({low}) to ({high}) "
        "mm (LPS)"
    )
    if _inside(geometry, (-x, -y, z)):
        return (
            f"{told}; with the signs of x and y turned it would lie inside: give a point of 3D Slicer as RAS "
            "(--point-ras), any other as LPS (--point)."
        )
    return f"{told}, and so it does with the signs of x and y turned (RAS); point at a place inside."
