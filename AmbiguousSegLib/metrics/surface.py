"""Distances between the surfaces of two masks, in millimetres.

The surface of a mask is its border voxels: those with a face neighbour outside the mask, where beyond the image counts
as outside. A surface distance is the Euclidean distance from the centre of a border voxel of one mask to the nearest
border voxel of the other; every border voxel weighs the same. A 2-D slice is passed as a 2-D mask: in a volume of one
slice every voxel is a border voxel.

Libraries differ in what they call HD95. Here it is the maximum of the two directed 95th percentiles, with linear
interpolation between order statistics, not the percentile of the pooled distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

HD_PERCENTILE = 95
ONE_EMPTY = ("undefined", "diagonal")


@dataclass(frozen=True)
class SurfaceMetrics:
    """HD95 and ASSD of one pair of masks, in mm; nan where undefined."""

    hd95_mm: float
    assd_mm: float


def surface_metrics(
    a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float], one_empty: str = "undefined"
) -> SurfaceMetrics:
    """HD95 and ASSD of two masks from one pair of distance maps; both are symmetric in ``a`` and ``b``.

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
    spacing = _checked(a, b, spacing_mm, one_empty)
    if not a.any() and not b.any():
        return SurfaceMetrics(0.0, 0.0)
    if not a.any() or not b.any():
        value = math.nan if one_empty == "undefined" else math.hypot(*np.multiply(a.shape, spacing))
        return SurfaceMetrics(value, value)
    a_to_b, b_to_a = surface_distances(a, b, spacing)
    return SurfaceMetrics(
        hd95_mm=float(max(np.percentile(a_to_b, HD_PERCENTILE), np.percentile(b_to_a, HD_PERCENTILE))),
        assd_mm=float(np.concatenate([a_to_b, b_to_a]).mean()),
    )


def hd95(a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float], one_empty: str = "undefined") -> float:
    """95th-percentile Hausdorff distance in mm; definition, arguments and errors as `surface_metrics`."""
    return surface_metrics(a, b, spacing_mm, one_empty).hd95_mm


def assd(a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float], one_empty: str = "undefined") -> float:
    """Average symmetric surface distance in mm; definition, arguments and errors as `surface_metrics`."""
    return surface_metrics(a, b, spacing_mm, one_empty).assd_mm


def surface_distances(a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each border voxel of ``a`` to the surface of ``b``, and from ``b`` to ``a``.

    Args:
        a, b: non-empty bool masks of one shape.
        spacing_mm: size of a voxel in the order of the array's axes.

    Returns:
        two float64 arrays, one entry per border voxel of ``a`` and of ``b``, in C order of the voxels.

    Raises:
        ValueError: as `surface_metrics`, and if a mask is empty.
    """
    spacing = _checked(a, b, spacing_mm)
    if not a.any() or not b.any():
        raise ValueError("Surface distances need two non-empty masks, got an empty one. Use surface_metrics instead.")
    box = _joint_box(a, b)
    border_a, border_b = border(a[box]), border(b[box])
    to_a = ndimage.distance_transform_edt(~border_a, sampling=spacing)
    to_b = ndimage.distance_transform_edt(~border_b, sampling=spacing)
    return to_b[border_a], to_a[border_b]


def border(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a face neighbour outside it, beyond the image included: bool, shape of ``mask``."""
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _joint_box(a: np.ndarray, b: np.ndarray) -> tuple[slice, ...]:
    """Smallest box that holds both masks. Outside it lies no voxel of either, so that cropping changes no distance."""
    (box,) = ndimage.find_objects((a | b).view(np.uint8))
    return box


def _checked(
    a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float], one_empty: str = "undefined"
) -> tuple[float, ...]:
    for name, mask in (("a", a), ("b", b)):
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.ndim not in (2, 3):
            got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise ValueError(f"Mask {name} must be a 2-D or 3-D bool array, got {got}. Convert it first.")
    if a.shape != b.shape:
        raise ValueError(f"The masks must lie on one grid, got {a.shape} and {b.shape}. Resample one of them.")
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != a.ndim or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(
            f"spacing_mm must hold {a.ndim} positive lengths in the order of the array's axes, got {spacing}."
        )
    if one_empty not in ONE_EMPTY:
        raise ValueError(f"one_empty must be one of {ONE_EMPTY}, got {one_empty!r}.")
    return spacing
