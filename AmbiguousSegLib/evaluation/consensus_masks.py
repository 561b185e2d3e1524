"""One label map of several by STAPLE, in a box of a volume."""

from __future__ import annotations

import math

import numpy as np

from AmbiguousSegLib.boxes import bounding_box
from AmbiguousSegLib.ensemble.consensus import staple
from AmbiguousSegLib.label_maps import class_mask, label_map_of
from AmbiguousSegLib.volume.geometry import Geometry

STAPLE_MARGIN_MM = 5.0


def staple_of(
    masks: np.ndarray, classes: int, marked: np.ndarray, geometry: Geometry, start: tuple[int, ...]
) -> np.ndarray:
    """STAPLE's estimate in the box of ``marked``, ``STAPLE_MARGIN_MM`` wider as far as the volume reaches: label map.

    It is 0 outside that box without its margin. Several classes are estimated one by one; a voxel has the class of the
    largest probability, background among them, ties to background.

    Args:
        masks: label maps, uint8 ``(N, Z, Y, X)``, a part of the volume.
        classes: K.
        marked: bool ``(Z, Y, X)``, holds all that the masks mark.
        geometry: grid of the whole volume.
        start: index (z, y, x) of the part's first voxel in the volume.

    Raises:
        NoEstimate: as ``staple``.
    """
    box = bounding_box(marked) or (slice(0, 1),) * 3
    margins = []
    for span, first, length, mm in zip(box, start, geometry.shape, geometry.spacing_mm[::-1]):
        margin = math.ceil(STAPLE_MARGIN_MM / mm - 1e-9)
        margins.append((min(margin, first + span.start), min(margin, length - first - span.stop)))
    padded = np.pad(masks[(slice(None), *box)], ((0, 0), *margins))
    estimates = [staple(class_mask(padded, label, classes)) for label in range(1, classes + 1)]
    if classes == 1:
        estimate = estimates[0].mask.view(np.uint8)
    else:
        estimate = label_map_of(np.stack([found.probability for found in estimates]))
    fused = np.zeros(marked.shape, np.uint8)
    fused[box] = estimate[tuple(slice(low, low + span.stop - span.start) for (low, _), span in zip(margins, box))]
    return fused
