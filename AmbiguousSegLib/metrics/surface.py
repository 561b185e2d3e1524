"""Distances between the surfaces of two masks, in millimetres.

The surface of a mask is its border voxels: those with a face neighbour outside the mask, where beyond the image counts
as outside. A surface distance is the Euclidean distance from the centre of a border voxel of one mask to the nearest
border voxel of the other; every border voxel weighs the same. A 2-D slice is passed as a 2-D mask: in a volume of one
slice every voxel is a border voxel.

Libraries differ in what they call HD95. Here it is the maximum of the two directed 95th percentiles, with linear
interpolation between order statistics, not the percentile of the pooled distances.

Masks are whatever ``np.asarray`` takes, a tensor on the CPU among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from AmbiguousSegLib.boxes import Box, bounding_box

HD_PERCENTILE = 95
ONE_EMPTY = ("undefined", "diagonal")


@dataclass(frozen=True)
class SurfaceMetrics:
    """HD95 and ASSD of one pair of masks, in mm; nan where undefined."""

    hd95_mm: float
    assd_mm: float


def surface_metrics(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], one_empty: str = "undefined"
) -> SurfaceMetrics:
    """HD95 and ASSD of two masks; both are symmetric in ``a`` and ``b``.

    HD95 is the larger of the 95th percentiles of the distances from ``a`` to ``b`` and from ``b`` to ``a`` (Wolleb et
    al. 2021, Table 1). ASSD is the mean of both directions' distances pooled.

    Args:
        a, b: bool masks of one 2-D or 3-D shape.
        spacing_mm: positive size of a voxel along each array axis, in the order of the array's axes: ``(z, y, x)``
            for a volume ``(Z, Y, X)``. SimpleITK's order is the reverse.
        one_empty: result when exactly one mask is empty: ``"undefined"`` gives nan, ``"diagonal"`` the length of the
            image's diagonal in mm, which is √Σ(voxels · spacing)². When both are empty the result is 0.

    Raises:
        ValueError: masks that are not bool, shapes that differ or are not 2-D or 3-D, a spacing that does not fit
            or is not positive, an unknown ``one_empty``.
    """
    a, b, spacing = _checked(a, b, spacing_mm, one_empty)
    hd95_mm, assd_mm = pairwise_surface_metrics(a[None], b[None], spacing)
    if one_empty == "diagonal" and math.isnan(hd95_mm[0, 0]):
        diagonal = math.hypot(*np.multiply(a.shape, spacing))
        return SurfaceMetrics(diagonal, diagonal)
    return SurfaceMetrics(float(hd95_mm[0, 0]), float(assd_mm[0, 0]))


def pairwise_surface_metrics(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], on_map: Callable[[], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """HD95 and ASSD of every mask of one set with every mask of another, as `surface_metrics` defines them.

    One distance map is made for each mask, not two for each pair, and one is held at a time.

    Args:
        a, b: bool ``(N, *spatial)`` and ``(M, *spatial)``, 2-D or 3-D masks of one shape.
        spacing_mm: as `surface_metrics`.
        on_map: called N + M times, after each mask; it may raise to stop.

    Returns:
        HD95 and ASSD in mm, float64 ``(N, M)`` each: 0 where both masks are empty, nan where one is.

    Raises:
        ValueError: masks that are not bool, shapes that differ or do not fit, a spacing that does not fit or is not
            positive.
    """
    a, b, spacing = _checked(a, b, spacing_mm, leading_axes=1)
    box = box_of_both(a.any(axis=0), b.any(axis=0))  # no voxel of either lies outside: cropping changes no distance
    shape = a[0][box].shape
    borders_a, borders_b = ([np.flatnonzero(border(mask[box])) for mask in masks] for masks in (a, b))
    to_b, sum_to_b = _directed(borders_a, borders_b, shape, spacing, on_map)
    to_a, sum_to_a = _directed(borders_b, borders_a, shape, spacing, on_map)
    voxels = np.add.outer([len(found) for found in borders_a], [len(found) for found in borders_b])
    hd95_mm, assd_mm = np.maximum(to_b, to_a.T), (sum_to_b + sum_to_a.T) / np.maximum(voxels, 1)
    hd95_mm[voxels == 0] = assd_mm[voxels == 0] = 0.0
    return hd95_mm, assd_mm


def hd95(a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], one_empty: str = "undefined") -> float:
    """95th-percentile Hausdorff distance in mm; definition, arguments and errors as `surface_metrics`."""
    return surface_metrics(a, b, spacing_mm, one_empty).hd95_mm


def assd(a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], one_empty: str = "undefined") -> float:
    """Average symmetric surface distance in mm; definition, arguments and errors as `surface_metrics`."""
    return surface_metrics(a, b, spacing_mm, one_empty).assd_mm


def surface_distances(a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each border voxel of ``a`` to the surface of ``b``, and from ``b`` to ``a``.

    Args:
        a, b: non-empty bool masks of one shape.
        spacing_mm: size of a voxel in the order of the array's axes.

    Returns:
        two float64 arrays, one entry per border voxel of ``a`` and of ``b``, in C order of the voxels.

    Raises:
        ValueError: as `surface_metrics`, and if a mask is empty.
    """
    a, b, spacing = _checked(a, b, spacing_mm)
    if not a.any() or not b.any():
        raise ValueError("Surface distances need two non-empty masks, got an empty one. Use surface_metrics instead.")
    box = box_of_both(a, b)
    border_a, border_b = (np.flatnonzero(border(mask[box])) for mask in (a, b))
    to_a, to_b = (_distance_map(found, a[box].shape, spacing) for found in (border_a, border_b))
    return to_b[border_a], to_a[border_b]


def border(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a face neighbour outside it, beyond the image included: bool, shape of ``mask``."""
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _directed(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    on_map: Callable[[], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """95th percentile and sum of the distances from each source to each target, ``(sources, targets)``; nan: an empty.

    Sources and targets are the flat indices of border voxels in an array of ``shape``.
    """
    percentiles, sums = (np.full((len(sources), len(targets)), math.nan) for _ in range(2))
    for j, target in enumerate(targets):
        if len(target):
            distances = _distance_map(target, shape, spacing)
            for i, source in enumerate(sources):
                if len(source):
                    found = distances[source]
                    percentiles[i, j], sums[i, j] = np.percentile(found, HD_PERCENTILE), found.sum()
        if on_map is not None:
            on_map()
    return percentiles, sums


def _distance_map(target: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm of every voxel to the nearest of the flat indices ``target``: float64, flat."""
    outside = np.ones(shape, bool)
    outside.ravel()[target] = False
    return ndimage.distance_transform_edt(outside, sampling=spacing).ravel()


def box_of_both(a: ArrayLike, b: ArrayLike) -> Box:
    """Smallest box that holds two bool masks of one shape; of length 0 if both are empty."""
    either = np.asarray(a) | np.asarray(b)
    return bounding_box(either) or (slice(0, 0),) * either.ndim


def _checked(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], one_empty: str = "undefined", leading_axes: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    a, b = np.asarray(a), np.asarray(b)
    for name, mask in (("a", a), ("b", b)):
        if mask.dtype != bool or mask.ndim - leading_axes not in (2, 3):
            kind = "a 2-D or 3-D bool array" if not leading_axes else "a bool array (N, *spatial) of 2-D or 3-D masks"
            raise ValueError(f"Mask {name} must be {kind}, got {mask.dtype} {mask.shape}. Convert it first.")
    spatial, other = a.shape[leading_axes:], b.shape[leading_axes:]
    if spatial != other:
        raise ValueError(f"The masks must lie on one grid, got {spatial} and {other}. Resample one of them.")
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != len(spatial) or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(
            f"spacing_mm must hold {len(spatial)} positive lengths in the order of the array's axes, got {spacing}."
        )
    if one_empty not in ONE_EMPTY:
        raise ValueError(f"one_empty must be one of {ONE_EMPTY}, got {one_empty!r}.")
    return a, b, spacing
