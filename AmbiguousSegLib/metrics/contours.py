"""How ragged contours are: perimeter² / (4π · area) by marching squares, 1 for a disc in the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from AmbiguousSegLib.metrics.figures import MaskSets, figure
from AmbiguousSegLib.metrics.mask_sets import PLANE, SPACING

FEWEST_PIXELS = 20
_EIGHT = np.ones((3, 3), bool)

# Of a square between four pixel centres, by which of them are marked (1 upper left, 2 upper right, 4 lower left,
# 8 lower right): pieces of contour along a row, along a column and across, and the area inside in eighths. Two pixels
# that touch at a corner are joined.
_ALONG_ROWS = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
_ALONG_COLUMNS = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
_ACROSS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])
_EIGHTHS = np.array([0, 1, 1, 4, 1, 4, 6, 7, 1, 6, 4, 7, 4, 7, 7, 8])


def roughness(mask: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """perimeter² / (4π · area) of the largest 8-connected component; nan if it has fewer than ``FEWEST_PIXELS``.

    Contours, outer and inner, by marching squares at one half, with nothing outside the image; the area is what they
    enclose. A binary disc of many pixels has (8(√2 − 1)/π)² = 1.113.

    Args:
        mask: bool ``(H, W)``.
        spacing_mm: along rows' axis and columns' axis: ``(y, x)``.
    """
    components, _ = ndimage.label(mask, _EIGHT)
    sizes = np.bincount(components.ravel())[1:]
    if not sizes.size or sizes.max() < FEWEST_PIXELS:
        return math.nan
    number = int(sizes.argmax()) + 1
    box = ndimage.find_objects(components)[number - 1]
    perimeter, area = contour_lengths(components[box] == number, spacing_mm)
    return perimeter**2 / (4 * math.pi * area)


def contour_lengths(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Length of all contours in mm and the area that they enclose in mm²; arguments as `roughness`."""
    padded = np.pad(mask, 1).astype(np.uint8)
    squares = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    found = np.bincount(squares.ravel(), minlength=16)
    y, x = spacing_mm
    across = math.hypot(x, y) / 2
    perimeter = found @ _ALONG_ROWS * x + found @ _ALONG_COLUMNS * y + found @ _ACROSS * across
    return float(perimeter), float(found @ _EIGHTHS * x * y / 8)


def median_roughness(sets: MaskSets, which: int) -> float:
    """Median of `roughness` over all masks of the samples (0) or raters (1) and classes where it is defined; or nan."""
    spacing = sets.known_spacing()
    found = [roughness(mask, spacing) for label in sets.labels for mask in sets.masks(label)[which]]
    defined = [value for value in found if not math.isnan(value)]
    return float(np.median(defined)) if defined else math.nan


_MEANING = (
    "perimeter² / (4π · area) of contours by marching squares (largest component of 20 pixels or more), median over"
)


@figure(
    "roughness_samples",
    "roughness S",
    f"{_MEANING} the samples; should be as raters'",
    "alike",
    "",
    3,
    [SPACING, PLANE],
)
def _(sets: MaskSets) -> float:
    return median_roughness(sets, 0)


@figure("roughness_raters", "roughness Y", f"{_MEANING} the raters", "", "", 3, [SPACING, PLANE])
def _(sets: MaskSets) -> float:
    return median_roughness(sets, 1)
